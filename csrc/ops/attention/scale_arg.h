/* A per-tensor scale as the caller means it -> the form that kernels take. */
#ifndef AC_OPS_ATTENTION_SCALE_ARG_H
#define AC_OPS_ATTENTION_SCALE_ARG_H

#include "../../core/check.h"
#include "../../core/op.h"
#include "cache.h"

/* A host scale is read now, a device scale by the kernel; 1 when the operand is not fp8. */
static inline ac_scale_t ac_scale_for(const ac_scale_arg_t *scale, ac_dtype_t dtype, ac_device_t device) {
    if (!ac_dtype_in(dtype, AC_FP8)) return (ac_scale_t){NULL, 1};
    if (!scale->view) return (ac_scale_t){NULL, (float)scale->value};
    if (scale->view->device.type == AC_DEVICE_CPU && device.type != AC_DEVICE_CPU)
        return (ac_scale_t){NULL, *ac_floats(scale->view)};
    return (ac_scale_t){ac_floats(scale->view), 1};
}

#endif
