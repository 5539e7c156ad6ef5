/* Which rows and keys a work item covers. The keys of its range are walked in tiles; a cursor is at a tile's first key.
 * Key t of a tile is located by one multiplication and one load, in the lane that will load the key. */
#ifndef AC_OPS_ATTENTION_WALK_H
#define AC_OPS_ATTENTION_WALK_H

#include "../../gpu/gpu.h"
#include "work.h"

#define MLA_FAR 0x40000000 /* larger than any distance that matters */

/* The keys that some row of the tile sees. The causal mask takes the last keys away from the earlier rows:
 * `masked_tail` of a row is how many. That of the range is the first row's, which is the largest. */
typedef struct mla_range_t {
    int64_t begin, end;
    int64_t first_query;
    int first_head, masked_tail;
} mla_range_t;

/* One row of the tile: a (query token, head) pair. */
typedef struct mla_row_t {
    int64_t query; /* row of q, o and lse */
    int head;
    int masked_tail;
} mla_row_t;

GPU_INLINE int mla_clamp_far(int64_t x) { return (int)ac_clamp64(x, 0, MLA_FAR); }

GPU_INLINE mla_range_t mla_tile_range(const ac_attention_params_t &p, const ac_work_t &work) {
    mla_range_t range;
    range.first_query = work.first_pair / p.num_heads;
    range.first_head = (int)(work.first_pair - range.first_query * p.num_heads);
    uint32_t last_pair = (uint32_t)(range.first_head + work.num_rows - 1);
    range.begin = work.begin;
    range.end = ac_seen_end(&work, range.first_query + last_pair / (uint32_t)p.num_heads);
    range.masked_tail = mla_clamp_far(range.end - ac_seen_end(&work, range.first_query));
    return range;
}

/* Row r of the tile. Rows past the last one duplicate it: computed, never stored. */
GPU_INLINE mla_row_t mla_tile_row(const ac_attention_params_t &p, const ac_work_t &work, const mla_range_t &range,
                                  int r) {
    mla_row_t row;
    uint32_t pair = (uint32_t)(range.first_head + (r < work.num_rows ? r : work.num_rows - 1));
    uint32_t token = pair / (uint32_t)p.num_heads;
    row.query = work.query_begin + range.first_query + token;
    row.head = (int)(pair - token * p.num_heads);
    row.masked_tail = mla_clamp_far(range.end - ac_seen_end(&work, range.first_query + token));
    return row;
}

/* A position in the request's list of pages, the same for all lanes. */
typedef struct mla_cursor_t {
    const int32_t *slot; /* the list entry of the key's page */
    int32_t row;         /* the key's row in its page */
    int64_t left;        /* keys from here to the end of the range */
} mla_cursor_t;

GPU_INLINE uint32_t mla_pages_before(const ac_kv_cache_t &kv, uint32_t rows) {
    return (uint32_t)((uint64_t)rows * kv.page_multiplier >> kv.page_shift);
}

/* At key number `key` of the request, which may be past the range. */
GPU_INLINE mla_cursor_t mla_cursor_at(const ac_attention_params_t &p, const ac_work_t &work, const mla_range_t &range,
                                      int64_t key) {
    int64_t page_size = p.kv[0].cache.page_size, slot = key / page_size;
    return (mla_cursor_t){work.pages + slot, (int32_t)(key - slot * page_size), range.end - key};
}

GPU_INLINE void mla_advance(const ac_kv_cache_t &kv, int keys, mla_cursor_t *cursor) {
    uint32_t row = (uint32_t)cursor->row + keys, pages = mla_pages_before(kv, row);
    cursor->slot += pages;
    cursor->row = (int32_t)(row - pages * kv.page_size);
    cursor->left -= keys;
}

/* Where key `cursor + t` is: page and row in it. Page -1 if it is past the range or masked. */
typedef struct mla_location_t {
    int32_t page, row;
} mla_location_t;

GPU_INLINE mla_location_t mla_locate(const ac_kv_cache_t &kv, const mla_cursor_t &cursor, int t) {
    uint32_t row = (uint32_t)cursor.row + t, pages = mla_pages_before(kv, row);
    mla_location_t location = {-1, (int32_t)(row - pages * kv.page_size)};
    if (t < cursor.left) location.page = gpu_entry(cursor.slot + pages);
    return location;
}

GPU_INLINE bool mla_in_pool(const ac_kv_cache_t &kv, mla_location_t location) {
    return location.page >= 0 && location.page < kv.num_pages;
}

/* The key's part at `offset` of its page, whose rows are `stride` bytes apart. Only for a location in the pool. */
GPU_INLINE const char *mla_key_address(const ac_kv_cache_t &kv, mla_location_t location, int64_t offset,
                                       int64_t stride) {
    return kv.base + ((uint32_t)location.page * kv.page_stride + offset + (uint32_t)location.row * stride);
}

#endif
