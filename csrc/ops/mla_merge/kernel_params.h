/* What the merge kernels get: plain data, shared by the host and by the kernels of every device. Symbols: B requests,
 * T query rows, H query heads, S splits of a KV list, Dv values. Strides are in bytes. */
#ifndef AC_OPS_MLA_MERGE_KERNEL_PARAMS_H
#define AC_OPS_MLA_MERGE_KERNEL_PARAMS_H

#include <stdint.h>

/* Stage 2: o and lse of every row that a request owns, out of its S partials. Work item number
 * (b * max_seqlen_q + t) * head_tiles + i: query token t of request b, heads [i * tile, (i + 1) * tile) with the kernel
 * table's tile_rows as tile. */
typedef struct ac_mla_merge_params_t {
    const float *partial_o;   /* [T, S, H, Dv] */
    const float *partial_lse; /* [T, S, H] */
    const int32_t *qo_indptr; /* [B+1] */
    char *o;                  /* [T, H, Dv] */
    int64_t o_row_stride, o_head_stride;
    float *lse; /* [T, H] or NULL */
    int64_t num_rows;
    int32_t batch, num_heads, max_seqlen_q, num_splits;
    int32_t head_tiles;
    int32_t o_dtype;
} ac_mla_merge_params_t;

#endif
