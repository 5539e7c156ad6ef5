/* A work item, and how four waves divide its rows and keys. */
#ifndef AC_OPS_ATTENTION_GFX9_ITEM_H
#define AC_OPS_ATTENTION_GFX9_ITEM_H

#include "finish.h"

constexpr int WAVES = 4;

/* Where two waves share a SIMD unit, which phase of one it prefers: scores, then the output, then the softmax, whose
 * many VALU instructions would hold up the other half's multiplications. */
enum { PREFER_SOFTMAX, PREFER_OUTPUT, PREFER_SCORES };

typedef struct item_t {
    ac_work_t work;
    mla_range_t range;
    float score_scale; /* with log2(e): scores are in base 2 */
    float value_scale;
    float fp8_factor; /* for the fp8 scales of a record */
    bool other_fp8;   /* fp8 keys are not of the arch's kind */
} item_t;

GPU_INLINE float scale_of(const ac_scale_t &scale) {
    return scale.pointer ? BITS(float, ac_list_entry((const int32_t *)scale.pointer, 0)) : scale.value;
}

/* find_work(&work): the workgroup's next item, from whatever source; false where there is none. (It is asked here, and
 * not by the kernel, because of the registers: 100 are spilled otherwise at 128 rows of fp8.) */
template <class source_t, class find_work_f>
GPU_INLINE bool make_item(const ac_attention_params_t &p, find_work_f find_work, item_t *out) {
    if (!find_work(&out->work)) return false;
    out->range = mla_tile_range(p, out->work);
    bool widens = source_t::WIDEN == 2;
    float kv_scale = scale_of(p.kv_scale), fp8_factor = widens ? fp8_factor_of(p.kv[0].cache.latent_dtype) : 1;
    out->other_fp8 = widens && fp8_is_other(p.kv[0].cache.latent_dtype);
    out->fp8_factor = source_t::SCALED ? fp8_factor : 1;
    if (!source_t::SCALED) kv_scale *= fp8_factor;
    out->score_scale = (float)(p.sm_scale * AC_LOG2_E * scale_of(p.q_scale) * kv_scale);
    out->value_scale = kv_scale;
    return true;
}

GPU_INLINE const char *query_row(const ac_attention_params_t &p, const mla_row_t &row) {
    return p.q + row.query * p.q_row_stride + row.head * p.q_head_stride;
}

template <int N> GPU_INLINE void start_rows(const mla_row_t &row, query_rows_t<N> *rows) {
    const f32x4_t zero = {0, 0, 0, 0};
    rows->softmax = mla_softmax_start();
    rows->masked_tail = row.masked_tail;
    GPU_UNROLL for (int b = 0; b < N; b++)
        GPU_UNROLL for (int e = 0; e < TILES; e++) rows->out[b][e] = zero;
}

template <int GROUPS>
GPU_INLINE void locate_keys(const ac_kv_cache_t &kv, const mla_cursor_t &cursor, uint32_t lane,
                            mla_location_t (&out)[GROUPS]) {
    GPU_UNROLL for (int n = 0; n < GROUPS; n++) out[n] = mla_locate(kv, cursor, 16 * n + lane % 16);
}

/* Where a row's results go. Computed from an opaque lane number, so that nothing of it is kept in registers during the
 * loop. */
GPU_INLINE mla_output_t row_output(const ac_attention_params_t &p, const item_t &item, int first_row,
                                    const mla_softmax_t &softmax) {
    int r = first_row + recompute_lane_id() % 16;
    asm volatile("" : "+v"(r));
    mla_row_t row = mla_tile_row(p, item.work, item.range, r);
    mla_output_t out = mla_row_output(gpu_part_again(p), item.work, row, softmax, item.value_scale);
    if (r >= item.work.num_rows) out.row = nullptr, out.lse = nullptr;
    return out;
}

/* Tiles of TILE_GROUPS groups of 16 keys. STAGES of them are in LDS, loaded directly; 0: one tile, loaded
 * through registers. LOADERS waves load them. */
template <class matrix_type, class source_type, int TILE_GROUPS_, int STAGES_, int LOADERS_ = WAVES> struct tiles_t {
    typedef matrix_type matrix_t;
    typedef source_type source_t;
    typedef tile_t<matrix_t> tile;
    static constexpr int TILE_GROUPS = TILE_GROUPS_, KEYS = TILE_GROUPS * 16, STAGES = STAGES_;
    static constexpr bool DIRECT = STAGES > 0;
    static constexpr int LOADERS = LOADERS_;
    static constexpr int LOADS = TILE_GROUPS > LOADERS ? TILE_GROUPS / LOADERS : 1; /* groups that a wave loads */
    static constexpr int PARTS = TILE_GROUPS < LOADERS ? LOADERS / TILE_GROUPS : 1; /* or waves that load a group */
    static constexpr int TILE_BYTES = tile::bytes(KEYS, source_t::SCALED);
    static constexpr int PAGE_IDS_AT = (DIRECT ? STAGES : 1) * TILE_BYTES, PAGE_IDS_BYTES = 256;
    static constexpr int TILES_END = PAGE_IDS_AT + STAGES * LOADERS * PAGE_IDS_BYTES;
    static_assert(PARTS * TILE_GROUPS == LOADS * LOADERS, "a wave loads groups of keys, or a part of one");
    GPU_INLINE int first_load(int wave) { return wave * LOADS / PARTS; }
};

/* How four waves divide a tile: ROW_WAVES waves with ROW_TILES * 16 rows each; the others have the same rows and other
 * keys, GROUPS * 16. LDS_STEPS steps of the queries are in LDS and not in registers. STAGES: see tiles_t. */
template <int ROW_WAVES_, int ROW_TILES_, int GROUPS_, int LDS_STEPS_, int STAGES_> struct division_t {
    static constexpr int ROW_WAVES = ROW_WAVES_, ROW_TILES = ROW_TILES_, GROUPS = GROUPS_, LDS_STEPS = LDS_STEPS_;
    static constexpr int KEY_WAVES = WAVES / ROW_WAVES, TILE_GROUPS = GROUPS * KEY_WAVES, STAGES = STAGES_;
    static constexpr int ROWS = ROW_WAVES * ROW_TILES * 16, THREADS = WAVES * 64;
};

template <class matrix_type, class source_type, int TERMS_, class division_t>
struct arrangement_t : division_t, tiles_t<matrix_type, source_type, division_t::TILE_GROUPS, division_t::STAGES> {
    typedef tiles_t<matrix_type, source_type, division_t::TILE_GROUPS, division_t::STAGES> tiles;
    using division_t::GROUPS, division_t::KEY_WAVES, division_t::LDS_STEPS, division_t::ROW_TILES;
    using tiles::STAGES, tiles::TILE_GROUPS;
    static constexpr int TERMS = TERMS_;
    /* Row tiles whose scores are computed together, and how far keys are read ahead for them: what registers allow. */
    static constexpr int SCORED_TILES = ROW_TILES * GROUPS > 8 ? 1 : ROW_TILES;
    static constexpr int AHEAD = SCORED_TILES < ROW_TILES ? 0 : GROUPS > 2 ? 1 : 2 * GROUPS;
    static constexpr int QUERY_AT = tiles::TILES_END;
    static constexpr int USED_BYTES = QUERY_AT + WAVES * ROW_TILES * TERMS * LDS_STEPS * 1024;
    static constexpr int BYTES = KEY_WAVES > 1 && USED_BYTES < MERGE_BYTES ? MERGE_BYTES : USED_BYTES;
};

/* N groups of the tile at `tile_at`, from group `first` on; `left` keys from the tile on. */
template <class a_t, int N>
GPU_INLINE keys_t<N> keys_of_tile(uint32_t tile_at, int64_t left, int masked_tail, int first) {
    typedef typename a_t::tile tile;
    keys_t<N> keys = {recompute_lane_id(), tile_at + first * tile::GROUP, {}, left - first * 16, masked_tail};
    const uint32_t valid_at = tile_at + tile::valid_at(a_t::KEYS) + first * 4;
    if constexpr (N % 4 == 0) { /* one wait for four */
        u32x4_t four[N / 4];
        GPU_UNROLL for (int i = 0; i < N / 4; i++) four[i] = lds<u32x4_t>(valid_at + i * 16);
        GPU_UNROLL for (int n = 0; n < N; n++) keys.valid[n] = gpu_uniform((int)four[n / 4][n % 4]);
    } else {
        GPU_UNROLL for (int n = 0; n < N; n++) keys.valid[n] = gpu_uniform(lds<int>(valid_at + n * 4));
    }
    return keys;
}

#endif
