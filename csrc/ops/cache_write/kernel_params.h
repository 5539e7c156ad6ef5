/* What the kernels that write MLA caches get: plain data, shared by the host and by the kernels of every device. Every
 * value that a pointer leads to is untrusted; see rows.h, which clamps. Strides are in bytes unless they say entries.
 *
 * A row is a latent part and a rope part. Of each token there are the rows of its keys, which go into the cache, and
 * those of its queries, which go into a tensor. */
#ifndef AC_OPS_CACHE_WRITE_KERNEL_PARAMS_H
#define AC_OPS_CACHE_WRITE_KERNEL_PARAMS_H

#include "../attention/cache.h"
#include "../attention/rope.h"
#include "tile.h"

typedef struct ac_row_source_t {
    const char *latent, *rope; /* [tokens, heads, ..] each */
    int64_t latent_stride, latent_head_stride, rope_stride, rope_head_stride;
    int32_t heads, latent_dim; /* heads may be 0 */
} ac_row_source_t;

typedef struct ac_row_target_t {
    char *data; /* [tokens, heads, ..]; NULL: not written */
    int64_t stride, head_stride;
} ac_row_target_t;

typedef struct ac_cache_write_params_t {
    int64_t num_rows; /* of all tokens */
    int32_t dtype;    /* of both sources */
    int32_t rope_dim;
    ac_rope_t rope;      /* positions NULL: nothing is turned */
    int64_t num_rotated; /* tokens whose keys are turned: the first of them */

    ac_row_source_t key;
    const int64_t *slots; /* [num_mapped]: a token's row in the cache; below 0 or past the cache: none */
    int64_t slots_stride; /* entries */
    int64_t num_mapped;   /* tokens with an entry: the first of them */
    ac_kv_cache_t cache;
    int64_t cache_head_stride;
    ac_scale_t key_scale;
    int32_t key_divides;      /* fp8 keys are divided by the scale, else multiplied by its inverse */
    ac_row_target_t key_rope; /* the rope part once more, in the sources' dtype */

    ac_row_source_t query;
    int64_t num_queries;       /* tokens with queries: the first of them */
    int32_t writes_all;        /* also the queries of tokens without a row in the cache */
    int32_t query_dtype;       /* of the target */
    ac_row_target_t query_out; /* latent and rope part, each at its offset in the row */
    int64_t query_latent_offset, query_rope_offset;
    ac_scale_t query_scale;
    int64_t num_decoded; /* tokens whose queries have two more targets: the first of them */
    ac_row_target_t query_rope, zeros;
} ac_cache_write_params_t;

#endif
