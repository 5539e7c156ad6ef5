/* Streams and their capture. Work runs when it is submitted, so waiting means only to notice failures. */
#include <pthread.h>
#include <stdlib.h>

#include "hip_work.h"

static unsigned long long next_capture_id = 1;

/* ---- begin and end ---------------------------------------------------------------------------------------------- */

static hipError_t begin(hipStream_t handle, hipStreamCaptureMode mode) {
    struct ihipStream_t *stream;
    int device;
    hipError_t error = gs_resolve_stream(handle, &stream, &device);
    if (error != hipSuccess) return error;
    if (!stream) return hipErrorStreamCaptureUnsupported; /* the null stream cannot be captured */
    if ((unsigned)mode > hipStreamCaptureModeRelaxed) return hipErrorInvalidValue;
    if (stream->status != hipStreamCaptureStatusNone) return hipErrorIllegalState;
    stream->graph = gs_graph_new();
    if (!stream->graph) return hipErrorOutOfMemory;
    stream->status = hipStreamCaptureStatusActive;
    stream->mode = mode;
    stream->origin = stream;
    stream->unjoined = false;
    stream->capture_id = next_capture_id++;
    stream->thread = (unsigned long)pthread_self();
    return hipSuccess;
}

/* Ends the capture on all streams that took part. True: one of them held work that the origin did not wait for. */
static bool leave_capture(struct ihipStream_t *origin) {
    bool unjoined = false;
    for (int i = 0; i < gs_handle_count(GS_HANDLE_STREAM); i++) {
        struct ihipStream_t *stream = gs_handle_at(GS_HANDLE_STREAM, i);
        if (stream->status == hipStreamCaptureStatusNone || stream->origin != origin) continue;
        unjoined |= stream->unjoined;
        stream->status = hipStreamCaptureStatusNone;
        stream->origin = NULL;
    }
    return unjoined;
}

static hipError_t end(hipStream_t handle, hipGraph_t *out_graph) {
    struct ihipStream_t *stream;
    int device;
    if (!out_graph) return hipErrorInvalidValue;
    *out_graph = NULL;
    hipError_t error = gs_resolve_stream(handle, &stream, &device);
    if (error != hipSuccess) return error;
    if (!stream || stream->status == hipStreamCaptureStatusNone) return hipErrorIllegalState;
    if (stream->origin != stream) return hipErrorStreamCaptureUnmatched;
    if (stream->mode != hipStreamCaptureModeRelaxed && stream->thread != (unsigned long)pthread_self()) {
        return hipErrorStreamCaptureWrongThread;
    }
    bool invalid = stream->status == hipStreamCaptureStatusInvalidated;
    bool unjoined = leave_capture(stream);
    struct ihipGraph_t *graph = stream->graph;
    stream->graph = NULL;
    if (!invalid && !unjoined && gs_handle_add(GS_HANDLE_GRAPH, graph)) {
        *out_graph = graph;
        return hipSuccess;
    }
    gs_graph_clear(graph);
    free(graph);
    if (invalid) return hipErrorStreamCaptureInvalidated;
    return unjoined ? hipErrorStreamCaptureUnjoined : hipErrorOutOfMemory;
}

GS_EXPORT hipError_t hipStreamBeginCapture(hipStream_t stream, hipStreamCaptureMode mode) {
    GS_CALL(hipStreamBeginCapture, begin(stream, mode));
}

GS_EXPORT hipError_t hipStreamEndCapture(hipStream_t stream, hipGraph_t *out_graph) {
    GS_CALL(hipStreamEndCapture, end(stream, out_graph));
}

/* ---- queries ---------------------------------------------------------------------------------------------------- */

static hipError_t get_info(hipStream_t handle, hipStreamCaptureStatus *status, unsigned long long *id) {
    struct ihipStream_t *stream;
    int device;
    if (!status) return hipErrorInvalidValue;
    hipError_t error = gs_resolve_stream(handle, &stream, &device);
    if (error == hipSuccess && !stream) error = gs_capture_meet_null_stream(true);
    if (error != hipSuccess) return error;
    *status = stream ? stream->status : hipStreamCaptureStatusNone;
    if (id) *id = *status == hipStreamCaptureStatusActive ? stream->origin->capture_id : 0;
    return hipSuccess;
}

static hipError_t exchange_mode(hipStreamCaptureMode *mode) {
    if (!mode || (unsigned)*mode > hipStreamCaptureModeRelaxed) return hipErrorInvalidValue;
    hipStreamCaptureMode before = gs_capture_thread_mode;
    gs_capture_thread_mode = *mode;
    *mode = before;
    return hipSuccess;
}

GS_EXPORT hipError_t hipStreamIsCapturing(hipStream_t stream, hipStreamCaptureStatus *status) {
    GS_CALL(hipStreamIsCapturing, get_info(stream, status, NULL));
}

GS_EXPORT hipError_t hipStreamGetCaptureInfo(hipStream_t stream, hipStreamCaptureStatus *status,
                                             unsigned long long *id) {
    GS_CALL(hipStreamGetCaptureInfo, get_info(stream, status, id));
}

GS_EXPORT hipError_t hipThreadExchangeStreamCaptureMode(hipStreamCaptureMode *mode) {
    GS_CALL(hipThreadExchangeStreamCaptureMode, exchange_mode(mode));
}
