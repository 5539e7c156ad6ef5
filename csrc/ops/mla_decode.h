/* MLA decode: check -> plan -> launch, on whatever device the tensors are. The texts of every error begin with
 * "mla_decode_fwd: ", the name by which users know the op; its two stages are internal. */
#ifndef AC_OPS_MLA_DECODE_H
#define AC_OPS_MLA_DECODE_H

#include "../core/mla_plan.h"
#include "../core/view.h"

/* A scale as callers pass it: nothing, a number, or a one-element tensor on the host or the device. */
typedef struct ac_scale_arg_t {
    const ac_view_t *view; /* or NULL */
    double value;          /* 1 when nothing was passed */
} ac_scale_arg_t;

/* The arguments by their Python names. NULL views are None. The dtypes of the views are final (q_dtype=, kv_dtype=
 * are applied), but kv_buffer stays uint8 for the two record formats. */
typedef struct ac_mla_decode_args_t {
    const ac_view_t *q;         /* [T, H, D] */
    const ac_view_t *kv_buffer; /* [num_page, page_size, 1, D]; records: see ac_kv_format_t */
    const ac_view_t *o;         /* [T, H, 512] */
    const ac_view_t *qo_indptr, *kv_indptr, *kv_indices, *kv_last_page_lens, *num_kv_splits_indptr;
    const ac_view_t *logits;    /* [T, S, H, 512] float32, or NULL when the plan writes the output */
    const ac_view_t *attn_lse;  /* [T, S, H, 1] float32, likewise */
    const ac_view_t *lse;       /* [T, H] float32, or NULL: not asked */
    ac_scale_arg_t q_scale, kv_scale;
    int64_t max_seqlen_q, page_size, nhead_kv, num_kv_splits; /* num_kv_splits: AC_MLA_AUTO_SPLITS is automatic */
    double sm_scale; /* used when has_sm_scale, else 1/sqrt(D) */
    double logit_cap;
    int has_sm_scale, causal, return_lse, deterministic;
    int kv_format; /* ac_kv_format_t, or -1: from dtype and shape, as AITER's calls mean it */
} ac_mla_decode_args_t;

/* The plan for these arguments: looks at q, kv_buffer, qo_indptr, kv_indices and the numbers. */
int ac_mla_decode_plan(const ac_mla_decode_args_t *args, ac_mla_plan_t *out_plan, ac_error_t *error);

/* Checks every argument of the whole op against the plan, then runs stage 1: final rows and LSE when
 * plan->writes_output, else the partials. Nothing is written when -1 is returned. */
int ac_mla_decode_stage1(const ac_mla_decode_args_t *args, const ac_mla_plan_t *plan, intptr_t stream,
                         ac_error_t *error);

/* Merges the partials (logits, attn_lse) into o and lse. Looks at logits, attn_lse, qo_indptr, o, lse. */
int ac_mla_decode_stage2(const ac_mla_decode_args_t *args, const ac_mla_plan_t *plan, intptr_t stream,
                         ac_error_t *error);

/* The request that a plan for `device` is made from, out of plain numbers (aiter_c.mla_plan). */
int ac_mla_plan_for_device(const ac_mla_request_t *request, ac_device_t device, ac_mla_plan_t *out_plan,
                           ac_error_t *error);

#endif
