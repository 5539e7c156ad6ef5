/* A tensor as the ops see it: address, dtype, device, shape, strides. A view borrows; the module room keeps the owner
 * of the memory alive until the call returns, and has made sure that sizes and extent fit 64 bits, that elements have
 * an aligned address, and that an output may be written. Sizes and strides are 64-bit everywhere. */
#ifndef AC_CORE_VIEW_H
#define AC_CORE_VIEW_H

#include "arch.h"
#include "dtype.h"

#define AC_MAX_NDIM 8

typedef struct ac_device_t {
    int type;  /* ac_device_type_t, or another number of DLPack's that no runtime serves */
    int index; /* 0 for the CPU */
} ac_device_t;

typedef struct ac_view_t {
    char *data;       /* element [0, ..., 0]; may be NULL when the tensor has no elements */
    ac_dtype_t dtype; /* after q_dtype=/kv_dtype= */
    ac_device_t device;
    int ndim;
    bool read_only;
    int64_t shape[AC_MAX_NDIM];
    int64_t stride[AC_MAX_NDIM]; /* elements; of no meaning where the size is 0 or 1 */
    uintptr_t low, high;         /* its elements lie in low <= address < high; equal: it has none */
} ac_view_t;

/* "cpu", "cuda:0", "hip:1"; returns text. */
const char *ac_device_text(ac_device_t device, char *text, int size);
/* "[4, 16, 576]"; returns text. */
const char *ac_shape_text(const ac_view_t *view, char *text, int size);

int64_t ac_view_numel(const ac_view_t *view);
/* True when the elements lie in row-major order without gaps (strides of size-1 dims ignored). */
bool ac_view_is_contiguous(const ac_view_t *view);
/* False when two elements may share memory. */
bool ac_view_elements_are_apart(const ac_view_t *view);
/* True when the two have the same elements at the same addresses. */
bool ac_view_is_same(const ac_view_t *view, const ac_view_t *other);
/* True when `view` has the elements of whole[i] for some i, and no two elements of `whole` share memory. */
bool ac_view_is_part(const ac_view_t *view, const ac_view_t *whole);

/* Leaves the first columns of a tensor that has more of them. */
static inline void ac_view_narrow(ac_view_t *view, int64_t columns) {
    if (view->ndim > 0 && view->shape[view->ndim - 1] > columns) view->shape[view->ndim - 1] = columns;
}

#endif
