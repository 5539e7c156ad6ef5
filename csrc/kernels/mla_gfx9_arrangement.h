/* How four waves divide a tile among them, and what lies in local memory. */
#ifndef AC_KERNELS_MLA_GFX9_ARRANGEMENT_H
#define AC_KERNELS_MLA_GFX9_ARRANGEMENT_H

#include "mla_gfx9_item.h"

/* Tiles of TILE_GROUPS groups of 16 keys. STAGES of them are in local memory, loaded there directly; 0: one tile,
 * brought there through registers. */
template <class matrix_type, class source_type, int TILE_GROUPS_, int STAGES_> struct tiles_t {
    typedef matrix_type matrix_t;
    typedef source_type source_t;
    typedef tile_t<matrix_t> tile;
    static constexpr int TILE_GROUPS = TILE_GROUPS_, KEYS = TILE_GROUPS * 16, STAGES = STAGES_;
    static constexpr bool DIRECT = STAGES > 0;
    static constexpr int LOADS = TILE_GROUPS > WAVES ? TILE_GROUPS / WAVES : 1; /* groups that a wave loads */
    static constexpr int PARTS = TILE_GROUPS < WAVES ? WAVES / TILE_GROUPS : 1; /* or waves that load a group */
    static constexpr int TILE_BYTES = tile::bytes(KEYS, source_t::SCALED);
    static constexpr int ENTRIES_AT = (DIRECT ? STAGES : 1) * TILE_BYTES, ENTRIES_BYTES = 256;
    static constexpr int TILES_END = ENTRIES_AT + STAGES * WAVES * ENTRIES_BYTES;
    static_assert(PARTS * TILE_GROUPS == LOADS * WAVES, "a wave loads groups of keys, or a part of one");
    GPU_INLINE int first_load(int wave) { return wave * LOADS / PARTS; }
};

/* ROW_WAVES waves with ROW_TILES * 16 rows each; the others have the same rows and other keys, GROUPS * 16 of a tile.
 * LOCAL_STEPS steps of the queries are in local memory, not in registers. */
template <class matrix_type, class source_type, int TERMS_, int ROW_WAVES_, int ROW_TILES_, int GROUPS_,
          int LOCAL_STEPS_, int STAGES>
struct arrangement_t : tiles_t<matrix_type, source_type, GROUPS_ * WAVES / ROW_WAVES_, STAGES> {
    typedef tiles_t<matrix_type, source_type, GROUPS_ * WAVES / ROW_WAVES_, STAGES> tiles;
    static constexpr int TERMS = TERMS_, ROW_WAVES = ROW_WAVES_, ROW_TILES = ROW_TILES_, GROUPS = GROUPS_;
    static constexpr int LOCAL_STEPS = LOCAL_STEPS_;
    static constexpr int KEY_WAVES = WAVES / ROW_WAVES, ROWS = ROW_WAVES * ROW_TILES * 16;
    /* Row tiles whose scores are made together, and how far keys are read ahead for them: what the registers allow. */
    static constexpr int SCORED_TILES = ROW_TILES * GROUPS > 8 ? 1 : ROW_TILES;
    static constexpr int AHEAD = SCORED_TILES < ROW_TILES ? 0 : GROUPS > 2 ? 1 : 2 * GROUPS;
    static constexpr int QUERY_AT = tiles::TILES_END;
    static constexpr int USED_BYTES = QUERY_AT + WAVES * ROW_TILES * TERMS * LOCAL_STEPS * 1024;
    static constexpr int BYTES = KEY_WAVES > 1 && USED_BYTES < MERGE_BYTES ? MERGE_BYTES : USED_BYTES;
};

/* N groups of the tile at `tile_at`, from group `first` on; `left` keys from the tile on. */
template <class a_t, int N>
GPU_INLINE keys_t<N> keys_of_tile(uint32_t tile_at, int64_t left, int most_unseen, int first) {
    typedef typename a_t::tile tile;
    keys_t<N> keys = {opaque_lane(), tile_at + first * tile::GROUP, {}, left - first * 16, most_unseen};
    UNROLLED for (int n = 0; n < N; n++)
        keys.valid[n] = gpu_uniform(local<int>(tile_at + tile::valid_at(a_t::KEYS) + (first + n) * 4));
    return keys;
}

#endif
