/* Work on a device: checked, and run at once. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "hip_work.h"

/* ---- kernels ----------------------------------------------------------------------------------------------------- */

bool gs_kernel_valid(const gs_kernel_t *kernel) {
    for (int i = 0; i < gs_handle_count(GS_HANDLE_MODULE); i++) {
        const gs_module_t *module = gs_handle_at(GS_HANDLE_MODULE, i);
        if (kernel >= module->kernels && kernel < module->kernels + module->kernel_count) return true;
    }
    return false;
}

static void log_launch(const gs_launch_t *launch, const gs_totals_t *totals) {
    gs_state.totals.launches += totals->launches;
    gs_state.totals.workgroups += totals->workgroups;
    gs_state.totals.waves += totals->waves;
    gs_add_counters(&gs_state.totals.counters, &totals->counters);
    if (!gs_state.launches) gs_state.launches = calloc(GS_MAX_LAUNCH_LOG, sizeof *gs_state.launches);
    if (!gs_state.launches) return;
    gs_launch_record_t *record = &gs_state.launches[gs_state.launch_count++ % GS_MAX_LAUNCH_LOG];
    record->totals = *totals;
    record->device = launch->kernel->module->device;
    record->lds_bytes = launch->kernel->descriptor.lds_bytes + launch->dynamic_lds;
    memcpy(record->grid, launch->grid, sizeof record->grid);
    memcpy(record->block, launch->block, sizeof record->block);
    snprintf(record->kernel, sizeof record->kernel, "%s", launch->kernel->name);
}

static hipError_t run_kernel(const gs_kernel_work_t *work) {
    gs_launch_t launch = {.kernel = work->kernel, .dynamic_lds = work->dynamic_lds, .arguments = work->arguments};
    memcpy(launch.grid, work->grid, sizeof launch.grid);
    memcpy(launch.block, work->block, sizeof launch.block);
    gs_totals_t totals = {0};
    gs_report_t report;
    if (!gs_run_checked(&launch, &gs_state.options, &totals, &report)) return hipErrorOutOfMemory;
    log_launch(&launch, &totals);
    return report.kind == GS_REPORT_NONE ? hipSuccess : gs_device_fail(work->kernel->module->device, &report);
}

/* ---- copies and fills -------------------------------------------------------------------------------------------- */

/* Device memory, to the byte: an address in a live buffer. A range that begins in one and leaves it is neither. */
typedef enum place_t { PLACE_HOST, PLACE_DEVICE, PLACE_BROKEN } place_t;

static place_t place_of(const void *address, size_t bytes) {
    const gs_buffer_t *buffer = gs_memory_holding(address, bytes);
    if (buffer) return buffer->device == -1 ? PLACE_HOST : PLACE_DEVICE;
    const gs_buffer_t *near = gs_memory_find((uintptr_t)address);
    if (!near) return PLACE_HOST;
    uintptr_t start = (uintptr_t)address, end = start + bytes;
    bool touches = start < near->high && end > near->low;
    bool freed = near->high == near->low && start >= near->low && start - near->low < 4096;
    return touches || freed ? PLACE_BROKEN : PLACE_HOST;
}

static hipError_t check_copy(const gs_copy_work_t *work) {
    if (work->bytes == 0) return hipSuccess;
    if (!work->to || !work->from) return hipErrorInvalidValue;
    place_t to = place_of(work->to, work->bytes), from = place_of(work->from, work->bytes);
    if (to == PLACE_BROKEN || from == PLACE_BROKEN) return hipErrorInvalidValue;
    bool to_device = work->kind == hipMemcpyHostToDevice || work->kind == hipMemcpyDeviceToDevice;
    bool from_device = work->kind == hipMemcpyDeviceToHost || work->kind == hipMemcpyDeviceToDevice;
    if ((unsigned)work->kind > hipMemcpyDefault) return hipErrorInvalidMemcpyDirection;
    if (work->kind == hipMemcpyDefault) return hipSuccess;
    bool matches = to_device == (to == PLACE_DEVICE) && from_device == (from == PLACE_DEVICE);
    return matches ? hipSuccess : hipErrorInvalidValue;
}

static void run_copy(const gs_copy_work_t *work) {
    if (work->bytes > 0) memmove(work->to, work->from, work->bytes);
}

static hipError_t check_fill(const gs_fill_work_t *work) {
    if (work->count == 0) return hipSuccess;
    if (work->count > SIZE_MAX / work->width || (uintptr_t)work->to % work->width != 0) return hipErrorInvalidValue;
    const gs_buffer_t *buffer = gs_memory_holding(work->to, work->width * work->count);
    return buffer ? hipSuccess : hipErrorInvalidValue;
}

static void run_fill(const gs_fill_work_t *work) {
    uint8_t *to = work->to;
    if (work->width == 1) memset(to, (int)work->value, work->count);
    else
        for (size_t i = 0; i < work->count; i++) memcpy(to + i * work->width, &work->value, work->width);
}

/* ---- any of them ------------------------------------------------------------------------------------------------- */

hipError_t gs_check_work(const gs_work_t *work) {
    switch (work->type) {
    case hipGraphNodeTypeKernel:
        return gs_kernel_valid(work->kernel.kernel) ? hipSuccess : hipErrorInvalidDeviceFunction;
    case hipGraphNodeTypeMemcpy: return check_copy(&work->copy);
    case hipGraphNodeTypeMemset: return check_fill(&work->fill);
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
    if (error == hipSuccess) error = gs_check_work(work);
    if (error != hipSuccess) return error;
    show_memory(work, true);
    switch (work->type) {
    case hipGraphNodeTypeKernel: error = run_kernel(&work->kernel); break;
    case hipGraphNodeTypeMemcpy: run_copy(&work->copy); break;
    case hipGraphNodeTypeMemset: run_fill(&work->fill); break;
    }
    if (gs_state.options.hide_memory) show_memory(work, false);
    return error;
}
