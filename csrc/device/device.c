#include "device.h"

#include <stdio.h>

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

int ac_check_grid(const ac_kernel_t *kernel, int64_t grid, const ac_device_facts_t *facts, ac_error_t *error) {
    const int64_t by_threads = facts->max_threads / kernel->threads;
    const int64_t most = by_threads < facts->max_items ? by_threads : facts->max_items;
    if (grid >= 0 && grid <= most) return 0;
    return ac_fail(error, AC_ERROR_UNSUPPORTED, "%s: expected at most %lld work items in a launch, got %lld",
                   kernel->name, (long long)most, (long long)grid);
}

void ac_runtime_describe(int device_type, ac_runtime_info_t *out_info) {
    ac_gpu_t *gpu = gpu_of(device_type);
    const char *reason;
    ac_error_t error = {0};
    *out_info = (ac_runtime_info_t){0};
    out_info->runtime = ac_runtime_for(device_type, &reason);
    if (!out_info->runtime)
        snprintf(out_info->note, sizeof out_info->note, "%s", reason);
    else if (out_info->runtime->device_count(out_info->runtime, &out_info->device_count, &error) < 0)
        snprintf(out_info->note, sizeof out_info->note, "%s", error.text);
    if (gpu) ac_gpu_describe(gpu, out_info);
}
