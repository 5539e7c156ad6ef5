/* The work items of a workgroup on sm_90a, found fast where they can be: see work_fast.h. */
#ifndef AC_OPS_ATTENTION_SM90_ITEMS_H
#define AC_OPS_ATTENTION_SM90_ITEMS_H

#include "../walk.h"
#include "../work_fast_lists.h"

/* GRID: never of lists. */
template <bool GRID_, int ROWS> struct sm90_items {
    static constexpr bool GRID = GRID_;

    const ac_attention_params_t &p;
    const ac_work_source_t &source;
    const ac_work_fast_t &fast;

    GPU_MEMBER bool of_lists() const { return !GRID && source.lists.work_indptr; }

    /* The next item, and what its rows see of its keys. FIRST: nothing is done yet. */
    template <bool FIRST> GPU_MEMBER bool next(ac_work_done_t *done, ac_work_t *work, mla_range_t *range) const {
        ac_span_t span;
        if (!FIRST && done->items == AC_FAST_NO_MORE) return false;
        if (!__builtin_expect(fast.fits, 1)) {
            if (of_lists() ? !ac_work_next(&p, &source, gpu_block(), ROWS, done, work)
                           : done->items++ > 0 || !ac_work_from_grid(&p, &source.grid, gpu_block(), ROWS, work))
                return false;
            *range = mla_tile_range(p, *work);
            return true;
        }
        uint32_t workgroup = blockIdx.x;
        if (!FIRST) asm volatile("" : "+r"(workgroup)); /* what follows from it is not kept from item to item */
        if (of_lists()) {
            if (!ac_fast_from_lists(&p, &source, &fast, workgroup, ROWS, FIRST, done, work, &span)) return false;
        } else {
            if (done->items++ > 0) return false;
            if (!ac_fast_from_grid(&p, &source.grid, &fast, workgroup, ROWS, work, &span)) return false;
        }
        *range = (mla_range_t){work->begin, span.end, span.first_query, span.first_head, span.masked_tail};
        return true;
    }

    /* Row r of the tile: mla_tile_row(). */
    GPU_MEMBER mla_row_t row(const ac_work_t &work, const mla_range_t &range, int r) const {
        uint32_t pair = (uint32_t)(range.first_head + (r < work.num_rows ? r : work.num_rows - 1));
        int64_t token = range.first_query + ac_divide(fast.num_heads, pair);
        return {work.query_begin + token, (int)(pair - (uint32_t)(token - range.first_query) * p.num_heads),
                mla_clamp_far(range.end - ac_seen_end(&work, token))};
    }

    /* mla_cursor_at() the range's begin. */
    GPU_MEMBER mla_cursor_t begin(const ac_work_t &work, const mla_range_t &range) const {
        const ac_kv_cache_t &kv = p.kv[0].cache;
        if (!__builtin_expect(fast.fits, 1)) return mla_cursor_at(p, work, range, range.begin);
        uint32_t key = (uint32_t)range.begin, entry = mla_entries_before(kv, key);
        return (mla_cursor_t){work.entries + entry, (int32_t)(key - entry * kv.entry_rows), range.end - range.begin};
    }
};

/* A scale, asked for where this stands. */
GPU_INLINE float sm90_ask_scale(const ac_scale_t &scale) {
    float value;
    asm volatile("{.reg .pred p; setp.ne.u64 p, %1, 0; mov.f32 %0, %2; @p ld.global.f32 %0, [%1];}" : "=&f"(value)
                 : "l"(scale.pointer), "f"(scale.value));
    return value;
}

#endif
