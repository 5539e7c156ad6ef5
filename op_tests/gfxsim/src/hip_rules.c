/* Which stream a handle is, and what a capture forbids. */
#include <pthread.h>

#include "hip_work.h"

_Thread_local hipStreamCaptureMode gs_capture_thread_mode = hipStreamCaptureModeGlobal;

hipError_t gs_resolve_stream(hipStream_t stream, struct ihipStream_t **out_stream, int *out_device) {
    if (gs_state.device_count == 0) return hipErrorNoDevice;
    if (stream == NULL || stream == HIP_STREAM_LEGACY || stream == HIP_STREAM_PER_THREAD) {
        *out_stream = NULL;
        *out_device = gs_current_device;
        return hipSuccess;
    }
    if (!gs_handle_valid(GS_HANDLE_STREAM, stream)) return hipErrorInvalidHandle;
    *out_stream = stream;
    *out_device = stream->device;
    return hipSuccess;
}

static struct ihipStream_t *stream_at(int index) { return gs_handle_at(GS_HANDLE_STREAM, index); }

void gs_capture_invalidate(struct ihipStream_t *stream) {
    struct ihipStream_t *origin = stream->origin;
    for (int i = 0; i < gs_handle_count(GS_HANDLE_STREAM); i++) {
        struct ihipStream_t *other = stream_at(i);
        bool active = other->status == hipStreamCaptureStatusActive;
        if (active && other->origin == origin) other->status = hipStreamCaptureStatusInvalidated;
    }
}

/* A capture in relaxed mode forbids nothing; a thread-local one concerns its own thread only. */
static bool concerns_this_thread(const struct ihipStream_t *stream) {
    if (stream->status != hipStreamCaptureStatusActive || gs_capture_thread_mode == hipStreamCaptureModeRelaxed)
        return false;
    if (stream->mode == hipStreamCaptureModeRelaxed) return false;
    if (stream->thread == (unsigned long)pthread_self()) return true;
    return stream->mode == hipStreamCaptureModeGlobal && gs_capture_thread_mode == hipStreamCaptureModeGlobal;
}

hipError_t gs_capture_forbids(void) {
    hipError_t error = hipSuccess;
    for (int i = 0; i < gs_handle_count(GS_HANDLE_STREAM); i++) {
        if (!concerns_this_thread(stream_at(i))) continue;
        gs_capture_invalidate(stream_at(i));
        error = hipErrorStreamCaptureUnsupported;
    }
    return error;
}

/* On the null stream of a device whose blocking stream captures. Only asking does not spoil that capture. */
hipError_t gs_capture_meet_null_stream(bool asks_only) {
    hipError_t error = hipSuccess;
    for (int i = 0; i < gs_handle_count(GS_HANDLE_STREAM); i++) {
        struct ihipStream_t *stream = stream_at(i);
        bool blocking = !(stream->flags & hipStreamNonBlocking) && stream->device == gs_current_device;
        if (stream->status != hipStreamCaptureStatusActive || !blocking) continue;
        if (!asks_only) gs_capture_invalidate(stream);
        error = hipErrorStreamCaptureImplicit;
    }
    return error;
}

hipError_t gs_capture_forbids_null_stream(void) { return gs_capture_meet_null_stream(false); }

hipError_t gs_capture_state(const struct ihipStream_t *stream) {
    return stream->status == hipStreamCaptureStatusInvalidated ? hipErrorStreamCaptureInvalidated : hipSuccess;
}
