/* Work items of the attention kernels: which query rows meet which run of keys, and where the results go. Every value
 * from the caller's tensors is clamped here, once, so that everything after it can trust them. The same code runs in
 * the kernels of every device. */
#ifndef AC_OPS_ATTENTION_WORK_H
#define AC_OPS_ATTENTION_WORK_H

#include "../../core/inline.h"
#include "params.h"

/* Entry i of a list in the caller's memory. On AMD a scalar load, which a workgroup does as one: the compiler does not
 * dare it by itself once the kernel has stored anything. */
AC_INLINE int32_t ac_list_entry(const int32_t *list, int64_t i) {
#if defined(__AMDGCN__)
    return *(const __attribute__((address_space(4))) int32_t *)(list + i);
#else
    return list[i];
#endif
}

/* One work item: a tile of (query token, head) pairs of one request, and a run of the request's keys. Pair r of the
 * tile is number first_pair + r of the request; number n is query token n / H, head n % H. Keys are counted by their
 * place in the cache's list, except where `frontier` and `total` count those of all shards. */
typedef struct ac_work_t {
    int64_t query_begin; /* query row of the request's token 0 */
    int64_t first_pair;
    int num_rows; /* pairs in the tile: 1 .. tile_rows */
    int32_t causal;
    const int32_t *entries; /* the request's part of the list of pages or slots */
    int64_t begin, end;     /* the run of keys */
    int64_t frontier;       /* keys of the request before its query token 0 */
    int64_t total;          /* keys of the request */
    ac_shard_t shard;
    int64_t partial_row; /* token t's results are partial row partial_row + t * partial_step; or, where that is
                            negative, final rows: of segment -1 - partial_row */
    int32_t partial_step;
} ac_work_t;

AC_INLINE int64_t ac_min64(int64_t a, int64_t b) { return a < b ? a : b; }
AC_INLINE int64_t ac_max64(int64_t a, int64_t b) { return a > b ? a : b; }
AC_INLINE int64_t ac_clamp64(int64_t x, int64_t low, int64_t high) { return x < low ? low : x > high ? high : x; }
AC_INLINE int64_t ac_ceil_div64(int64_t a, int64_t b) { return a / b + (a % b != 0); }

/* How many of a request's first `count` keys the shard has; `count` is below 2^31. */
AC_INLINE int64_t ac_shard_count(const ac_shard_t *shard, int64_t count) {
    uint32_t keys = (uint32_t)ac_max64(count, 0), block = (uint32_t)shard->block;
    uint32_t round = (uint32_t)shard->stride * block, rounds = keys / round;
    int64_t rest = (int64_t)(keys - rounds * round) - (int64_t)shard->phase * block;
    return (int64_t)rounds * block + ac_clamp64(rest, 0, block);
}

/* The number, among all keys of the request, of the shard's key `key`. */
AC_INLINE int64_t ac_shard_key(const ac_shard_t *shard, int64_t key) {
    if (shard->stride == 1) return key;
    return (key / shard->block * shard->stride + shard->phase) * shard->block + key % shard->block;
}

/* THE causal rule: query token `query` of the request sees the keys [begin, ac_seen_end) of the item. It sees the keys
 * of the request up to its own position, frontier + query, or, without causal mask, all. */
AC_INLINE int64_t ac_seen_end(const ac_work_t *work, int64_t query) {
    int64_t seen = work->causal ? work->frontier + query + 1 : work->total;
    if (work->shard.stride != 1) seen = ac_shard_count(&work->shard, seen);
    return ac_clamp64(seen, work->begin, work->end);
}

/* Query rows [*out_begin, *out_begin + *out_count) belong to the request; each has `uniform` of them without indptr. */
AC_INLINE void ac_request_queries(const int32_t *qo_indptr, int64_t uniform, int64_t request, int64_t num_rows,
                                  int64_t *out_begin, int64_t *out_count) {
    int64_t first = qo_indptr ? ac_list_entry(qo_indptr, request) : request * uniform;
    int64_t last = qo_indptr ? ac_list_entry(qo_indptr, request + 1) : first + uniform;
    int64_t begin = ac_clamp64(first, 0, num_rows);
    *out_begin = begin;
    *out_count = ac_clamp64(last, begin, num_rows) - begin;
}

#endif
