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

static int64_t step(const ac_view_t *view, int dim) {
    return view->stride[dim] < 0 ? -view->stride[dim] : view->stride[dim];
}

/* Most tensors: from the last dimension on, each steps over all that those after it span. */
static bool dimensions_nest(const ac_view_t *view) {
    int64_t span = 1;
    for (int i = view->ndim - 1; i >= 0; i--) {
        if (view->shape[i] == 1) continue;
        if (step(view, i) < span) return false;
        span += (view->shape[i] - 1) * step(view, i);
    }
    return true;
}

/* Any: the same, with the dimensions taken by growing step. */
static bool dimensions_nest_by_step(const ac_view_t *view) {
    int64_t span = 1;
    bool taken[AC_MAX_NDIM] = {false};
    for (int n = 0; n < view->ndim; n++) {
        int next = -1;
        for (int i = 0; i < view->ndim; i++)
            if (!taken[i] && view->shape[i] > 1 && (next < 0 || step(view, i) < step(view, next))) next = i;
        if (next < 0) return true;
        taken[next] = true;
        if (step(view, next) < span) return false;
        span += (view->shape[next] - 1) * step(view, next);
    }
    return true;
}

bool ac_view_elements_are_apart(const ac_view_t *view) {
    return dimensions_nest(view) || ac_view_numel(view) == 0 || dimensions_nest_by_step(view);
}

/* From dimension `first` of `whole` on. */
static bool is_same_layout(const ac_view_t *view, const ac_view_t *whole, int first) {
    if (view->ndim + first != whole->ndim || view->dtype != whole->dtype) return false;
    for (int i = 0; i < view->ndim; i++) {
        if (view->shape[i] != whole->shape[i + first]) return false;
        if (view->shape[i] > 1 && view->stride[i] != whole->stride[i + first]) return false;
    }
    return true;
}

bool ac_view_is_same(const ac_view_t *view, const ac_view_t *other) {
    return view->data == other->data && is_same_layout(view, other, 0);
}

bool ac_view_is_part(const ac_view_t *view, const ac_view_t *whole) {
    if (!is_same_layout(view, whole, 1) || !ac_view_elements_are_apart(whole)) return false;
    const int64_t distance = view->data - whole->data;
    const int64_t part = whole->shape[0] > 1 ? whole->stride[0] * ac_dtype_bytes(whole->dtype) : 0;
    if (part == 0) return distance == 0;
    return distance % part == 0 && distance / part >= 0 && distance / part < whole->shape[0];
}
