/* How four waves divide a tile among them, and how they bring it into local memory. */
#ifndef AC_KERNELS_MLA_GFX9_ARRANGEMENT_H
#define AC_KERNELS_MLA_GFX9_ARRANGEMENT_H

#include "mla_gfx9_item.h"

/* ROW_WAVES waves with ROW_TILES * 16 rows each; the others have the same rows and other keys, GROUPS * 16 of a tile.
 * LOCAL_STEPS steps of the queries are in local memory, not in registers. */
template <class matrix_type, class source_type, int TERMS_, int ROW_WAVES_, int ROW_TILES_, int GROUPS_,
          int LOCAL_STEPS_>
struct arrangement_t {
    typedef matrix_type matrix_t;
    typedef source_type source_t;
    typedef tile_t<matrix_t> tile;
    static constexpr int TERMS = TERMS_, ROW_WAVES = ROW_WAVES_, ROW_TILES = ROW_TILES_, GROUPS = GROUPS_;
    static constexpr int LOCAL_STEPS = LOCAL_STEPS_;
    static constexpr int KEY_WAVES = WAVES / ROW_WAVES, ROWS = ROW_WAVES * ROW_TILES * 16;
    static constexpr int TILE_GROUPS = GROUPS * KEY_WAVES, KEYS = TILE_GROUPS * 16;
    static constexpr int LOADS = TILE_GROUPS > WAVES ? TILE_GROUPS / WAVES : 1; /* groups that a wave loads */
    static constexpr int PARTS = TILE_GROUPS < WAVES ? WAVES / TILE_GROUPS : 1; /* or waves that load a group */
    static constexpr int TILE_BYTES = KEYS * (tile::ROW + tile::ROPE_ROW + 16) + TILE_GROUPS * 4;
    static constexpr int QUERY_AT = (TILE_BYTES + 15) / 16 * 16;
    static constexpr int USED_BYTES = QUERY_AT + WAVES * ROW_TILES * TERMS * LOCAL_STEPS * 1024;
    static constexpr int BYTES = KEY_WAVES > 1 && USED_BYTES < MERGE_BYTES ? MERGE_BYTES : USED_BYTES;
    static_assert(PARTS * TILE_GROUPS == LOADS * WAVES, "a wave loads groups of keys, or a part of one");
    GPU_INLINE int first_load(int wave) { return wave * LOADS / PARTS; }
};

/* The workgroup's stream of keys, as far as one wave loads it. */
template <class a_t> struct tile_stream_t {
    mla_cursor_t cursor, next; /* at the keys in local memory; at those in `loaded` */
    mla_place_t places[a_t::LOADS]; /* of those after them */
    loaded_t<typename a_t::source_t, a_t::PARTS> loaded[a_t::LOADS];
};

template <class a_t> GPU_INLINE void find_next_places(const ac_kv_cache_t &kv, int wave, const mla_cursor_t &cursor,
                                                      tile_stream_t<a_t> *stream) {
    UNROLLED for (int i = 0; i < a_t::LOADS; i++)
        stream->places[i] = mla_find_place(kv, cursor, (a_t::first_load(wave) + i) * 16 + gpu_lane() % 16);
}

template <class a_t> GPU_INLINE void load_next_tile(const ac_kv_cache_t &kv, int wave, tile_stream_t<a_t> *stream) {
    mla_cursor_t after = stream->next;
    UNROLLED for (int i = 0; i < a_t::LOADS; i++)
        load_keys(kv, stream->places[i], wave % a_t::PARTS, &stream->loaded[i]);
    mla_advance(kv, a_t::KEYS, &after);
    find_next_places(kv, wave, after, stream);
}

/* What the wave has loaded, into local memory. */
template <class a_t>
GPU_INLINE void store_group(const item_t &item, int group, int part,
                            const loaded_t<typename a_t::source_t, a_t::PARTS> &loaded) {
    typedef typename a_t::source_t source_t;
    typedef typename a_t::tile tile;
    constexpr int WIDEN = source_t::WIDEN, WIDEN_ROPE = source_t::WIDEN_ROPE;
    typedef loaded_t<source_t, a_t::PARTS> part_t;
    const uint32_t lane = opaque_lane();
    u32x4_t chunks[part_t::LATENT * WIDEN], rope[part_t::ROPE * WIDEN_ROPE];
    widen<typename a_t::matrix_t, WIDEN>(loaded.latent, item.foreign, chunks);
    store_latent<typename a_t::matrix_t, WIDEN>(lane, 0, group, part * part_t::LATENT * WIDEN, chunks);
    if (part_has_rope<source_t, a_t::PARTS>(part)) {
        widen<typename a_t::matrix_t, WIDEN_ROPE>(loaded.rope, item.foreign, rope);
        store_rope<typename a_t::matrix_t, WIDEN_ROPE>(lane, tile::rope_at(a_t::KEYS), group,
                                                       part * part_t::ROPE * WIDEN_ROPE, rope);
    }
    if (part == 0 && lane < 16) {
        if (source_t::SCALED)
            UNROLLED for (int block = 0; block < BLOCKS; block++)
                local<float>(tile::scales_at(a_t::KEYS) + (block * a_t::KEYS + 16 * group + lane) * 4) =
                    BITS(float, (uint32_t)loaded.scales[block]) * item.unit;
        local<uint32_t>(tile::valid_at(a_t::KEYS) + group * 4) = loaded.valid;
    }
}

#endif
