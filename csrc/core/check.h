/* The checks that every op is made of. Each returns 0, or fills *error and returns -1 with a text of the form
 * "op: argument: expected ..., got ...". */
#ifndef AC_CORE_CHECK_H
#define AC_CORE_CHECK_H

#include <stddef.h>

#include "error.h"
#include "view.h"

/* The op and the argument that a check speaks of. */
typedef struct ac_arg_t {
    const char *op, *name;
    const ac_view_t *view; /* NULL: None was passed */
} ac_arg_t;

/* One expected dimension: a symbol ("T", "512") and its size, or AC_ANY_SIZE. */
typedef struct ac_dim_t {
    const char *symbol;
    int64_t size;
} ac_dim_t;
#define AC_ANY_SIZE (-1)

int ac_check_given(ac_arg_t arg, ac_error_t *error);
int ac_check_dtype(ac_arg_t arg, ac_dtype_set_t allowed, ac_error_t *error);
int ac_check_shape(ac_arg_t arg, int ndim, const ac_dim_t *dims, ac_error_t *error);
int ac_check_one_element(ac_arg_t arg, ac_error_t *error);
int ac_check_contiguous(ac_arg_t arg, ac_error_t *error);
/* The last dimension is dense: its stride is 1 wherever a stride matters. */
int ac_check_dense_rows(ac_arg_t arg, ac_error_t *error);
int ac_check_device(ac_arg_t arg, ac_device_t device, const char *of, ac_error_t *error);
/* No two of its elements share memory. */
int ac_check_output(ac_arg_t arg, ac_error_t *error);
int ac_check_int(const char *op, const char *name, int64_t value, int64_t low, int64_t high, ac_error_t *error);

/* q_dtype= and the like: a uint8 tensor is read as an 8-bit float. `keyword` names the argument in the text. */
int ac_view_retype(ac_arg_t arg, const char *keyword, ac_dtype_t dtype, ac_view_t *view, ac_error_t *error);

/* A stride in elements as bytes; 0 where the size makes it meaningless. */
int64_t ac_stride_bytes(const ac_view_t *view, int dim);

/* The elements of a view that was checked; NULL for None. */
static inline float *ac_floats(const ac_view_t *view) { return view ? (float *)(void *)view->data : NULL; }
static inline const int32_t *ac_ints(const ac_view_t *view) {
    return view ? (const int32_t *)(const void *)view->data : NULL;
}

#endif
