#include "hip_work.h"

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

static hipError_t check_work(const gs_work_t *work) {
    switch (work->type) {
    case hipGraphNodeTypeKernel:
        return gs_kernel_valid(work->kernel.kernel) ? hipSuccess : hipErrorInvalidDeviceFunction;
    case hipGraphNodeTypeMemcpy: return gs_check_copy(&work->copy);
    case hipGraphNodeTypeMemset: return gs_check_fill(&work->fill);
    }
    return hipErrorInvalidValue;
}

static void show_buffer(const void *address, bool visible) {
    const gs_buffer_t *buffer = gs_memory_holding(address, 1);
    if (buffer && buffer->device >= 0) gs_memory_show(buffer, visible);
}

/* Device memory is out of the host's reach but while work runs: a runtime that reads it by mistake faults, as it would
 * on a GPU. */
static void show_memory(const gs_work_t *work, bool visible) {
    switch (work->type) {
    case hipGraphNodeTypeKernel: /* gs_memory_find shows what the kernel touches */
        if (!visible) gs_memory_show_device(work->device, false);
        break;
    case hipGraphNodeTypeMemcpy:
        show_buffer(work->copy.to, visible);
        show_buffer(work->copy.from, visible);
        break;
    case hipGraphNodeTypeMemset: show_buffer(work->fill.to, visible); break;
    }
}

hipError_t gs_run_work(const gs_work_t *work) {
    hipError_t error = gs_device_error(work->device, false);
    if (error == hipSuccess) error = check_work(work);
    if (error != hipSuccess) return error;
    show_memory(work, true);
    switch (work->type) {
    case hipGraphNodeTypeKernel: error = gs_run_kernel(&work->kernel); break;
    case hipGraphNodeTypeMemcpy: gs_run_copy(&work->copy); break;
    case hipGraphNodeTypeMemset: gs_run_fill(&work->fill); break;
    }
    if (gs_state.options.hide_memory) show_memory(work, false);
    return error;
}

hipError_t gs_submit(hipStream_t handle, const gs_work_t *work) {
    struct ihipStream_t *stream;
    gs_work_t on_device = *work;
    hipError_t error = gs_resolve_stream(handle, &stream, &on_device.device);
    if (error == hipSuccess && !stream) error = gs_capture_forbids_null_stream();
    if (error == hipSuccess && stream) error = gs_capture_state(stream);
    if (error != hipSuccess) return error;
    if (!stream || stream->status == hipStreamCaptureStatusNone) return gs_run_work(&on_device);
    error = check_work(&on_device);
    if (error != hipSuccess) return error;
    stream->unjoined = stream != stream->origin;
    return gs_graph_append(stream->origin->graph, &on_device) ? hipSuccess : hipErrorOutOfMemory;
}
