/* Tiles of keys on their way into LDS: through registers (staged), or directly (gfx950). Both streams have the same
 * start_stream() and take_tile(). */
#ifndef AC_OPS_ATTENTION_GFX9_STREAMS_H
#define AC_OPS_ATTENTION_GFX9_STREAMS_H

#include "../../../gpu/gfx9/direct_load.h"
#include "item.h"

/* The workgroup's stream of keys: the part that one wave loads. */
template <class a_t> struct staged_stream_t {
    int64_t left;                         /* keys from the tile in LDS to the end */
    uint32_t tile;                        /* its LDS address */
    mla_cursor_t next;                    /* at the tile in `loaded` */
    mla_location_t locations[a_t::LOADS]; /* of the keys after it */
    loaded_t<typename a_t::source_t, a_t::PARTS> loaded[a_t::LOADS];
};

template <class a_t> GPU_INLINE void locate_next_keys(const ac_kv_cache_t &kv, int wave, const mla_cursor_t &cursor,
                                                      staged_stream_t<a_t> *stream) {
    GPU_UNROLL for (int i = 0; i < a_t::LOADS; i++)
        stream->locations[i] = mla_locate(kv, cursor, (a_t::first_load(wave) + i) * 16 + recompute_lane_id() % 16);
}

template <class a_t> GPU_INLINE void load_next_tile(const ac_kv_cache_t &kv, int wave, staged_stream_t<a_t> *stream) {
    mla_cursor_t after = stream->next;
    GPU_UNROLL for (int i = 0; i < a_t::LOADS; i++)
        load_keys(kv, stream->locations[i], recompute_lane_id(), wave % a_t::PARTS, &stream->loaded[i]);
    mla_advance(kv, a_t::KEYS, &after);
    locate_next_keys(kv, wave, after, stream);
}

/* Stores what the wave has loaded. */
template <class a_t>
GPU_INLINE void store_group(const item_t &item, uint32_t lane, int group, int part,
                            const loaded_t<typename a_t::source_t, a_t::PARTS> &loaded) {
    typedef typename a_t::source_t source_t;
    typedef typename a_t::tile tile;
    constexpr int WIDEN = source_t::WIDEN, WIDEN_ROPE = source_t::WIDEN_ROPE;
    typedef loaded_t<source_t, a_t::PARTS> part_t;
    u32x4_t chunks[part_t::LATENT * WIDEN], rope[part_t::ROPE * WIDEN_ROPE];
    widen<typename a_t::matrix_t, WIDEN>(loaded.latent, item.other_fp8, chunks);
    store_latent<typename a_t::matrix_t, WIDEN>(lane, 0, group, part * part_t::LATENT * WIDEN, chunks);
    if (part_has_rope<source_t, a_t::PARTS>(part)) {
        widen<typename a_t::matrix_t, WIDEN_ROPE>(loaded.rope, item.other_fp8, rope);
        store_rope<typename a_t::matrix_t, WIDEN_ROPE>(lane, tile::rope_at(a_t::KEYS), group,
                                                       part * part_t::ROPE * WIDEN_ROPE, rope);
    }
    if (part == 0 && lane < 16) {
        if (source_t::SCALED)
            GPU_UNROLL for (int block = 0; block < BLOCKS; block++)
                lds<float>(tile::scales_at(a_t::KEYS) + (block * a_t::KEYS + 16 * group + lane) * 4) =
                    BITS(float, (uint32_t)loaded.scales[block]) * item.fp8_factor;
        lds<uint32_t>(tile::valid_at(a_t::KEYS) + group * 4) = loaded.valid;
    }
}

template <class a_t>
GPU_INLINE void start_stream(const ac_kv_cache_t &kv, const mla_cursor_t &begin, int wave,
                             staged_stream_t<a_t> *stream) {
    stream->next = begin, stream->tile = 0;
    locate_next_keys(kv, wave, begin, stream);
    load_next_tile(kv, wave, stream);
}

/* Stores the loaded tile in LDS and starts the loads of the next; false when there is none. */
template <class a_t>
GPU_INLINE bool take_tile(const ac_kv_cache_t &kv, const item_t &item, int wave, staged_stream_t<a_t> *stream) {
    stream->left = stream->next.left;
    if (stream->left <= 0) return false;
    gpu_barrier(); /* the last tile is done */
    GPU_UNROLL for (int i = 0; i < a_t::LOADS; i++)
        store_group<a_t>(item, recompute_lane_id(), a_t::first_load(wave) + i, wave % a_t::PARTS, stream->loaded[i]);
    mla_advance(kv, a_t::KEYS, &stream->next);
    load_next_tile(kv, wave, stream);
    gpu_barrier();
    return true;
}

/* --- direct (gfx950): tiles of keys straight from the cache into LDS, unconverted ---
 *
 * No key passes through a register. Loads arrive in the order in which they were started, so a wave waits by counting
 * them, and the next tiles stay in flight:
 *   ... page ids(u + STAGES - 1), keys(u), page ids(u + STAGES), keys(u + 1) ...
 * Page ids are those of the keys that this wave loads; each wave keeps its own in LDS. */

/* The workgroup's stream of keys, as far as one wave loads it. Tile u is in stage u % STAGES. */
template <class a_t> struct direct_stream_t {
    int64_t left;   /* keys from the current tile to the end */
    uint32_t tile;  /* its LDS address */
    uint32_t stage; /* its stage, into which the tile STAGES later is loaded when it is done */
    mla_cursor_t key_cursor, page_id_cursor; /* at the keys that are loaded next; at those whose page ids are */
    bool aligned; /* rows begin at multiples of 16 bytes; direct loads of others are not documented to work */
};

template <class a_t> GPU_INLINE uint32_t page_ids_at(int wave, uint32_t stage) {
    return a_t::PAGE_IDS_AT + (stage * a_t::LOADERS + wave) * a_t::PAGE_IDS_BYTES;
}

/* Starts the load of the page ids of the next tile that has none; `stage` is the tile's. */
template <class a_t>
GPU_INLINE void load_page_ids(const ac_kv_cache_t &kv, int wave, uint32_t stage, direct_stream_t<a_t> *stream) {
    static_assert(a_t::LOADS * 16 <= 64, "a lane loads one entry");
    const uint32_t t = recompute_lane_id();
    const int key = a_t::first_load(wave) * 16 + (int)t;
    const void *page_id = zeros;
    if (t < a_t::LOADS * 16 && key < stream->page_id_cursor.left)
        page_id = stream->page_id_cursor.entry + mla_entries_before(kv, (uint32_t)stream->page_id_cursor.row + key);
    start_load4(page_id, page_ids_at<a_t>(wave, stage));
    mla_advance(kv, a_t::KEYS, &stream->page_id_cursor);
}

/* Starts the loads of a group, whose page ids are in LDS. */
template <class a_t>
GPU_INLINE void load_group(const ac_kv_cache_t &kv, int wave, int i, uint32_t page_ids, uint32_t tile_at,
                           const direct_stream_t<a_t> &stream) {
    typedef typename a_t::tile tile;
    constexpr int LATENT = tile::CHUNK_STEPS / a_t::PARTS, ROPE = tile::ROPE_STEPS / a_t::PARTS;
    static_assert(ROPE * a_t::PARTS == tile::ROPE_STEPS, "all waves load the same amount");
    const uint32_t lane = recompute_lane_id(), t = tile::slot(lane, lane / 16);
    const int group = a_t::first_load(wave) + i, part = wave % a_t::PARTS, key = group * 16 + (int)t;
    uint32_t row = (uint32_t)stream.key_cursor.row + key, entries = mla_entries_before(kv, row);
    mla_location_t location = {lds<int32_t>(page_ids + (i * 16 + t) * 4), (int32_t)(row - entries * kv.entry_rows)};
    bool exists = key < stream.key_cursor.left && mla_in_pool(kv, location);
    uint32_t valid = (uint32_t)__builtin_amdgcn_ballot_w64(exists) & 0xffff; /* lanes 0 to 15 have keys 0 to 15 */
    if (part == 0 && lane == 0) lds<uint32_t>(tile_at + tile::valid_at(a_t::KEYS) + group * 4) = valid;
    const char *latent = exists ? mla_key_address(kv, location, kv.latent_offset, kv.latent_stride) : zeros;
    /* The rope part follows the latent part: the cache is a plain one. */
    const char *rope = exists && kv.rope_dim ? latent + tile::ROW : zeros;
    latent += lane / 16 * 16 + part * LATENT * 64, rope += lane / 16 * 16 + part * ROPE * 64;
    uint32_t to = tile_at + group * tile::GROUP + part * LATENT * tile::RUN;
    uint32_t rope_to = tile_at + tile::rope_at(a_t::KEYS) + (group * tile::ROPE_STEPS + part * ROPE) * tile::RUN;
    if (stream.aligned) {
        start_runs<LATENT, tile::RUN>(latent, to);
        start_runs<ROPE, tile::RUN>(rope, rope_to);
    } else {
        copy_runs<LATENT, tile::RUN>(latent, to);
        copy_runs<ROPE, tile::RUN>(rope, rope_to);
    }
}

/* Loads that a wave starts for a tile. */
template <class a_t> constexpr int tile_loads() {
    return a_t::LOADS * (a_t::tile::CHUNK_STEPS + a_t::tile::ROPE_STEPS) / a_t::PARTS;
}

/* Starts the loads of the next tile, if there is one, into the stage `stage`. */
template <class a_t>
GPU_INLINE void fill_stage(const ac_kv_cache_t &kv, int wave, uint32_t stage, direct_stream_t<a_t> *stream) {
    if (stream->key_cursor.left <= 0) return;
    wait_for_all_but<(a_t::STAGES - 1) * tile_loads<a_t>() + a_t::STAGES - 2>(); /* its page ids have arrived */
    load_page_ids(kv, wave, stage ? stage - 1 : a_t::STAGES - 1, stream);
    GPU_UNROLL for (int i = 0; i < a_t::LOADS; i++)
        load_group<a_t>(kv, wave, i, page_ids_at<a_t>(wave, stage), stage * a_t::TILE_BYTES, *stream);
    mla_advance(kv, a_t::KEYS, &stream->key_cursor);
}

template <class a_t>
GPU_INLINE void start_stream(const ac_kv_cache_t &kv, const mla_cursor_t &begin, int wave,
                             direct_stream_t<a_t> *stream) {
    stream->aligned = (((uint64_t)kv.base | kv.page_stride | kv.latent_offset | kv.latent_stride) & 15) == 0;
    stream->key_cursor = stream->page_id_cursor = begin;
    stream->left = begin.left + a_t::KEYS, stream->stage = a_t::STAGES - 1; /* a tile before the first */
    GPU_NO_UNROLL for (uint32_t stage = 0; stage < a_t::STAGES - 1; stage++) load_page_ids(kv, wave, stage, stream);
    wait_for_all();
    GPU_NO_UNROLL for (uint32_t stage = 0; stage < a_t::STAGES - 1; stage++) fill_stage(kv, wave, stage, stream);
}

/* Waits for the next tile, and starts the loads of the one that replaces the last; false at the end. */
template <class a_t>
GPU_INLINE bool take_tile(const ac_kv_cache_t &kv, const item_t &, int wave, direct_stream_t<a_t> *stream) {
    gpu_barrier(); /* the last tile is done */
    fill_stage(kv, wave, stream->stage, stream);
    stream->stage = stream->stage == a_t::STAGES - 1 ? 0 : stream->stage + 1;
    stream->tile = stream->stage * a_t::TILE_BYTES;
    stream->left -= a_t::KEYS;
    /* After the next tile STAGES - 1 more are in flight, each with its page ids, or the list ends. */
    if (stream->left > (a_t::STAGES - 1) * a_t::KEYS) wait_for_all_but<(a_t::STAGES - 1) * (tile_loads<a_t>() + 1)>();
    else wait_for_all_but<0>();
    gpu_barrier();
    return stream->left > 0;
}

template <class a_t, bool DIRECT = a_t::DIRECT> struct tile_stream_t : staged_stream_t<a_t> {};
template <class a_t> struct tile_stream_t<a_t, true> : direct_stream_t<a_t> {};

#endif
