/* What the MLA decode kernels get: plain data, shared by the host and by the kernels of every device.
 * GPU kernels take the struct by value; workgroup number = work item, see mla_work.h.
 * Symbols: B requests, T query rows, H query heads, S splits of a KV list, D = 576 or 512 (latent + rope),
 * Dv = 512 (latent). Every value that a pointer leads to is untrusted; the kernels clamp and mask.
 * Shapes stand beside the pointers, strides are in bytes. */
#ifndef AC_CORE_MLA_PARAMS_H
#define AC_CORE_MLA_PARAMS_H

#include <stdint.h>

#define AC_MLA_DV 512   /* latent width: the value, and the first part of the key */
#define AC_MLA_ROPE 64  /* rope width, or 0 */

/* One KV cache. A row is three runs of bytes, each at its own place in the page: the latent (512 elements),
 * the rope part (0 or 64) and, for the quantised records, 4 fp32 scales of 128 latent elements each.
 * This one form covers token-by-token pages, region-by-region pages, padded pages and block-major pools. */
typedef struct ac_kv_cache_t {
    const char *base;
    int64_t num_pages;  /* a page index below 0 or from num_pages on masks its rows */
    int64_t page_stride;
    int64_t latent_offset, latent_stride; /* of page, of row */
    int64_t rope_offset, rope_stride;
    int64_t scale_offset, scale_stride;
    int32_t page_size;
    uint32_t page_multiplier, page_shift; /* n / page_size == (uint64_t)n * multiplier >> shift for 0 <= n < 2^31 */
    int32_t latent_dtype, rope_dtype; /* ac_dtype_t */
    int32_t rope_dim;                 /* 64 or 0 */
    int32_t scale_groups;             /* 4, or 0: no scales in the rows */
} ac_kv_cache_t;

/* A per-tensor scale: read on the device where `pointer` is set, else `value`; 1 for an operand that is not fp8. */
typedef struct ac_scale_t {
    const float *pointer; /* [1] */
    float value;
} ac_scale_t;

/* How the KV list of a request is cut. Request b has n = clamp(indptr[b+1] - indptr[b], 0, num_splits) splits, or
 * n = min(count, num_splits) where indptr is NULL; a list of L rows is cut into runs of
 * max(min_rows, round_up(ceil(L / n), granule)) rows: a function of the request's own length, and complete whatever
 * length the plan was made for. */
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
