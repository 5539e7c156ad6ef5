/* The arguments of the MLA decode functions by their Python names; the rows of params*.inc fill them. NULL views are
 * None. */
#ifndef AC_OPS_MLA_DECODE_ARGS_H
#define AC_OPS_MLA_DECODE_ARGS_H

#include "../../core/op.h"
#include "../../core/rules.h"
#include "../../device/device.h"
#include "../attention/cache_arg.h"
#include "plan.h"
#include "stage2.h"

typedef struct ac_mla_decode_args_t {
    ac_view_t *q;         /* [T, H, D] */
    ac_view_t *kv_buffer; /* [num_page, page_size, 1, D]; records: see cache_format.inc */
    ac_view_t *o;         /* [T, H, 512] */
    ac_view_t *qo_indptr, *kv_indptr, *kv_indices, *kv_last_page_lens, *num_kv_splits_indptr;
    /* The lists of the persistent mode, a group: all of them except for meta_data and final_map, or none. */
    ac_view_t *work_meta_data, *work_indptr, *work_info_set, *reduce_indptr, *reduce_final_map, *reduce_partial_map;
    ac_view_t *g_kv_indptr; /* [B+1]; NULL: no context parallelism */
    ac_view_t *sink;        /* [H]; NULL: none */
    /* Of variants alone: see variant.c. */
    ac_view_t *q_pe, *k_pe;            /* rope parts that lie behind the latent ones */
    ac_view_t *block_tables, *kv_lens; /* [B, w] and [B], in place of kv_indptr and kv_indices */
    ac_view_t *expsum;                 /* [T, H, S] float32, where the call is segmented */
    ac_view_t *logits;   /* float32 where the plan has partials: [T, S, H, 512], or by lists [P * max_q, 1, H, 512] */
    ac_view_t *attn_lse; /* float32, likewise, with 1 in place of 512 */
    ac_view_t *lse;      /* [T, H] float32, or NULL: not asked for */
    ac_scale_arg_t q_scale, kv_scale;
    int64_t max_seqlen_q, page_size, nhead_kv, num_kv_splits, cp_world_size, cp_rank, cp_interleave;
    double sm_scale, logit_cap;
    int64_t kv_pe_offset, max_kv_len;
    int causal, return_lse, lse_per_split, deterministic, kv_format, segmented, natural, slots;
    ac_dtype_t q_dtype, kv_dtype;
    /* What the check found. */
    ac_sizes_t sizes;
    ac_target_t target;
    ac_kv_kind_t kv;
    ac_kv_cache_t cache;
} ac_mla_decode_args_t;

#endif
