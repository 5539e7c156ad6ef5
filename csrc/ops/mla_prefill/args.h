/* The arguments of prefill by their Python names; the rows of params*.inc fill them. NULL views are None. */
#ifndef AC_OPS_MLA_PREFILL_ARGS_H
#define AC_OPS_MLA_PREFILL_ARGS_H

#include "../../core/op.h"
#include "../../core/rules.h"
#include "../../device/device.h"
#include "kernel_params.h"

typedef struct ac_mla_prefill_args_t {
    ac_view_t *Q;      /* [T, H, D] */
    ac_view_t *K, *V;  /* [slots, Hkv, D], [slots, Hkv, Dv] */
    ac_view_t *output; /* [T, H, Dv] */
    ac_view_t *qo_indptr, *kv_indptr, *kv_page_indices;
    ac_view_t *work_indptr, *work_info_set, *reduce_indptr, *reduce_final_map, *reduce_partial_map; /* NULL: no lists */
    ac_view_t *splitData, *splitLse; /* the partials: [R, H, Dv] and [R, H] float32, or with a 1 after R */
    ac_view_t *final_lse;            /* [T, H] float32, or NULL */
    ac_scale_arg_t q_scale, k_scale, v_scale;
    int64_t max_seqlen_q;
    double softmax_scale;
    int is_causal, return_lse;
    ac_dtype_t q_dtype, kv_dtype;
    /* What the check found. */
    const char *op;
    ac_sizes_t sizes;
    ac_target_t target;
    const ac_kernel_t *kernel;
} ac_mla_prefill_args_t;

/* Query rows of an item of lists at most: their tile, in which the scratch is counted. */
#define AC_PREFILL_ITEM_ROWS 256

/* Partial rows that hold every plan of get_ps_metadata_v1 for T query rows of B requests, W workers and Hkv heads; or
 * -1 where int64 cannot count them. `entries`: of reduce_partial_map, each of which is a tile at most. */
int64_t ac_prefill_partial_rows(int64_t rows, int64_t requests, int64_t workers, int64_t kv_heads, int64_t entries);

#endif
