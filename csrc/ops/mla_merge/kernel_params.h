/* What the merge kernels get: plain data, shared by the host and by the kernels of every device. Symbols: G groups,
 * N final rows, P rows of partials, H heads, Dv values. Strides are in bytes. Every value that a pointer leads to is
 * untrusted; the kernels clamp and mask. */
#ifndef AC_OPS_MLA_MERGE_KERNEL_PARAMS_H
#define AC_OPS_MLA_MERGE_KERNEL_PARAMS_H

#include <stdint.h>

/* A group is a run of final rows with the partials that they are made of; see group.h. The groups are the requests of a
 * batch, each row with num_splits partials beside one another, or they come from lists.
 * Work item number (g * row_slots + i) * head_tiles + j: rows i, i + row_slots, ... of group g, and heads
 * [j * tile, (j + 1) * tile) with the kernel table's tile_rows as tile. */
typedef struct ac_mla_merge_params_t {
    const float *partial_o;       /* [P, H, Dv], normalised */
    const float *partial_lse;     /* [P, H], natural log; -inf: the partial holds nothing, and its row is not read */
    const int32_t *reduce_indptr; /* [G+1]: a group's entries of partial_map; or NULL: the groups are requests, and: */
    const int32_t *qo_indptr;     /* [G+1]: their rows; or NULL: each has max_seqlen_q rows */
    const int32_t *final_map;     /* [G, 2]: first final row, and the one past the last; or NULL */
    const int32_t *partial_map;   /* [num_entries] */
    char *o;                      /* [N, H, Dv] */
    int64_t o_row_stride, o_head_stride;
    float *lse;                                              /* [N, H] or NULL */
    int64_t num_rows, num_partials, num_entries, num_groups; /* N, P, of partial_map, G */
    int32_t num_heads, value_dim;
    int32_t max_seqlen_q; /* of requests: later rows are not served; without a final_map: rows of a group */
    int32_t row_slots, head_tiles;
    int32_t num_splits;
    int32_t o_dtype;
    int32_t
        lists_are_complete; /* before the kernel that runs before: a kernel that starts early may read them at once */
} ac_mla_merge_params_t;

/* Kernels that take turns have as many workgroups as are resident at a time, whatever there is to do: with few (row,
 * head) pairs each does a quarter of a pair's columns. */
#define AC_MERGE_TURNS_PER_UNIT 2
#define AC_MERGE_QUARTERS 4

#endif
