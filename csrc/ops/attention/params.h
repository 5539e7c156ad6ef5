/* What every attention kernel gets: the operands, whatever the work items come from. Plain data, the same on every
 * device; GPU kernels take it by value. Symbols: T query rows, H query heads, D = 576 or 512 (latent + rope), Dv = 512
 * (latent). Shapes stand beside the pointers, strides are in bytes. */
#ifndef AC_OPS_ATTENTION_PARAMS_H
#define AC_OPS_ATTENTION_PARAMS_H

#include "cache.h"

/* A cache, and which of its pages or slots belong to a request: entries [indptr[b], indptr[b + 1]) of `indices`. Or,
 * where `indptr` is NULL, as many of row b of a table as hold lengths[b] keys, or all. */
typedef struct ac_kv_source_t {
    ac_kv_cache_t cache;
    const int32_t *indptr;         /* [B+1]; counts entries */
    const int32_t *indices;        /* [num_indices]: pages or slots; or [B, table_width] */
    const int32_t *last_page_lens; /* [B], or NULL: all pages are full */
    const int32_t *lengths;        /* [B]: keys of a table's row; or NULL */
    int64_t num_indices;
    int64_t table_width, table_stride; /* entries of a row, and from one row to the next */
} ac_kv_source_t;

/* Context parallelism: the keys of a request are dealt to `stride` shards, `block` keys at a time, and the cache holds
 * those of shard `phase`: its key j is key ((j / block) * stride + phase) * block + j % block of the request.
 * {1, 0, 1}: all keys. */
typedef struct ac_shard_t {
    int32_t stride, phase, block;
} ac_shard_t;

typedef struct ac_attention_params_t {
    const char *q; /* [T, H, D] */
    int64_t q_row_stride, q_head_stride;
    ac_kv_source_t kv[2];        /* the second, AC_SECOND_CACHE, is off where its cache.base is NULL */
    const float *sink;           /* [H], AC_SINK; NULL: off */
    const int32_t *total_indptr; /* [B+1]: keys of the requests on all shards together; not read where stride is 1 */
    ac_shard_t shard;
    char *o; /* [T, H, Dv], or [T, H, segments, Dv]; the final rows */
    int64_t o_row_stride, o_head_stride;
    float *lse;         /* [T, H, segments] or NULL; of the final rows */
    int32_t segments;   /* final rows of a query row and head, one per split: for somebody else to merge; or 1 */
    float lse_unit;     /* the LSE, which is computed in base 2, is multiplied by it: ln 2, or 1 */
    float lse_empty;    /* the LSE of a final row without keys, and of a row that no request serves */
    float *partial_o;   /* [partial rows, H, Dv] or NULL; normalised */
    float *partial_lse; /* [partial rows, H] or NULL; natural log, -inf where a partial holds nothing for a row */
    ac_scale_t q_scale, kv_scale;
    float sm_scale;
    int64_t num_rows;         /* T */
    int32_t num_heads;        /* H */
    int32_t q_dtype, o_dtype; /* ac_dtype_t */
    int32_t causal;
} ac_attention_params_t;

#endif
