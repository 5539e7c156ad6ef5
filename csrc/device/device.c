#include "device.h"

const ac_runtime_t *ac_runtime_for(int device_type, const char **out_reason) {
    *out_reason = "";
    switch (device_type) {
    case AC_DEVICE_CPU: return &ac_cpu_runtime;
    case AC_DEVICE_CUDA_HOST: return &ac_cpu_runtime; /* pinned memory is host memory */
    case AC_DEVICE_HIP_HOST: return &ac_cpu_runtime;
    case AC_DEVICE_CUDA: *out_reason = "this version has no CUDA runtime"; return NULL;
    case AC_DEVICE_HIP: *out_reason = "this version has no HIP runtime"; return NULL;
    default: *out_reason = "no runtime serves this kind of device"; return NULL;
    }
}
