/* The arguments of get_mla_metadata_v1, and the steps that are apart. */
#ifndef AC_OPS_MLA_METADATA_ARGS_H
#define AC_OPS_MLA_METADATA_ARGS_H

#include "../../core/op.h"
#include "../../core/rules.h"
#include "../../device/device.h"
#include "plan.h"

typedef struct ac_mla_metadata_args_t {
    int64_t result; /* words of staging that are needed */
    ac_view_t *seqlens_qo_indptr, *seqlens_kv_indptr, *kv_last_page_lens;
    ac_view_t *work_metadata_ptrs, *work_info_set, *work_indptr, *reduce_indptr, *reduce_final_map, *reduce_partial_map;
    ac_view_t *staging;
    int64_t num_heads_per_head_k, num_heads_k, page_size, kv_granularity, max_seqlen_qo, uni_seqlen_qo, topk;
    int64_t max_split_per_batch, mla_version;
    int is_causal, fast_mode, intra_batch_mode, is_cp_round_robin, deterministic;
    ac_dtype_t dtype_q_nope, dtype_q_rope, dtype_kv_nope, dtype_kv_rope, dtype_q, dtype_kv;
    /* What the check found. */
    ac_sizes_t sizes;
    ac_target_t target, runs_on; /* the device of the lists, and that of the planner */
    bool is_mixed;               /* tensors are on the CPU and on a GPU: then it is the CPU that plans */
    const ac_kernel_t *kernel;
    ac_mla_metadata_params_t params;
} ac_mla_metadata_args_t;

int ac_launch_lists(const ac_mla_metadata_args_t *args, const ac_mla_metadata_params_t *params, intptr_t stream,
                    ac_error_t *error);

/* Tensors on both sides: those on the device have a copy on the host. */
int64_t ac_list_staging_words(const ac_mla_metadata_args_t *args);
int ac_run_staged(ac_mla_metadata_args_t *args, intptr_t stream, ac_error_t *error);

#endif
