/* The checks of single tensors and numbers: each compares, and says what it expected and what it got. */
#include "check.h"

#include <inttypes.h>
#include <stdio.h>

#define TEXT 160

int ac_check_given(ac_arg_t arg, ac_error_t *error) {
    if (arg.view) return 0;
    return ac_fail(error, AC_ERROR_TYPE, "%s: %s: expected a tensor, got None", arg.op, arg.name);
}

int ac_check_dtype(ac_arg_t arg, ac_dtype_set_t allowed, ac_error_t *error) {
    /* The other 8-bit floats would make sense where fp8 does: it is a kernel that is missing. */
    const ac_dtype_set_t kernel_missing = allowed & AC_FP8 ? AC_SET(AC_FLOAT8_E5M2) | AC_SET(AC_FLOAT8_E5M2FNUZ) : 0;
    char text[TEXT];
    if (ac_dtype_in(arg.view->dtype, allowed)) return 0;
    const ac_error_kind_t kind = ac_dtype_in(arg.view->dtype, kernel_missing) ? AC_ERROR_UNSUPPORTED : AC_ERROR_TYPE;
    return ac_fail(error, kind, "%s: %s: expected dtype %s, got %s", arg.op, arg.name,
                   ac_dtype_set_text(allowed, text, TEXT), ac_dtype_name(arg.view->dtype));
}

static bool is_number(const char *symbol) { return symbol[0] >= '0' && symbol[0] <= '9'; }

/* "[T=4, H, 576]" */
static void dims_text(int ndim, const ac_dim_t *dims, char *text, int size) {
    int used = snprintf(text, (size_t)size, "[");
    for (int i = 0; i < ndim && used < size; i++) {
        const char *comma = i ? ", " : "";
        if (dims[i].size == AC_ANY_SIZE || is_number(dims[i].symbol))
            used += snprintf(text + used, (size_t)(size - used), "%s%s", comma, dims[i].symbol);
        else used += snprintf(text + used, (size_t)(size - used), "%s%s=%" PRId64, comma, dims[i].symbol, dims[i].size);
    }
    if (used < size) snprintf(text + used, (size_t)(size - used), "]");
}

int ac_check_shape(ac_arg_t arg, int ndim, const ac_dim_t *dims, ac_error_t *error) {
    char expected[TEXT], got[TEXT];
    int matching = 0;
    if (arg.view->ndim == ndim)
        while (matching < ndim &&
               (dims[matching].size == AC_ANY_SIZE || dims[matching].size == arg.view->shape[matching]))
            matching++;
    if (arg.view->ndim == ndim && matching == ndim) return 0;
    dims_text(ndim, dims, expected, TEXT);
    return ac_fail(error, AC_ERROR_VALUE, "%s: %s: expected shape %s, got %s", arg.op, arg.name, expected,
                   ac_shape_text(arg.view, got, TEXT));
}

int ac_check_one_element(ac_arg_t arg, ac_error_t *error) {
    char text[TEXT];
    if (ac_view_numel(arg.view) == 1) return 0;
    return ac_fail(error, AC_ERROR_VALUE, "%s: %s: expected one element, got shape %s", arg.op, arg.name,
                   ac_shape_text(arg.view, text, sizeof text));
}

int ac_check_contiguous(ac_arg_t arg, ac_error_t *error) {
    if (ac_view_is_contiguous(arg.view)) return 0;
    return ac_fail(error, AC_ERROR_VALUE, "%s: %s: expected a contiguous tensor, got strides with gaps", arg.op,
                   arg.name);
}

int ac_check_dense_rows(ac_arg_t arg, ac_error_t *error) {
    int last = arg.view->ndim - 1;
    if (arg.view->shape[last] <= 1 || arg.view->stride[last] == 1) return 0;
    return ac_fail(error, AC_ERROR_VALUE, "%s: %s: expected stride 1 in the last dimension, got %" PRId64, arg.op,
                   arg.name, arg.view->stride[last]);
}

static bool same_device(ac_device_t a, ac_device_t b) { return a.type == b.type && a.index == b.index; }

int ac_check_device(ac_arg_t arg, ac_device_t device, const char *of, ac_error_t *error) {
    char expected[TEXT], got[TEXT];
    if (same_device(arg.view->device, device)) return 0;
    return ac_fail(error, AC_ERROR_VALUE, "%s: %s: expected device %s (of %s), got %s", arg.op, arg.name,
                   ac_device_text(device, expected, TEXT), of, ac_device_text(arg.view->device, got, TEXT));
}

int ac_check_output(ac_arg_t arg, ac_error_t *error) {
    if (ac_view_elements_are_apart(arg.view)) return 0;
    return ac_fail(error, AC_ERROR_VALUE,
                   "%s: %s: expected an output without overlapping elements, got strides that"
                   " overlap",
                   arg.op, arg.name);
}

int ac_check_int(const char *op, const char *name, int64_t value, int64_t low, int64_t high, ac_error_t *error) {
    if (value >= low && value <= high) return 0;
    return ac_fail(error, AC_ERROR_VALUE, "%s: %s: expected %" PRId64 " to %" PRId64 ", got %" PRId64, op, name, low,
                   high, value);
}

int64_t ac_stride_bytes(const ac_view_t *view, int dim) {
    return view->shape[dim] > 1 ? view->stride[dim] * ac_dtype_bytes(view->dtype) : 0;
}

int ac_view_retype(ac_arg_t arg, const char *keyword, ac_dtype_t dtype, ac_view_t *view, ac_error_t *error) {
    const ac_dtype_set_t float8 = AC_FP8 | AC_SET(AC_FLOAT8_E5M2) | AC_SET(AC_FLOAT8_E5M2FNUZ) |
                                  AC_SET(AC_FLOAT8_E8M0FNU);
    if (dtype == AC_DTYPE_NONE || dtype == view->dtype) return 0;
    if (view->dtype != AC_UINT8 || !ac_dtype_in(dtype, float8))
        return ac_fail(error, AC_ERROR_TYPE, "%s: %s: expected uint8 data to read as %s=%s, got %s", arg.op, arg.name,
                       keyword, ac_dtype_name(dtype), ac_dtype_name(view->dtype));
    view->dtype = dtype;
    return 0;
}
