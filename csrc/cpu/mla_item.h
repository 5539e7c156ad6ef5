/* Work items of the MLA decode kernels: which rows meet which run of KV, with every value from the caller's tensors
 * clamped or masked here, once, so that the arithmetic behind it needs no doubt. */
#ifndef AC_CPU_MLA_ITEM_H
#define AC_CPU_MLA_ITEM_H

#include "../core/mla_params.h"
#include "local.h"

/* One work item: a tile of (query token, head) pairs of one request, and one split of its KV list.
 * Pair r of the tile is number first_pair + r of the request; number n is query token n / H, head n % H. */
typedef struct ac_cpu_mla_item_t {
    int64_t query_begin; /* query row of the request's token 0 */
    int64_t num_queries; /* of the request, served or not: the causal mask is aligned to the last of them */
    int64_t first_pair;
    int num_rows; /* pairs in the tile: 1 .. AC_LOCAL_ROWS */
    int32_t split;
    const int32_t *pages; /* the request's part of kv_indices */
    int64_t length;       /* KV rows of the request */
    int64_t begin, end;   /* KV rows of the split */
} ac_cpu_mla_item_t;

/* One key in the cache. */
typedef struct ac_cpu_kv_row_t {
    const char *latent, *rope, *scales;
} ac_cpu_kv_row_t;

/* Keys that are computed together: all of them visible to the rows from `first_row` of the tile on, none to the rows
 * before it. Masked keys are not among them. */
typedef struct ac_cpu_kv_block_t {
    int num_tokens; /* 0: the split is done */
    int first_row;
    ac_cpu_kv_row_t rows[AC_LOCAL_DOT_TOKENS];
} ac_cpu_kv_block_t;

/* Query rows [*out_begin, *out_begin + *out_count) belong to the request. */
void ac_cpu_mla_queries(const int32_t *qo_indptr, int64_t request, int64_t num_rows, int64_t *out_begin,
                        int64_t *out_count);

/* Item number `index` (split and tile of a request, tile innermost); returns 0 when it has no rows. */
int ac_cpu_mla_item(const ac_mla_decode_params_t *params, int64_t index, ac_cpu_mla_item_t *out_item);

/* The next block of at most `capacity` keys from KV row *cursor on; moves the cursor past it. */
void ac_cpu_mla_next_block(const ac_mla_decode_params_t *params, const ac_cpu_mla_item_t *item, int capacity,
                           int64_t *cursor, ac_cpu_kv_block_t *out_block);

#endif
