/* kv_buffer as the caller means it -> one ac_kv_cache_t, the form that every kernel reads. */
#ifndef AC_OPS_ATTENTION_CACHE_ARG_H
#define AC_OPS_ATTENTION_CACHE_ARG_H

#include "../../core/check.h"
#include "cache.h"
#include "cache_format.h"

/* What a cache holds, before its strides are looked at. */
typedef struct ac_kv_kind_t {
    ac_kv_format_t format;
    ac_dtype_t dtype; /* of the tensor: uint8 for records */
    int32_t rope_dim;
    int64_t row_width; /* D: elements of a key */
} ac_kv_kind_t;

/* page_size: rows of a page; slots: list entries name rows and not pages. kv_format: an ac_kv_format_t, or -1: from
 * dtype and shape, as AITER's calls mean it. kv_dtype: what a uint8 tensor is to be read as, or AC_DTYPE_NONE; the view
 * gets that dtype. */
int ac_kv_cache_kind(ac_arg_t kv_buffer, ac_view_t *view, int kv_format, ac_dtype_t kv_dtype, int64_t page_size,
                     ac_kv_kind_t *out_kind, ac_error_t *error);
int ac_kv_cache_describe(ac_arg_t kv_buffer, const ac_kv_kind_t *kind, int64_t page_size, bool slots,
                         ac_kv_cache_t *out_cache, ac_error_t *error);

#endif
