/* A work item, and what every arrangement of waves needs of it. */
#ifndef AC_OPS_ATTENTION_GFX9_ITEM_H
#define AC_OPS_ATTENTION_GFX9_ITEM_H

#include "finish.h"

#define WAVES 4

typedef struct item_t {
    ac_mla_work_t work;
    mla_range_t range;
    float score_scale; /* with log2(e): scores are in base 2 */
    float value_scale;
    float unit; /* of the fp8 scales of a record */
    bool foreign; /* fp8 keys are not of the arch's kind */
} item_t;

GPU_INLINE float scale_of(const ac_scale_t &scale) { return scale.pointer ? *scale.pointer : scale.value; }

template <class source_t> GPU_INLINE bool find_item(const ac_mla_decode_params_t &p, int tile_rows, item_t *out) {
    if (!ac_mla_work(&p, gpu_block(), tile_rows, &out->work)) return false;
    out->range = mla_find_range(p, out->work);
    bool widens = source_t::WIDEN == 2;
    float kv_scale = scale_of(p.kv_scale), unit = widens ? fp8_unit(p.kv.latent_dtype) : 1;
    out->foreign = widens && fp8_is_foreign(p.kv.latent_dtype);
    out->unit = source_t::SCALED ? unit : 1;
    if (!source_t::SCALED) kv_scale *= unit;
    out->score_scale = (float)(p.sm_scale * 1.4426950408889634 * scale_of(p.q_scale) * kv_scale);
    out->value_scale = kv_scale;
    return true;
}

GPU_INLINE const char *query_row(const ac_mla_decode_params_t &p, const mla_row_t &row) {
    return p.q + row.query * p.q_row_stride + row.head * p.q_head_stride;
}

template <int N> GPU_INLINE void start_rows(const mla_row_t &row, rows_t<N> *rows) {
    const f32x4_t zero = {0, 0, 0, 0};
    rows->softmax = mla_softmax_start();
    rows->unseen = row.unseen;
    UNROLLED for (int b = 0; b < N; b++)
        UNROLLED for (int e = 0; e < TILES; e++) rows->out[b][e] = zero;
}

template <int GROUPS>
GPU_INLINE void find_places(const ac_kv_cache_t &kv, const mla_cursor_t &cursor, mla_place_t (&out)[GROUPS]) {
    UNROLLED for (int n = 0; n < GROUPS; n++) out[n] = mla_find_place(kv, cursor, 16 * n + gpu_lane() % 16);
}

/* Looks up where a row's results go; again, and from an opaque lane number, so that nothing of a row was kept in
 * registers for it. */
GPU_INLINE mla_output_t find_output(const ac_mla_decode_params_t &p, const item_t &item, int first_row,
                                    const mla_softmax_t &softmax) {
    int r = first_row + gpu_lane() % 16;
    asm volatile("" : "+v"(r));
    mla_row_t row = mla_find_row(p, item.work, item.range, r);
    mla_output_t out = mla_find_output(p, item.work, row, softmax, item.value_scale);
    if (r >= item.work.num_rows) out.row = nullptr, out.lse = nullptr;
    return out;
}

/* How four waves divide a tile among them, and what lies in local memory. */

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
