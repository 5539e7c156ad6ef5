/* The items of work_items.h for kernels of which the start is a good part of the time: 32-bit numbers, no divisions but
 * those of ragged splits, and all entries of lists that are known at once are read at once. Only where everything is
 * small enough (`fits`), and there are no shards; the same items to the bit. */
#ifndef AC_OPS_ATTENTION_WORK_FAST_H
#define AC_OPS_ATTENTION_WORK_FAST_H

#include "divisor.h"
#include "work_items.h"

typedef struct ac_work_fast_t {
    ac_divisor_t row_tiles, num_splits, split_count, granule, num_heads;
    int32_t table_keys; /* keys of a table's row at most */
    int32_t fits;
} ac_work_fast_t;

/* What the item's rows see of its keys: see mla_range_t. */
typedef struct ac_span_t {
    int32_t first_query, first_head, end, masked_tail;
} ac_span_t;

/* On the host: what the items of these parameters need. */
AC_INLINE ac_work_fast_t ac_work_fast(const ac_attention_params_t *p, const ac_work_source_t *source) {
    const ac_kv_source_t *kv = &p->kv[0];
    const ac_work_grid_t *grid = &source->grid;
    const ac_work_lists_t *lists = &source->lists;
    const ac_splits_t *splits = &grid->splits;
    const int64_t small = 1 << 30, rows = ac_max64(kv->cache.entry_rows, 1);
    const ac_work_fast_t out = {
        .row_tiles = ac_divisor(grid->row_tiles),
        .num_splits = ac_divisor(splits->num_splits),
        .split_count = ac_divisor(ac_min64(splits->count, splits->num_splits)),
        .granule = ac_divisor(splits->granule),
        .num_heads = ac_divisor(p->num_heads),
        .table_keys = (int32_t)ac_clamp64(kv->table_width, 0, small / rows) * (int32_t)rows,
        .fits = p->shard.stride == 1 && p->num_rows < small / ac_max64(p->num_heads, 1) &&
                (grid->qo_indptr || (int64_t)grid->num_requests * grid->max_seqlen_q < small) &&
                kv->num_indices < small / rows && kv->table_width < small / rows && splits->granule < small &&
                splits->min_rows < small && grid->row_tiles < small / 1024 && lists->num_items < small &&
                lists->num_partials < small,
    };
    return out;
}

/* Entry i of a list; 0 without one. On NVIDIA such reads stay in their order, and none waits for another. */
AC_INLINE int32_t ac_entry_if(int wanted, const int32_t *list, int64_t i) {
#if defined(__CUDA_ARCH__)
    int32_t entry;
    asm volatile("{.reg .pred p; setp.ne.s32 p, %2, 0; mov.s32 %0, 0; @p ld.global.s32 %0, [%1];}" : "=&r"(entry)
                 : "l"(list + i), "r"(wanted));
    return entry;
#else
    return wanted ? list[i] : 0;
#endif
}

AC_INLINE int32_t ac_min32(int32_t a, int32_t b) { return a < b ? a : b; }
AC_INLINE int32_t ac_max32(int32_t a, int32_t b) { return a > b ? a : b; }
AC_INLINE int32_t ac_clamp32(int32_t x, int32_t low, int32_t high) { return ac_max32(low, ac_min32(x, high)); }

/* ac_seen_end() without shards. */
AC_INLINE int32_t ac_fast_seen(const ac_work_t *work, int32_t query) {
    int32_t seen = work->causal ? (int32_t)work->frontier + query + 1 : (int32_t)work->total;
    return ac_clamp32(seen, (int32_t)work->begin, (int32_t)work->end);
}

AC_INLINE void ac_fast_span(const ac_attention_params_t *p, const ac_work_fast_t *fast, const ac_work_t *work,
                            ac_span_t *span) {
    span->first_query = (int32_t)ac_divide(fast->num_heads, (uint32_t)work->first_pair);
    span->first_head = (int32_t)work->first_pair - span->first_query * p->num_heads;
    int32_t more = (int32_t)ac_divide(fast->num_heads, (uint32_t)(span->first_head + work->num_rows - 1));
    span->end = ac_fast_seen(work, span->first_query + more);
    span->masked_tail = span->end - ac_fast_seen(work, span->first_query);
}

#endif
