/* Which runtime serves a device, and what every launch has to pass before a runtime sees it. */
#include "device.h"

#include <stdio.h>
#include <string.h>

#include "../core/log.h"
#include "gpu.h"

static ac_device_config_t current_config;

void ac_device_configure(const ac_device_config_t *config) { current_config = *config; }
const ac_device_config_t *ac_device_config(void) { return &current_config; }

/* The GPU runtimes keep a state; the CPU has none. */
static ac_gpu_t *gpu_of(int device_type) {
    if (device_type == AC_DEVICE_HIP) return &ac_hip;
    if (device_type == AC_DEVICE_CUDA) return &ac_cuda;
    return NULL;
}

const ac_runtime_t *ac_runtime_for(int device_type, const char **out_reason) {
    static _Thread_local char reason[AC_REASON_SIZE];
    ac_gpu_t *gpu = gpu_of(device_type);
    *out_reason = "";
    if (gpu) {
        if (ac_gpu_load(gpu, reason, sizeof reason) == 0) return &gpu->runtime;
        *out_reason = reason;
        return NULL;
    }
    switch (device_type) {
    case AC_DEVICE_CPU: return &ac_cpu_runtime;
    case AC_DEVICE_CUDA_HOST: return &ac_cpu_runtime; /* pinned memory is host memory */
    case AC_DEVICE_HIP_HOST: return &ac_cpu_runtime;
    default: *out_reason = "no runtime serves this kind of device"; return NULL;
    }
}

int64_t ac_max_grid(const ac_kernel_t *kernel, const ac_device_facts_t *facts) {
    const int64_t by_threads = facts->max_threads / kernel->threads;
    return by_threads < facts->max_items ? by_threads : facts->max_items;
}

int ac_check_grid(const ac_kernel_t *kernel, int64_t grid, const ac_device_facts_t *facts, ac_error_t *error) {
    const int64_t most = ac_max_grid(kernel, facts);
    if (grid >= 0 && grid <= most) return 0;
    return ac_fail(error, AC_ERROR_UNSUPPORTED, "%s: expected at most %lld work items in a launch, got %lld",
                   kernel->name, (long long)most, (long long)grid);
}

/* Puts the op and the argument before the text of a refusal that knows neither; the error of a driver is no refusal. */
static int name_refusal(const char *op, const char *name, int status, ac_error_t *error) {
    char text[sizeof error->text];
    if (status == 0 || error->kind == AC_ERROR_DEVICE) return status;
    memcpy(text, error->text, sizeof text);
    return ac_fail(error, error->kind, "%s: %s: %s", op, name, text);
}

int ac_check_launch(const char *op, const char *name, const ac_kernel_t *kernel, int64_t grid,
                    const ac_device_facts_t *facts, ac_error_t *error) {
    return name_refusal(op, name, ac_check_grid(kernel, grid, facts, error), error);
}

int ac_find_target(const char *op, const char *name, ac_device_t device, ac_target_t *out_target, ac_error_t *error) {
    const char *reason;
    char text[64];
    const ac_runtime_t *runtime = ac_runtime_for(device.type, &reason);
    if (!runtime)
        return ac_fail(error, AC_ERROR_UNSUPPORTED, "%s: %s: expected a device with a runtime, got %s: %s", op, name,
                       ac_device_text(device, text, sizeof text), reason);
    out_target->runtime = runtime;
    out_target->device = device;
    return name_refusal(op, name, runtime->facts(runtime, device.index, &out_target->facts, error), error);
}

int ac_launch(const ac_target_t *target, const ac_launch_t *launch, ac_error_t *error) {
    const struct {
        unsigned feature;
        const void *address;
    } written[] = {{AC_WRITES_FINAL, launch->final_rows},
                   {AC_WRITES_PARTIALS, launch->partial_rows},
                   {AC_WRITES_LSE, launch->lse}};
    const ac_kernel_t *kernel = launch->kernel;
    for (size_t i = 0; i < sizeof written / sizeof written[0]; i++) {
        const unsigned feature = written[i].feature;
        if (!(launch->writes & feature)) continue;
        if (!(kernel->features & feature))
            return ac_fail(error, AC_ERROR_UNSUPPORTED, "%s: %s: expected a kernel that can do it, got one that cannot",
                           kernel->name, ac_feature_name(feature));
        if (launch->grid > 0 && !written[i].address)
            return ac_fail(error, AC_ERROR_VALUE, "%s: %s: expected an address to write to, got a null pointer",
                           kernel->name, ac_feature_name(feature));
    }
    if (ac_log_level >= 2) {
        char place[32];
        ac_log("  launch %s, %lld work items, %s, stream 0x%llx", kernel->name, (long long)launch->grid,
               ac_device_text(target->device, place, sizeof place), (unsigned long long)launch->stream);
    }
    return target->runtime->launch(target->runtime, target->device.index, launch, error);
}

void ac_runtime_describe(int device_type, ac_runtime_info_t *out_info) {
    ac_gpu_t *gpu = gpu_of(device_type);
    const char *reason;
    ac_error_t error = {0};
    *out_info = (ac_runtime_info_t){0};
    out_info->runtime = ac_runtime_for(device_type, &reason);
    if (!out_info->runtime) snprintf(out_info->note, sizeof out_info->note, "%s", reason);
    else if (out_info->runtime->device_count(out_info->runtime, &out_info->device_count, &error) < 0)
        snprintf(out_info->note, sizeof out_info->note, "%s", error.text);
    if (gpu) ac_gpu_describe(gpu, out_info);
}
