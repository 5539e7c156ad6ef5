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

/* A position in the request's list of pages or slots, the same for all lanes. */
typedef struct mla_cursor_t {
    const int32_t *entry; /* the key's */
    int32_t row;          /* the key's, of those that the entry stands for */
    int64_t left;         /* keys from here to the end of the range */
} mla_cursor_t;

GPU_INLINE uint32_t mla_page_of(const ac_kv_cache_t &kv, uint32_t row) {
    return (uint32_t)((uint64_t)row * kv.page_multiplier >> kv.page_shift);
}

GPU_INLINE uint32_t mla_entries_before(const ac_kv_cache_t &kv, uint32_t rows) {
    return kv.entry_rows == 1 ? rows : mla_page_of(kv, rows);
}

/* At key number `key` of the request, which may be past the range. */
GPU_INLINE mla_cursor_t mla_cursor_at(const ac_attention_params_t &p, const ac_work_t &work, const mla_range_t &range,
                                      int64_t key) {
    int64_t rows = p.kv[0].cache.entry_rows, entry = key / rows;
    return (mla_cursor_t){work.entries + entry, (int32_t)(key - entry * rows), range.end - key};
}

GPU_INLINE void mla_advance(const ac_kv_cache_t &kv, int keys, mla_cursor_t *cursor) {
    uint32_t row = (uint32_t)cursor->row + keys, entries = mla_entries_before(kv, row);
    cursor->entry += entries;
    cursor->row = (int32_t)(row - entries * kv.entry_rows);
    cursor->left -= keys;
}

/* Where key `cursor + t` is: the list's entry, and its row of that. Entry -1 if it is past the range or masked. */
typedef struct mla_location_t {
    int32_t entry, row;
} mla_location_t;

GPU_INLINE mla_location_t mla_locate(const ac_kv_cache_t &kv, const mla_cursor_t &cursor, int t) {
    uint32_t row = (uint32_t)cursor.row + t, entries = mla_entries_before(kv, row);
    mla_location_t location = {-1, (int32_t)(row - entries * kv.entry_rows)};
    if (t < cursor.left) location.entry = gpu_entry(cursor.entry + entries);
    return location;
}

GPU_INLINE bool mla_in_pool(const ac_kv_cache_t &kv, mla_location_t location) {
    return location.entry >= 0 && location.entry < kv.num_entries;
}

/* A key's page and its row there. Only for a location in the pool. */
typedef struct mla_place_t {
    uint32_t page, row;
} mla_place_t;

GPU_INLINE mla_place_t mla_place(const ac_kv_cache_t &kv, mla_location_t location) {
    uint32_t entry = (uint32_t)location.entry;
    if (kv.entry_rows == kv.page_size) return (mla_place_t){entry, (uint32_t)location.row};
    uint32_t page = mla_page_of(kv, entry);
    return (mla_place_t){page, entry - page * kv.page_size};
}

/* The key's part at `offset` of its page, whose rows are `stride` bytes apart. Only for a location in the pool. */
GPU_INLINE const char *mla_key_address(const ac_kv_cache_t &kv, mla_location_t location, int64_t offset,
                                       int64_t stride) {
    mla_place_t place = mla_place(kv, location);
    return kv.base + (place.page * kv.page_stride + offset + place.row * stride);
}

#endif
