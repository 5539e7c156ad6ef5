/* What the MLA decode kernels get: plain data, shared by the host and by the kernels of every device.
 * GPU kernels take the struct by value; workgroup number = work item, see attention/work.h.
 * Symbols: B requests, T query rows, H query heads, S splits of a KV list, D = 576 or 512 (latent + rope),
 * Dv = 512 (latent). Every value that a pointer leads to is untrusted; the kernels clamp and mask.
 * Shapes stand beside the pointers, strides are in bytes. */
#ifndef AC_OPS_MLA_DECODE_KERNEL_PARAMS_H
#define AC_OPS_MLA_DECODE_KERNEL_PARAMS_H

#include "../attention/cache.h"

/* How the KV list of a request is cut. Request b has n = clamp(indptr[b+1] - indptr[b], 0, num_splits) splits, or
 * n = min(count, num_splits) where indptr is NULL; a list of L rows is cut into runs of
 * max(min_rows, round_up(ceil(L / n), granule)) rows: a function of the request's length alone, so that the list is
 * covered whatever length the plan was made for. */
typedef struct ac_splits_t {
    const int32_t *indptr; /* [B+1] or NULL */
    int32_t num_splits;    /* S: the second dimension of the partials */
    int32_t count;
    int32_t min_rows, granule;
} ac_splits_t;

typedef struct ac_mla_decode_params_t {
    const char *q; /* [T, H, D] */
    int64_t q_row_stride, q_head_stride;
    ac_kv_cache_t kv;
    const int32_t *qo_indptr;         /* [B+1] */
    const int32_t *kv_indptr;         /* [B+1]; counts pages */
    const int32_t *kv_indices;        /* [num_indices]: pages */
    const int32_t *kv_last_page_lens; /* [B], or NULL: page_size is 1 */
    ac_splits_t splits;
    char *o; /* [T, H, Dv]; written when writes_output */
    int64_t o_row_stride, o_head_stride;
    float *lse;         /* [T, H] or NULL; written when writes_output. Rows of no request hold -inf beforehand. */
    float *partial_o;   /* [T, S, H, Dv] or NULL; normalised; written when not writes_output */
    float *partial_lse; /* [T, S, H] or NULL; natural log, -inf where a split holds nothing for a row */
    ac_scale_t q_scale, kv_scale;
    float sm_scale;
    int64_t num_rows;    /* T */
    int64_t num_indices; /* entries of kv_indices */
    int32_t batch;       /* B */
    int32_t num_heads;   /* H */
    int32_t max_seqlen_q; /* later rows of a request are not served */
    int32_t row_tiles;   /* tiles of (query row, head) pairs per request: ceil(max_seqlen_q * H / tile_rows) */
    int32_t q_dtype, o_dtype; /* ac_dtype_t */
    int32_t causal;
    int32_t writes_output; /* 1: final rows and LSE (one split); 0: partials */
} ac_mla_decode_params_t;

#endif
