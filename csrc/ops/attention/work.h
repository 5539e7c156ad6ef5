/* Work items of the MLA decode kernels: which rows meet which run of KV, with every value from the caller's tensors
 * clamped here, once, so that everything after it can trust them. The same code runs in the kernels of every device. */
#ifndef AC_OPS_ATTENTION_WORK_H
#define AC_OPS_ATTENTION_WORK_H

#include "../mla_decode/kernel_params.h"

#if defined(__HIP__) || defined(__CUDACC__)
#define AC_INLINE static inline __device__ __attribute__((always_inline))
#else
#define AC_INLINE static inline
#endif

/* One work item: a tile of (query token, head) pairs of one request, and one split of its KV list.
 * Pair r of the tile is number first_pair + r of the request; number n is query token n / H, head n % H. */
typedef struct ac_mla_work_t {
    int64_t query_begin; /* query row of the request's token 0 */
    int64_t num_queries; /* of the request, served or not: the causal mask is aligned to the last of them */
    int64_t first_pair;
    int num_rows; /* pairs in the tile: 1 .. tile_rows */
    int32_t split;
    const int32_t *pages; /* the request's part of kv_indices */
    int64_t length;       /* KV rows of the request */
    int64_t begin, end;   /* KV rows of the split */
} ac_mla_work_t;

AC_INLINE int64_t ac_min64(int64_t a, int64_t b) { return a < b ? a : b; }
AC_INLINE int64_t ac_max64(int64_t a, int64_t b) { return a > b ? a : b; }
AC_INLINE int64_t ac_clamp64(int64_t x, int64_t low, int64_t high) { return x < low ? low : x > high ? high : x; }
AC_INLINE int64_t ac_ceil_div64(int64_t a, int64_t b) { return a / b + (a % b != 0); }

/* Query rows [*out_begin, *out_begin + *out_count) belong to the request. */
AC_INLINE void ac_mla_queries(const int32_t *qo_indptr, int64_t request, int64_t num_rows, int64_t *out_begin,
                              int64_t *out_count) {
    int64_t begin = ac_clamp64(qo_indptr[request], 0, num_rows);
    *out_begin = begin;
    *out_count = ac_clamp64(qo_indptr[request + 1], begin, num_rows) - begin;
}

/* The request's pages and the number of KV rows in them. */
AC_INLINE void ac_mla_find_kv(const ac_mla_decode_params_t *p, int64_t request, ac_mla_work_t *work) {
    int64_t begin = ac_clamp64(p->kv_indptr[request], 0, p->num_indices);
    int64_t pages = ac_clamp64(p->kv_indptr[request + 1], begin, p->num_indices) - begin;
    int64_t page_size = p->kv.page_size;
    work->pages = pages > 0 ? p->kv_indices + begin : 0;
    work->length = pages * page_size;
    if (p->kv_last_page_lens && pages > 0)
        work->length -= page_size - ac_clamp64(p->kv_last_page_lens[request], 0, page_size);
}

/* The rows of split number work->split; none when the request has fewer splits. */
AC_INLINE void ac_mla_find_split(const ac_splits_t *splits, int64_t request, ac_mla_work_t *work) {
    int64_t count = ac_min64(splits->count, splits->num_splits);
    if (splits->indptr)
        count = ac_clamp64((int64_t)splits->indptr[request + 1] - splits->indptr[request], 0, splits->num_splits);
    work->begin = work->end = 0;
    if (work->split >= count) return;
    int64_t granule = ac_max64(splits->granule, 1);
    int64_t run = ac_max64(ac_ceil_div64(ac_ceil_div64(work->length, count), granule) * granule, splits->min_rows);
    work->begin = ac_min64(work->split * run, work->length);
    work->end = ac_min64(work->begin + run, work->length);
}

/* Item number `index` (split and tile of a request, tile innermost) of tiles of `tile_rows` pairs; returns 0 when it
 * has no rows. */
AC_INLINE int ac_mla_work(const ac_mla_decode_params_t *p, int64_t index, int tile_rows, ac_mla_work_t *out_work) {
    int64_t tile = index % p->row_tiles, rest = index / p->row_tiles;
    int64_t request = rest / p->splits.num_splits;
    out_work->split = (int32_t)(rest % p->splits.num_splits);
    ac_mla_queries(p->qo_indptr, request, p->num_rows, &out_work->query_begin, &out_work->num_queries);
    int64_t pairs = ac_min64(out_work->num_queries, p->max_seqlen_q) * p->num_heads;
    out_work->first_pair = tile * tile_rows;
    if (out_work->first_pair >= pairs) return 0;
    out_work->num_rows = (int)ac_min64(pairs - out_work->first_pair, tile_rows);
    ac_mla_find_kv(p, request, out_work);
    ac_mla_find_split(&p->splits, request, out_work);
    return 1;
}

#endif
