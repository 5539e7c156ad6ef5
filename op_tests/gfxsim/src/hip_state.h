/* What the HIP functions share: one lock, devices, handles, counted and failing calls, options, the last report. */
#ifndef GFXSIM_HIP_STATE_H
#define GFXSIM_HIP_STATE_H

#include "hip_types.h"
#include "launch.h"

enum { GS_MAX_DEVICES = 16, GS_MAX_LAUNCH_LOG = 4096 };

typedef enum gs_call_t {
#define HIP_FUNCTION(name) GS_CALL_##name,
#include "hip_functions.inc"
#undef HIP_FUNCTION
    GS_CALL_COUNT
} gs_call_t;

/* The body of an exported function: takes the lock, counts, fails if told to, runs `work`, keeps its error. */
#define GS_CALL(name, work)                                                                                            \
    do {                                                                                                               \
        hipError_t entered = gs_enter(GS_CALL_##name);                                                                 \
        return entered != hipSuccess ? entered : gs_leave(work);                                                       \
    } while (0)

hipError_t gs_enter(gs_call_t call);
hipError_t gs_leave(hipError_t error);

/* The same lock and start-up for the functions of control.c. */
void gs_lock(void);
void gs_unlock(void);

typedef enum gs_health_t { GS_HEALTHY, GS_FAILURE_PENDING, GS_FAILED } gs_health_t;

typedef struct gs_device_t {
    gs_arch_t arch;
    int compute_units;
    uint32_t max_lds;
    uint64_t memory_bytes, used_bytes;
    gs_health_t health; /* after a report nothing works on the device until gfxsim_reset */
} gs_device_t;

typedef struct gs_launch_record_t {
    gs_totals_t totals;
    int device;
    uint32_t grid[3], block[3], lds_bytes;
    char kernel[256];
} gs_launch_record_t;

typedef struct gs_state_t {
    gs_options_t options;
    gs_device_t devices[GS_MAX_DEVICES];
    int device_count;
    uint64_t calls[GS_CALL_COUNT];
    struct {
        uint64_t at; /* the value of calls[] at which it fails; 0: none */
        hipError_t error;
    } faults[GS_CALL_COUNT];
    uint64_t allocations; /* ever made: their number is part of their name */
    gs_report_t report;
    gs_totals_t totals;
    gs_launch_record_t *launches; /* [GS_MAX_LAUNCH_LOG], the oldest are overwritten */
    uint64_t launch_count;
} gs_state_t;

extern gs_state_t gs_state; /* under the lock */

/* Per thread. */
extern _Thread_local int gs_current_device;
extern _Thread_local hipError_t gs_last_error;

bool gs_set_option(const char *name, uint64_t value);
void gs_read_options(void); /* defaults, and the environment */
const char *gs_call_name(gs_call_t call);

/* hipSuccess, or what a call gets on a device that failed. `waits`: the call synchronises, so a late failure shows. */
hipError_t gs_device_error(int device, bool waits);

/* Keeps a report, prints it and marks the device. Returns what the launch returns. */
hipError_t gs_device_fail(int device, const gs_report_t *report);

/* ---- handles ---------------------------------------------------------------------------------------------------- */

typedef enum gs_handle_kind_t {
    GS_HANDLE_STREAM,
    GS_HANDLE_EVENT,
    GS_HANDLE_MODULE,
    GS_HANDLE_GRAPH,
    GS_HANDLE_GRAPH_EXEC,
    GS_HANDLE_KIND_COUNT
} gs_handle_kind_t;

/* Makes `object` (from malloc; owned by the table from now on) a valid handle. False: out of memory. */
bool gs_handle_add(gs_handle_kind_t kind, void *object);
bool gs_handle_valid(gs_handle_kind_t kind, const void *object);

/* The handle is no longer valid; its memory is freed much later, so that no new handle gets its address soon. */
void gs_handle_retire(gs_handle_kind_t kind, void *object);

/* The n-th live handle of a kind, or NULL. */
void *gs_handle_at(gs_handle_kind_t kind, int index);
int gs_handle_count(gs_handle_kind_t kind);

#endif
