/* The checks that every op is made of. Each returns 0, or fills *error and returns -1 with a text of the form
 * "op: argument: expected ..., got ...". */
#ifndef AC_CORE_CHECK_H
#define AC_CORE_CHECK_H

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
int ac_check_min_size(ac_arg_t arg, int dim, int64_t least, const char *why, ac_error_t *error);
int ac_check_contiguous(ac_arg_t arg, ac_error_t *error);
/* The last dimension is dense: its stride is 1 wherever a stride matters. */
int ac_check_dense_rows(ac_arg_t arg, ac_error_t *error);
int ac_check_device(ac_arg_t arg, ac_device_t device, const char *of, ac_error_t *error);
/* No two of its elements share memory. */
int ac_check_output(ac_arg_t arg, ac_error_t *error);
/* No output shares memory (by extent) with an input or another output; NULL views are skipped. */
#define AC_MAX_TENSORS 24
int ac_check_no_overlap(const ac_arg_t *inputs, int input_count, const ac_arg_t *outputs, int output_count,
                        ac_error_t *error);
int ac_check_int(const char *op, const char *name, int64_t value, int64_t low, int64_t high, ac_error_t *error);

/* A stride in elements as bytes; 0 where the size makes it meaningless. */
int64_t ac_stride_bytes(const ac_view_t *view, int dim);

#endif
