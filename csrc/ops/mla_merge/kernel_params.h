/* What the merge kernels get: plain data, shared by the host and by the kernels of every device. A group is a run of
 * rows of o that have the same number of partials; each row and head is the sum of its partials, weighted by their LSE.
 * Symbols: N rows, H heads, Dv values, P partial rows. Strides are in bytes. What the lists hold is untrusted. */
#ifndef AC_OPS_MLA_MERGE_KERNEL_PARAMS_H
#define AC_OPS_MLA_MERGE_KERNEL_PARAMS_H

#include "../attention/work.h"

typedef struct ac_mla_merge_params_t {
    const float *partial_o;   /* [P, H, Dv]; normalised. A row is not read where its LSE is -inf. */
    const float *partial_lse; /* [P, H]; natural log */
    char *o;                  /* [N, H, Dv] */
    int64_t o_row_stride, o_head_stride;
    float *lse;           /* [N, H] or NULL */
    int64_t num_rows;     /* N */
    int64_t num_partials; /* P */
    int32_t num_heads, value_width, o_dtype;
    int32_t head_tiles; /* ceil(H / the kernel's tile_rows) */

    /* The grid: item number (g * group_rows + t) * head_tiles + i has rows t, t + group_rows, ... of group g. */
    int32_t num_groups, group_rows;

    /* Groups of requests, where reduce_indptr is NULL: group b is the first group_rows rows of
     * [qo_indptr[b], qo_indptr[b+1]); partial s of row r is partial row r * num_splits + s. */
    const int32_t *qo_indptr;
    int32_t num_splits;

    /* Groups of lists: group g has the partials [reduce_indptr[g], reduce_indptr[g+1]) of partial_map, which names the
     * partial row of the group's first row. Its rows are [final_map[g][0], final_map[g][1]), or, without final_map,
     * [g * q, (g + 1) * q) with q the distance of its first two partials (of a lone one: group_rows). */
    const int32_t *reduce_indptr; /* [G+1] or NULL */
    const int32_t *final_map;     /* [G, 2] or NULL */
    const int32_t *partial_map;   /* [num_map] */
    int64_t num_map;
} ac_mla_merge_params_t;

#endif
