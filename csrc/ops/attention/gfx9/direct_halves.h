/* gfx950, 128 rows, keys that need no change: eight waves of 16 rows, two on a SIMD unit, in two halves that are a
 * barrier apart, as in halves.h. While one half computes the scores of a tile of 128 (16 bits: 64) keys, the other
 * multiplies values, which it reads transposed from the same tile.
 *   first half     load K(0)    scores(0)    output(0), load K(1)    scores(1)    output(1), load K(2)
 *   second half                              scores(0)               output(0)    scores(1)
 * A tile lives for three intervals, so two stages suffice; the load of a tile begins and ends within one interval. */
#ifndef AC_OPS_ATTENTION_GFX9_DIRECT_HALVES_H
#define AC_OPS_ATTENTION_GFX9_DIRECT_HALVES_H

#include "streams.h"

template <class matrix_type> struct unchanged_source_t {
    typedef same_source_t type;
};
template <> struct unchanged_source_t<fp8_matrix_t> {
    typedef own_fp8_source_t type;
};

/* Tiles of GROUPS_ groups of 16 keys. KEYS_AHEAD, VALUES_AHEAD: multiplications that reads are ahead of, as far as
 * there are registers. */
template <class matrix_type, int GROUPS_, int KEYS_AHEAD_, int VALUES_AHEAD_>
struct direct_halves_t : tiles_t<matrix_type, typename unchanged_source_t<matrix_type>::type, GROUPS_, 2> {
    typedef tiles_t<matrix_type, typename unchanged_source_t<matrix_type>::type, GROUPS_, 2> tiles;
    static constexpr int GROUPS = GROUPS_, KEYS_AHEAD = KEYS_AHEAD_, VALUES_AHEAD = VALUES_AHEAD_;
    static constexpr int HALVES = 2, ROWS = HALVES * WAVES * 16, THREADS = HALVES * WAVES * 64;
    static constexpr int BYTES = tiles::TILES_END;
};

/* Scores of one row tile and all groups of a tile. */
template <class a_t, int AHEAD>
GPU_INLINE void score_tile(uint32_t lane, uint32_t tile_at, const query_t<typename a_t::matrix_t> &query,
                           f32x4_t (&scores)[a_t::GROUPS]) {
    typedef typename a_t::matrix_t matrix_t;
    typedef typename a_t::tile tile;
    constexpr int DOTS = matrix_t::DOTS, GROUPS = a_t::GROUPS;
    constexpr int LATENT = tile::CHUNK_STEPS / DOTS * GROUPS, ALL = LATENT + tile::ROPE_STEPS * GROUPS;
    const uint32_t latent = keep_in_register(tile::lane_part(tile_at, lane % 16, lane / 16));
    u32x4_t a[ALL][DOTS];
    auto read = [&](int i) {
        const int n = i % GROUPS, step = i / GROUPS;
        if (i < LATENT)
    GPU_UNROLL for (int k = 0; k < DOTS; k++)
                a[i][k] = lds<u32x4_t>(tile::chunk(latent, 4 * (step * DOTS + k)) + n * tile::GROUP);
        else
            a[i][0] = lds<u32x4_t>(latent + tile::rope_at(a_t::KEYS) +
                                   (n * tile::ROPE_STEPS + step - LATENT / GROUPS) * tile::RUN);
    };
    GPU_UNROLL for (int n = 0; n < GROUPS; n++) scores[n] = (f32x4_t){0, 0, 0, 0};
    GPU_UNROLL for (int i = 0; i < AHEAD; i++) read(i);
    GPU_UNROLL for (int i = 0; i < ALL; i++) {
        const int n = i % GROUPS, step = i / GROUPS;
        if (i + AHEAD < ALL) read(i + AHEAD);
        __builtin_amdgcn_sched_barrier(6); /* no read and no multiplication crosses it */
        if (i < LATENT) {
            u32x4_t b[DOTS];
            GPU_UNROLL for (int k = 0; k < DOTS; k++) b[k] = query.latent[step * DOTS + k];
            scores[n] = dots<matrix_t>(a[i], b, scores[n]);
        } else {
            scores[n] = matrix_t::dot(a[i][0], query.rope[step - LATENT / GROUPS], scores[n]);
        }
    }
}

/* O^T += V^T P^T, of keys that all rows see alike. */
template <class a_t>
GPU_INLINE void add_tile(uint32_t tile_at, const probabilities_t<typename a_t::matrix_t, false, a_t::GROUPS> &p,
                         query_rows_t<> *rows) {
    typedef typename a_t::matrix_t matrix_t;
    constexpr int STEP = matrix_t::GROUPS, WORDS = STEP * matrix_t::BYTES, COLUMNS = BLOCKS * TILES;
    constexpr int AHEAD = a_t::VALUES_AHEAD, ALL = a_t::GROUPS / STEP * COLUMNS;
    const uint32_t from = values_of_lane<matrix_t>(recompute_lane_id(), tile_at);
    uint32_t a[ALL][WORDS];
    auto read = [&](int i) { read_column_tile<matrix_t, STEP>(from, i / COLUMNS * STEP, i % COLUMNS, a[i]); };
    GPU_UNROLL for (int i = 0; i < AHEAD; i++) read(i);
    GPU_UNROLL for (int i = 0; i < ALL; i++) {
        if (i + AHEAD < ALL) read(i + AHEAD);
        __builtin_amdgcn_sched_barrier(6); /* no read and no multiplication crosses it */
        uint32_t words[WORDS];
        GPU_UNROLL for (int w = 0; w < WORDS; w++) words[w] = p.words[i / COLUMNS * WORDS + w];
        f32x4_t &out = rows->out[i % COLUMNS / TILES][i % TILES];
        out = multiply<matrix_t>(a[i], words, out);
    }
}

template <class a_t, seen_t SEEN>
GPU_INLINE void attend_in_direct_halves(const ac_kv_cache_t &kv, const item_t &item, int wave, uint32_t stage,
                                        const keys_t<a_t::GROUPS> &keys,
                                        const query_t<typename a_t::matrix_t> (&query)[1], direct_stream_t<a_t> *stream,
                                        query_rows_t<> (&rows)[1]) {
    typedef typename a_t::matrix_t matrix_t;
    f32x4_t scores[a_t::GROUPS];
    probabilities_t<matrix_t, false, a_t::GROUPS> probabilities[1];
    score_tile<a_t, SEEN == SEEN_OWN ? 1 : a_t::KEYS_AHEAD>(keys.lane, keys.latent, query[0], scores);
    __builtin_amdgcn_s_setprio(PREFER_SOFTMAX);
    online_softmax<matrix_t, SEEN>(keys, item.score_scale, scores, &rows[0]);
    pack_probabilities(scores, &probabilities[0]);
    gpu_barrier();
    __builtin_amdgcn_s_setprio(PREFER_SCORES);
    if (wave < WAVES) fill_stage(kv, wave, 1 - stage, stream);
    __builtin_amdgcn_s_setprio(PREFER_OUTPUT);
    auto no_scales = [](int, int) { return (f32x4_t){}; };
    if constexpr (SEEN == SEEN_OWN) multiply_values<matrix_t, false, false>(keys, no_scales, probabilities, rows);
    else add_tile<a_t>(keys.latent, probabilities[0], &rows[0]);
    if (wave < WAVES) wait_for_all_but<0>();
}

template <class a_t, class find_work_f>
GPU_INLINE bool decode_in_direct_halves(const ac_attention_params_t &p, find_work_f find_work) {
    typedef typename a_t::matrix_t matrix_t;
    item_t item;
    if (!make_item<typename a_t::source_t>(p, find_work, &item)) return false;
    const ac_kv_cache_t &kv = p.kv[0].cache;
    const int wave = gpu_uniform(gpu_thread() / 64), masked_tail = item.range.masked_tail;
    query_t<matrix_t> query[1];
    query_rows_t<> rows[1];
    direct_stream_t<a_t> stream;
    if (wave < WAVES) start_stream(kv, mla_cursor_at(p, item.work, item.range, item.range.begin), wave, &stream);
    mla_row_t row = mla_tile_row(p, item.work, item.range, wave * 16 + recompute_lane_id() % 16);
    load_query<matrix_t, 1, 1>(query_row(p, row), kv.rope_dim, query);
    start_rows(row, &rows[0]);
    wait_for_all();
    gpu_barrier();
    if (wave >= WAVES) gpu_barrier(); /* from here on a barrier behind the first half */

    uint32_t stage = 0;
    int64_t left = item.range.end - item.range.begin;
    auto keys_f = [&] { return keys_of_tile<a_t, a_t::GROUPS>(stage * a_t::TILE_BYTES, left, masked_tail, 0); };
    auto step = [&](auto seen, const keys_t<a_t::GROUPS> &keys) {
        constexpr seen_t SEEN = (seen_t) decltype(seen)::value;
        attend_in_direct_halves<a_t, SEEN>(kv, item, wave, stage, keys, query, &stream, rows);
        gpu_barrier();
        __builtin_amdgcn_s_setprio(PREFER_SCORES);
        stage = 1 - stage, left -= a_t::KEYS;
    };
    while (left > 0 && rows_see_the_same(left, a_t::KEYS, masked_tail)) step(count_t<SEEN_SAME>(), keys_f());
    while (left > 0) step(count_t<SEEN_OWN>(), keys_f());
    if (wave < WAVES) gpu_barrier();

    mla_softmax_t softmax = {rows[0].softmax.base, sum_of_row(rows[0].softmax.sum)};
    store_alone(row_output(p, item, wave * 16, softmax), rows[0], 0);
    return true;
}

#endif
