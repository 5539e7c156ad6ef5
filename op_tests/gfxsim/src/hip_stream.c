/* Streams and events of the HIP API. */
#include <stdlib.h>
#include <time.h>

#include "hip_work.h"

struct ihipEvent_t {
    int device;
    bool recorded;
    double milliseconds;
    struct ihipStream_t *captured_on; /* the stream whose capture recorded it */
    unsigned long long capture_id;
};

/* ---- streams ---------------------------------------------------------------------------------------------------- */

static hipError_t create(hipStream_t *out, unsigned flags) {
    if (gs_state.device_count == 0) return hipErrorNoDevice;
    if (!out || flags > hipStreamNonBlocking) return hipErrorInvalidValue;
    struct ihipStream_t *stream = calloc(1, sizeof *stream);
    if (!stream || !gs_handle_add(GS_HANDLE_STREAM, stream)) {
        free(stream);
        return hipErrorOutOfMemory;
    }
    stream->device = gs_current_device;
    stream->flags = flags;
    *out = stream;
    return hipSuccess;
}

static hipError_t destroy(hipStream_t stream) {
    if (!gs_handle_valid(GS_HANDLE_STREAM, stream)) return hipErrorInvalidHandle;
    if (stream->status != hipStreamCaptureStatusNone) {
        gs_capture_invalidate(stream);
        return hipErrorStreamCaptureUnsupported;
    }
    gs_handle_retire(GS_HANDLE_STREAM, stream);
    return hipSuccess;
}

static hipError_t wait(hipStream_t handle) {
    struct ihipStream_t *stream;
    int device;
    hipError_t error = gs_resolve_stream(handle, &stream, &device);
    if (error != hipSuccess) return error;
    if (stream && stream->status != hipStreamCaptureStatusNone) {
        gs_capture_invalidate(stream);
        return hipErrorStreamCaptureUnsupported;
    }
    if (!stream) error = gs_capture_forbids_null_stream();
    if (error == hipSuccess) error = gs_capture_forbids();
    return error == hipSuccess ? gs_device_error(device, true) : error;
}

static hipError_t get_number(hipStream_t handle, int *out, bool flags) {
    struct ihipStream_t *stream;
    int device;
    if (!out) return hipErrorInvalidValue;
    hipError_t error = gs_resolve_stream(handle, &stream, &device);
    if (error == hipSuccess) *out = !flags ? device : stream ? (int)stream->flags : hipStreamDefault;
    return error;
}

GS_EXPORT hipError_t hipStreamCreate(hipStream_t *out) { GS_CALL(hipStreamCreate, create(out, hipStreamDefault)); }

GS_EXPORT hipError_t hipStreamCreateWithFlags(hipStream_t *out, unsigned flags) {
    GS_CALL(hipStreamCreateWithFlags, create(out, flags));
}

GS_EXPORT hipError_t hipStreamDestroy(hipStream_t stream) { GS_CALL(hipStreamDestroy, destroy(stream)); }

GS_EXPORT hipError_t hipStreamSynchronize(hipStream_t stream) { GS_CALL(hipStreamSynchronize, wait(stream)); }

GS_EXPORT hipError_t hipStreamQuery(hipStream_t stream) { GS_CALL(hipStreamQuery, wait(stream)); }

GS_EXPORT hipError_t hipStreamGetDevice(hipStream_t stream, hipDevice_t *device) {
    GS_CALL(hipStreamGetDevice, get_number(stream, device, false));
}

GS_EXPORT hipError_t hipStreamGetFlags(hipStream_t stream, unsigned *flags) {
    GS_CALL(hipStreamGetFlags, get_number(stream, (int *)flags, true));
}

/* ---- events ----------------------------------------------------------------------------------------------------- */

static double now(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (double)time.tv_sec * 1e3 + (double)time.tv_nsec * 1e-6;
}

static hipError_t create_event(hipEvent_t *out) {
    if (gs_state.device_count == 0) return hipErrorNoDevice;
    if (!out) return hipErrorInvalidValue;
    struct ihipEvent_t *event = calloc(1, sizeof *event);
    if (!event || !gs_handle_add(GS_HANDLE_EVENT, event)) {
        free(event);
        return hipErrorOutOfMemory;
    }
    event->device = gs_current_device;
    *out = event;
    return hipSuccess;
}

static hipError_t record(hipEvent_t event, hipStream_t handle) {
    struct ihipStream_t *stream;
    int device;
    if (!gs_handle_valid(GS_HANDLE_EVENT, event)) return hipErrorInvalidHandle;
    hipError_t error = gs_resolve_stream(handle, &stream, &device);
    if (error == hipSuccess && !stream) error = gs_capture_forbids_null_stream();
    if (error == hipSuccess && stream) error = gs_capture_state(stream);
    if (error == hipSuccess) error = gs_device_error(device, false);
    if (error != hipSuccess) return error;
    if (device != event->device) return hipErrorInvalidHandle;
    bool capturing = stream && stream->status == hipStreamCaptureStatusActive;
    event->captured_on = capturing ? stream : NULL;
    event->capture_id = capturing ? stream->origin->capture_id : 0;
    event->recorded = true;
    event->milliseconds = now();
    return hipSuccess;
}

/* Inside a capture an event carries it to another stream, and back to where it began. */
static hipError_t stream_wait(hipStream_t handle, hipEvent_t event) {
    struct ihipStream_t *stream;
    int device;
    hipError_t error = gs_resolve_stream(handle, &stream, &device);
    if (error != hipSuccess) return error;
    if (!gs_handle_valid(GS_HANDLE_EVENT, event)) return hipErrorInvalidHandle;
    struct ihipStream_t *from = event->captured_on;
    if (!from || !gs_handle_valid(GS_HANDLE_STREAM, from) || from->status != hipStreamCaptureStatusActive ||
        from->origin->capture_id != event->capture_id) {
        bool capturing = stream && stream->status == hipStreamCaptureStatusActive;
        return capturing && event->recorded ? hipErrorStreamCaptureIsolation : hipSuccess;
    }
    if (!stream) return hipErrorStreamCaptureImplicit;
    if (stream->status == hipStreamCaptureStatusNone) {
        stream->status = hipStreamCaptureStatusActive;
        stream->mode = from->mode;
        stream->thread = from->thread;
        stream->origin = from->origin;
        stream->unjoined = true;
    } else if (stream->origin != from->origin) {
        gs_capture_invalidate(stream);
        gs_capture_invalidate(from);
        return hipErrorStreamCaptureMerge;
    }
    if (stream == from->origin) from->unjoined = false;
    return hipSuccess;
}

static hipError_t wait_event(hipEvent_t event) {
    if (!gs_handle_valid(GS_HANDLE_EVENT, event)) return hipErrorInvalidHandle;
    if (event->captured_on) return hipErrorCapturedEvent;
    hipError_t error = gs_capture_forbids();
    return error == hipSuccess ? gs_device_error(event->device, true) : error;
}

static hipError_t elapsed(float *milliseconds, hipEvent_t from, hipEvent_t to) {
    if (!milliseconds) return hipErrorInvalidValue;
    if (!gs_handle_valid(GS_HANDLE_EVENT, from) || !gs_handle_valid(GS_HANDLE_EVENT, to) || !from->recorded ||
        !to->recorded || from->device != to->device) {
        return hipErrorInvalidHandle;
    }
    *milliseconds = (float)(to->milliseconds - from->milliseconds);
    return hipSuccess;
}

static hipError_t destroy_event(hipEvent_t event) {
    if (!gs_handle_valid(GS_HANDLE_EVENT, event)) return hipErrorInvalidHandle;
    gs_handle_retire(GS_HANDLE_EVENT, event);
    return hipSuccess;
}

GS_EXPORT hipError_t hipEventCreate(hipEvent_t *out) { GS_CALL(hipEventCreate, create_event(out)); }

GS_EXPORT hipError_t hipEventCreateWithFlags(hipEvent_t *out, unsigned flags) {
    (void)flags;
    GS_CALL(hipEventCreateWithFlags, create_event(out));
}

GS_EXPORT hipError_t hipEventRecord(hipEvent_t event, hipStream_t stream) {
    GS_CALL(hipEventRecord, record(event, stream));
}

GS_EXPORT hipError_t hipStreamWaitEvent(hipStream_t stream, hipEvent_t event, unsigned flags) {
    (void)flags;
    GS_CALL(hipStreamWaitEvent, stream_wait(stream, event));
}

GS_EXPORT hipError_t hipEventQuery(hipEvent_t event) { GS_CALL(hipEventQuery, wait_event(event)); }

GS_EXPORT hipError_t hipEventSynchronize(hipEvent_t event) { GS_CALL(hipEventSynchronize, wait_event(event)); }

GS_EXPORT hipError_t hipEventElapsedTime(float *milliseconds, hipEvent_t from, hipEvent_t to) {
    GS_CALL(hipEventElapsedTime, elapsed(milliseconds, from, to));
}

GS_EXPORT hipError_t hipEventDestroy(hipEvent_t event) { GS_CALL(hipEventDestroy, destroy_event(event)); }
