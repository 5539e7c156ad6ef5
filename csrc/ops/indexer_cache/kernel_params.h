/* What the kernels that write and read the indexer's cache get: plain data, shared by the host and by the kernels of
 * every device. Every value that a pointer leads to is untrusted; see layout.h, which clamps. Strides are in bytes
 * unless they say entries.
 *
 * A page is page_size keys of `dim` bytes, then the fp32 scales of the keys, `groups` each, in the order of the keys.
 */
#ifndef AC_OPS_INDEXER_CACHE_KERNEL_PARAMS_H
#define AC_OPS_INDEXER_CACHE_KERNEL_PARAMS_H

#include "../attention/rope.h"
#include "tile.h"

typedef struct ac_indexer_cache_t {
    char *base;
    int64_t num_pages, page_stride;
    int32_t page_size;
    int32_t dim, groups;
    int32_t preshuffled; /* keys stand in tiles of 16 keys x 16 bytes */
    int32_t dtype;       /* fp8; of no meaning to what only copies */
} ac_indexer_cache_t;

/* Quantised keys: written. */
typedef struct ac_indexer_write_params_t {
    ac_indexer_cache_t cache;
    const char *k; /* [num_tokens, dim] */
    int64_t k_stride;
    const int64_t *slots; /* [num_tokens]: below 0 or past the cache: none */
    int64_t slots_stride; /* entries */
    int64_t num_tokens, num_items;
    int32_t dtype;         /* of k */
    int32_t power_of_2;    /* scales are rounded up to one */
    float limit;           /* what the largest of a group becomes */
    int32_t aligned_words; /* groups and keys are whole words of 4 elements, and all of k is aligned to such */
    /* With rope: also queries, [num_tokens, heads, 128] each, whose scales go into weights [num_tokens, heads]. */
    ac_rope_t rope;
    const float *norm_weight, *norm_bias; /* [128] */
    float epsilon, weights_scale;
    const char *q, *weights;
    int64_t q_stride, q_head_stride, weights_stride, weights_head_stride;
    char *q_out;
    int64_t q_out_stride, q_out_head_stride;
    char *weights_out; /* float32 */
    int64_t weights_out_stride, weights_out_head_stride;
    int32_t heads, q_out_dtype, weights_dtype;
    int32_t writes_all; /* also the queries of tokens without a slot */
    float q_limit;
} ac_indexer_write_params_t;

/* Quantised keys: gathered. */
typedef struct ac_indexer_gather_params_t {
    ac_indexer_cache_t cache;
    char *keys; /* [num_tokens, dim] */
    int64_t keys_stride;
    char *scales; /* [num_tokens, groups] float32, aligned to nothing */
    int64_t scales_stride;
    const int32_t *table; /* [num_requests, table_width]: pages */
    int64_t table_stride; /* entries */
    int64_t table_width;
    const int32_t *indptr; /* [num_requests + 1]: tokens of each request */
    int64_t num_requests, num_tokens;
} ac_indexer_gather_params_t;

#endif
