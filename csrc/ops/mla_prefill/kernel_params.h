/* What the prefill kernels get: plain data, shared by the host and by the kernels of every device. GPU kernels take the
 * struct by value. Symbols: B requests, T query rows, H query heads, Hkv heads of keys and values, D elements of a
 * query and of a key, Dv of a value. Strides are in bytes. Every value that a pointer leads to is untrusted; tiles.h
 * clamps what the lists say, and the kernels mask entries of kv_indices. */
#ifndef AC_OPS_MLA_PREFILL_KERNEL_PARAMS_H
#define AC_OPS_MLA_PREFILL_KERNEL_PARAMS_H

#include "../attention/cache.h"

typedef struct ac_mla_prefill_params_t {
    const char *q; /* [T, H, D] */
    int64_t q_row_stride, q_head_stride;
    const char *k; /* [slots, Hkv, D] */
    int64_t k_row_stride, k_head_stride;
    const char *v; /* [slots, Hkv, Dv] */
    int64_t v_row_stride, v_head_stride;
    char *o; /* [T, H, Dv]: the final rows */
    int64_t o_row_stride, o_head_stride;
    float *lse;                /* [T, H] or NULL; of the final rows, natural log. Rows of no tile hold -inf before. */
    float *partial_o;          /* [num_partials, H, Dv]; normalised; not written where the LSE is -inf */
    float *partial_lse;        /* [num_partials, H]; natural log, -inf where a partial holds nothing for a row */
    const int32_t *qo_indptr;  /* [B+1] */
    const int32_t *kv_indptr;  /* [B+1]: entries of kv_indices */
    const int32_t *kv_indices; /* [num_indices]: slots; or NULL: entry i is slot i, and num_indices is num_slots */
    int64_t num_rows, num_slots, num_indices, num_partials;
    /* The tiles: those of the items of lists (work_list.h), or where work_indptr is NULL of all requests. */
    const int32_t *work_indptr; /* [num_workers+1] */
    const int32_t *items;       /* [num_items, AC_WORK_FIELDS] */
    int64_t num_items;
    int64_t grid_tiles, workgroups; /* without lists: B * H * request_tiles, and the workgroups that do them */
    int32_t max_seqlen_q;           /* likewise: later rows of a request are not served */
    int32_t request_tiles;          /* tiles of a head of a request: ceil(max_seqlen_q / the kernel's tile_rows) */
    int32_t num_requests, num_workers;
    int32_t worker_slots;                        /* workgroups that share the items of a worker */
    int32_t num_heads, num_kv_heads, group_size; /* H, Hkv, H / Hkv */
    int32_t head_dim, value_dim;                 /* D, Dv */
    int32_t q_dtype, kv_dtype, o_dtype;          /* ac_dtype_t; kv_dtype is that of k and of v */
    int32_t causal;
    ac_scale_t q_scale, k_scale, v_scale;
    float sm_scale;
} ac_mla_prefill_params_t;

#endif
