#include "view.h"

#include <inttypes.h>
#include <stdio.h>

const char *ac_device_text(ac_device_t device, char *text, int size) {
    switch (device.type) {
    case AC_DEVICE_CPU: snprintf(text, (size_t)size, "cpu"); break;
    case AC_DEVICE_CUDA: snprintf(text, (size_t)size, "cuda:%d", device.index); break;
    case AC_DEVICE_HIP: snprintf(text, (size_t)size, "hip:%d", device.index); break;
    case AC_DEVICE_CUDA_HOST: snprintf(text, (size_t)size, "cuda_host"); break;
    case AC_DEVICE_HIP_HOST: snprintf(text, (size_t)size, "hip_host"); break;
    default: snprintf(text, (size_t)size, "DLPack device (%d, %d)", device.type, device.index);
    }
    return text;
}

const char *ac_shape_text(const ac_view_t *view, char *text, int size) {
    int used = snprintf(text, (size_t)size, "[");
    for (int i = 0; i < view->ndim && used < size; i++)
        used += snprintf(text + used, (size_t)(size - used), "%s%" PRId64, i ? ", " : "", view->shape[i]);
    if (used < size) snprintf(text + used, (size_t)(size - used), "]");
    return text;
}

int64_t ac_view_numel(const ac_view_t *view) {
    int64_t n = 1;
    for (int i = 0; i < view->ndim; i++) n *= view->shape[i];
    return n;
}

bool ac_view_is_contiguous(const ac_view_t *view) {
    int64_t expected = 1;
    for (int i = view->ndim - 1; i >= 0; i--) {
        if (view->shape[i] != 1 && view->stride[i] != expected) return ac_view_numel(view) == 0;
        expected *= view->shape[i];
    }
    return true;
}
