/* Memory of the HIP API: allocation, copies, fills, what an address is. */
#include <stdio.h>
#include <string.h>

#include "hip_work.h"

/* ---- allocation ------------------------------------------------------------------------------------------------- */

static hipError_t allocate(void **out, size_t bytes, bool on_host) {
    if (gs_state.device_count == 0) return hipErrorNoDevice;
    if (!out) return hipErrorInvalidValue;
    hipError_t error = gs_capture_forbids();
    if (error == hipSuccess) error = gs_device_error(gs_current_device, false);
    if (error != hipSuccess) return error;
    *out = NULL;
    if (bytes == 0) return hipSuccess;
    gs_device_t *device = &gs_state.devices[gs_current_device];
    if (bytes > device->memory_bytes - device->used_bytes) return hipErrorOutOfMemory;
    char name[40];
    snprintf(name, sizeof name, "%s %llu (%zu bytes)", on_host ? "host" : "alloc",
             (unsigned long long)++gs_state.allocations, bytes);
    gs_buffer_t *buffer = gs_memory_allocate(bytes, true, on_host ? -1 : gs_current_device, name,
                                             gs_state.options.fill);
    if (!buffer) return hipErrorOutOfMemory;
    if (!on_host) device->used_bytes += bytes;
    if (!on_host) gs_memory_show(buffer, !gs_state.options.hide_memory);
    *out = (void *)buffer->low;
    return hipSuccess;
}

/* Works on a failed device, too: what was allocated must not leak. */
static hipError_t release(void *address, bool on_host) {
    hipError_t error = gs_capture_forbids();
    if (error != hipSuccess || !address) return error;
    gs_buffer_t *buffer = gs_memory_holding(address, 1);
    if (!buffer || !gs_memory_is_allocation_start(buffer, address) || (buffer->device == -1) != on_host) {
        return hipErrorInvalidValue;
    }
    if (!on_host) gs_state.devices[buffer->device].used_bytes -= buffer->high - buffer->low;
    int device = buffer->device;
    gs_report_t report = {GS_REPORT_GLOBAL_BOUNDS, ""};
    snprintf(report.text, sizeof report.text, "the host wrote past the end of %s", buffer->name);
    gs_memory_show(buffer, true);
    if (!gs_memory_release(buffer)) gs_device_fail(on_host ? gs_current_device : device, &report);
    return hipSuccess;
}

static hipError_t get_memory_info(size_t *free_bytes, size_t *total_bytes) {
    if (gs_state.device_count == 0) return hipErrorNoDevice;
    const gs_device_t *device = &gs_state.devices[gs_current_device];
    if (free_bytes) *free_bytes = device->memory_bytes - device->used_bytes;
    if (total_bytes) *total_bytes = device->memory_bytes;
    return hipSuccess;
}

GS_EXPORT hipError_t hipMalloc(void **out, size_t bytes) { GS_CALL(hipMalloc, allocate(out, bytes, false)); }

GS_EXPORT hipError_t hipFree(void *address) { GS_CALL(hipFree, release(address, false)); }

GS_EXPORT hipError_t hipHostMalloc(void **out, size_t bytes, unsigned flags) {
    (void)flags;
    GS_CALL(hipHostMalloc, allocate(out, bytes, true));
}

GS_EXPORT hipError_t hipHostFree(void *address) { GS_CALL(hipHostFree, release(address, true)); }

GS_EXPORT hipError_t hipMemGetInfo(size_t *free_bytes, size_t *total_bytes) {
    GS_CALL(hipMemGetInfo, get_memory_info(free_bytes, total_bytes));
}

/* ---- what an address is ----------------------------------------------------------------------------------------- */

static hipError_t get_attributes(hipPointerAttribute_t *attributes, const void *address) {
    if (!attributes) return hipErrorInvalidValue;
    const gs_buffer_t *buffer = gs_memory_holding(address, 1);
    if (!buffer) return hipErrorInvalidValue;
    bool on_host = buffer->device == -1;
    *attributes = (hipPointerAttribute_t){on_host ? hipMemoryTypeHost : hipMemoryTypeDevice,
                                          on_host ? 0 : buffer->device,
                                          (void *)address,
                                          on_host ? (void *)address : NULL,
                                          0,
                                          0};
    return hipSuccess;
}

GS_EXPORT hipError_t hipPointerGetAttributes(hipPointerAttribute_t *attributes, const void *address) {
    GS_CALL(hipPointerGetAttributes, get_attributes(attributes, address));
}

/* ---- copies ----------------------------------------------------------------------------------------------------- */

static hipError_t copy_on(void *to, const void *from, size_t bytes, hipMemcpyKind kind, hipStream_t stream) {
    gs_work_t work = {.type = hipGraphNodeTypeMemcpy, .copy = {to, from, bytes, kind}};
    return gs_submit(stream, &work);
}

static hipError_t copy_and_wait(void *to, const void *from, size_t bytes, hipMemcpyKind kind, hipStream_t handle) {
    struct ihipStream_t *stream;
    int device;
    hipError_t error = gs_resolve_stream(handle, &stream, &device);
    if (error == hipSuccess) error = gs_capture_forbids();
    if (error == hipSuccess) error = gs_device_error(device, true);
    return error == hipSuccess ? copy_on(to, from, bytes, kind, handle) : error;
}

GS_EXPORT hipError_t hipMemcpy(void *to, const void *from, size_t bytes, hipMemcpyKind kind) {
    GS_CALL(hipMemcpy, copy_and_wait(to, from, bytes, kind, NULL));
}

GS_EXPORT hipError_t hipMemcpyWithStream(void *to, const void *from, size_t bytes, hipMemcpyKind kind,
                                         hipStream_t stream) {
    GS_CALL(hipMemcpyWithStream, copy_and_wait(to, from, bytes, kind, stream));
}

GS_EXPORT hipError_t hipMemcpyAsync(void *to, const void *from, size_t bytes, hipMemcpyKind kind, hipStream_t stream) {
    GS_CALL(hipMemcpyAsync, copy_on(to, from, bytes, kind, stream));
}

GS_EXPORT hipError_t hipMemcpyHtoD(void *to, const void *from, size_t bytes) {
    GS_CALL(hipMemcpyHtoD, copy_and_wait(to, from, bytes, hipMemcpyHostToDevice, NULL));
}

GS_EXPORT hipError_t hipMemcpyDtoH(void *to, const void *from, size_t bytes) {
    GS_CALL(hipMemcpyDtoH, copy_and_wait(to, from, bytes, hipMemcpyDeviceToHost, NULL));
}

GS_EXPORT hipError_t hipMemcpyDtoD(void *to, const void *from, size_t bytes) {
    GS_CALL(hipMemcpyDtoD, copy_and_wait(to, from, bytes, hipMemcpyDeviceToDevice, NULL));
}

GS_EXPORT hipError_t hipMemcpyHtoDAsync(void *to, const void *from, size_t bytes, hipStream_t stream) {
    GS_CALL(hipMemcpyHtoDAsync, copy_on(to, from, bytes, hipMemcpyHostToDevice, stream));
}

GS_EXPORT hipError_t hipMemcpyDtoHAsync(void *to, const void *from, size_t bytes, hipStream_t stream) {
    GS_CALL(hipMemcpyDtoHAsync, copy_on(to, from, bytes, hipMemcpyDeviceToHost, stream));
}

GS_EXPORT hipError_t hipMemcpyDtoDAsync(void *to, const void *from, size_t bytes, hipStream_t stream) {
    GS_CALL(hipMemcpyDtoDAsync, copy_on(to, from, bytes, hipMemcpyDeviceToDevice, stream));
}

/* ---- fills ------------------------------------------------------------------------------------------------------ */

static hipError_t fill_on(void *to, uint32_t value, size_t width, size_t count, hipStream_t stream) {
    gs_work_t work = {.type = hipGraphNodeTypeMemset, .fill = {to, value, width, count}};
    return gs_submit(stream, &work);
}

static hipError_t fill_and_wait(void *to, uint32_t value, size_t width, size_t count) {
    hipError_t error = gs_capture_forbids();
    return error == hipSuccess ? fill_on(to, value, width, count, NULL) : error;
}

GS_EXPORT hipError_t hipMemset(void *to, int value, size_t bytes) {
    GS_CALL(hipMemset, fill_and_wait(to, (uint8_t)value, 1, bytes));
}

GS_EXPORT hipError_t hipMemsetD8(void *to, unsigned char value, size_t count) {
    GS_CALL(hipMemsetD8, fill_and_wait(to, value, 1, count));
}

GS_EXPORT hipError_t hipMemsetD32(void *to, int value, size_t count) {
    GS_CALL(hipMemsetD32, fill_and_wait(to, (uint32_t)value, 4, count));
}

GS_EXPORT hipError_t hipMemsetAsync(void *to, int value, size_t bytes, hipStream_t stream) {
    GS_CALL(hipMemsetAsync, fill_on(to, (uint8_t)value, 1, bytes, stream));
}

GS_EXPORT hipError_t hipMemsetD8Async(void *to, unsigned char value, size_t count, hipStream_t stream) {
    GS_CALL(hipMemsetD8Async, fill_on(to, value, 1, count, stream));
}

GS_EXPORT hipError_t hipMemsetD16Async(void *to, unsigned short value, size_t count, hipStream_t stream) {
    GS_CALL(hipMemsetD16Async, fill_on(to, value, 2, count, stream));
}

GS_EXPORT hipError_t hipMemsetD32Async(void *to, int value, size_t count, hipStream_t stream) {
    GS_CALL(hipMemsetD32Async, fill_on(to, (uint32_t)value, 4, count, stream));
}
