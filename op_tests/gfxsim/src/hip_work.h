/* Work on a stream as data: what a call puts on a stream runs at once, or becomes a node of the graph that the stream
 * captures. Also graphs and the rules of capture. */
#ifndef GFXSIM_HIP_WORK_H
#define GFXSIM_HIP_WORK_H

#include "hip_state.h"

typedef struct gs_kernel_work_t {
    gs_kernel_t *kernel;
    uint32_t grid[3], block[3], dynamic_lds;
    uint8_t *arguments; /* [kernarg_bytes] */
} gs_kernel_work_t;

typedef struct gs_copy_work_t {
    void *to;
    const void *from;
    size_t bytes;
    hipMemcpyKind kind;
} gs_copy_work_t;

typedef struct gs_fill_work_t {
    void *to;
    uint32_t value;
    size_t width, count; /* bytes of one element; elements */
} gs_fill_work_t;

struct ihipGraphNode_t {
    hipGraphNodeType type;
    int device; /* of the stream */
    union {
        gs_kernel_work_t kernel;
        gs_copy_work_t copy;
        gs_fill_work_t fill;
    };
};

typedef struct ihipGraphNode_t gs_work_t;

struct ihipGraph_t {
    gs_work_t **nodes; /* in the order of submission, in which they run */
    int count, capacity;
};

struct ihipStream_t {
    int device;
    unsigned flags;
    hipStreamCaptureStatus status;
    hipStreamCaptureMode mode;
    struct ihipStream_t *origin; /* where the capture began; this stream may have joined it through an event */
    bool unjoined;               /* holds captured work that the origin does not wait for */
    struct ihipGraph_t *graph;   /* of the origin: what was captured so far */
    unsigned long long capture_id;
    unsigned long thread; /* that began it */
};

/* hip_run.c: whether its kernel is there and its addresses are right; runs it on its device, checked. */
hipError_t gs_check_work(const gs_work_t *work);
hipError_t gs_run_work(const gs_work_t *work);
bool gs_kernel_valid(const gs_kernel_t *kernel);

/* hip_rules.c: a valid, uncaptured or capturing stream and its device; *out_stream is NULL for the null stream. */
hipError_t gs_resolve_stream(hipStream_t stream, struct ihipStream_t **out_stream, int *out_device);

/* For calls that no capture may see (allocation, synchronisation): fails while one that concerns this thread is active,
 * and invalidates it. */
hipError_t gs_capture_forbids(void);

/* For work on the null stream: fails while a blocking stream captures, and invalidates that, unless it only asks. */
hipError_t gs_capture_meet_null_stream(bool asks_only);
hipError_t gs_capture_forbids_null_stream(void);

/* For work on this stream and for waiting on it. */
hipError_t gs_capture_state(const struct ihipStream_t *stream);
void gs_capture_invalidate(struct ihipStream_t *stream);

extern _Thread_local hipStreamCaptureMode gs_capture_thread_mode;

/* hip_work.c: runs the work on the stream's device, or captures it. */
hipError_t gs_submit(hipStream_t stream, const gs_work_t *work);

struct ihipGraph_t *gs_graph_new(void);
void gs_graph_clear(struct ihipGraph_t *graph);
bool gs_graph_append(struct ihipGraph_t *graph, const gs_work_t *work);

#endif
