/* 32 to 128 rows: the waves bring tiles of keys into local memory together, and divide the rows (and, at 32 rows, the
 * keys) of each among them. */
#ifndef AC_OPS_ATTENTION_GFX9_TOGETHER_H
#define AC_OPS_ATTENTION_GFX9_TOGETHER_H

#include "streams.h"

/* Where the wave's step of a query is in local memory. */
template <class a_t> GPU_INLINE uint32_t local_query(uint32_t lane, int wave, int r, int term, int step) {
    int number = ((wave * a_t::ROW_TILES + r) * a_t::TERMS + term) * a_t::LOCAL_STEPS + step;
    return a_t::QUERY_AT + lane * 16 + number * 1024;
}

template <class a_t, bool ALL>
GPU_INLINE void attend_tile(const item_t &item, uint32_t tile_at, int wave, const keys_t<a_t::GROUPS> &keys,
                            int first_group,
                            const query_t<typename a_t::matrix_t> (&query)[a_t::ROW_TILES][a_t::TERMS],
                            rows_t<> (&rows)[a_t::ROW_TILES]) {
    typedef typename a_t::tile tile;
    constexpr bool SCALED = a_t::source_t::SCALED;
    auto scales_f = [&](int n, int block) {
        uint32_t key = (first_group + n) * 16 + keys.lane / 16 * 4;
        return local<f32x4_t>(tile_at + tile::scales_at(a_t::KEYS) + (block * a_t::KEYS + key) * 4);
    };
    const uint32_t key = first_group * 16 + keys.lane % 16, g = keys.lane / 16;
    const uint32_t latent = tile::lane_part(tile_at, key, g);
    auto key_f = [&](int n, int step, bool is_rope) {
        uint32_t rope = tile_at + tile::rope_at(a_t::KEYS);
        return local<u32x4_t>(is_rope ? tile::rope_chunk(rope, key + n * 16, 4 * step + g)
                                      : tile::chunk(latent, 4 * step) + n * tile::GROUP);
    };
    auto query_f = [&](int r, int term, int step, bool is_rope) {
        if (is_rope) return query[r][term].rope[step];
        if (step >= a_t::LOCAL_STEPS) return query[r][term].latent[step];
        return local<u32x4_t>(local_query<a_t>(keys.lane, wave, r, term, step));
    };
    weights_t<typename a_t::matrix_t, SCALED, a_t::GROUPS> weights[a_t::ROW_TILES];
    UNROLLED for (int first = 0; first < a_t::ROW_TILES; first += a_t::SCORED_TILES) {
        f32x4_t scores[a_t::SCORED_TILES][a_t::GROUPS];
        asm volatile("" ::: "memory"); /* read the keys again, rather than keep them for the next row tile */
        score<typename a_t::matrix_t, SCALED, a_t::TERMS, a_t::AHEAD>(
            [&](int r, int term, int step, bool is_rope) { return query_f(first + r, term, step, is_rope); }, scales_f,
            key_f, scores);
        UNROLLED for (int r = 0; r < a_t::SCORED_TILES; r++) {
            soften<typename a_t::matrix_t, ALL>(keys, item.score_scale, scores[r], &rows[first + r]);
            weigh(scores[r], &weights[first + r]);
        }
        __builtin_amdgcn_sched_barrier(0); /* scores become fewer registers of weights before the next ones */
    }
    attend<typename a_t::matrix_t, SCALED, ALL>(keys, scales_f, weights, rows);
}

template <class a_t> GPU_INLINE void decode_together(const ac_mla_decode_params_t &p) {
    typedef typename a_t::matrix_t matrix_t;
    item_t item;
    if (!find_item<typename a_t::source_t>(p, a_t::ROWS, &item)) return;
    const int wave = gpu_uniform(gpu_thread() / 64), row_wave = wave / a_t::KEY_WAVES, key_wave = wave % a_t::KEY_WAVES;
    const int first_row = row_wave * a_t::ROW_TILES * 16, first_group = key_wave * a_t::GROUPS;
    query_t<matrix_t> query[a_t::ROW_TILES][a_t::TERMS];
    rows_t<> rows[a_t::ROW_TILES];
    tile_stream_t<a_t> stream;
    UNROLLED for (int r = 0; r < a_t::ROW_TILES; r++) {
        mla_row_t row = mla_find_row(p, item.work, item.range, first_row + r * 16 + gpu_lane() % 16);
        load_query<matrix_t, 1, 1>(query_row(p, row), p.kv.rope_dim, query[r]);
        UNROLLED for (int term = 0; term < a_t::TERMS; term++)
            UNROLLED for (int i = 0; i < a_t::LOCAL_STEPS; i++)
                local<u32x4_t>(local_query<a_t>(gpu_lane(), wave, r, term, i)) = query[r][term].latent[i];
        start_rows(row, &rows[r]);
    }
    start_stream(p.kv, mla_cursor_at(p, item.work, item.range, item.range.begin), wave, &stream);
    const int most_unseen = item.range.most_unseen;
    bool more = take_tile(p.kv, item, wave, &stream);
    for (; more; more = take_tile(p.kv, item, wave, &stream)) {
        auto keys = keys_of_tile<a_t, a_t::GROUPS>(stream.tile, stream.left, most_unseen, first_group);
        if (!sees_all(keys)) break;
        attend_tile<a_t, true>(item, stream.tile, wave, keys, first_group, query, rows);
    }
    for (; more; more = take_tile(p.kv, item, wave, &stream)) {
        auto keys = keys_of_tile<a_t, a_t::GROUPS>(stream.tile, stream.left, most_unseen, first_group);
        attend_tile<a_t, false>(item, stream.tile, wave, keys, first_group, query, rows);
    }

    gpu_barrier();
    UNROLLED for (int r = 0; r < a_t::ROW_TILES; r++) {
        mla_softmax_t softmax = {rows[r].softmax.base, sum_of_row(rows[r].softmax.sum)};
        if constexpr (a_t::KEY_WAVES == 1) {
            store_alone(find_output(p, item, first_row + r * 16, softmax), rows[r], 0);
        } else {
            float factor = merge_softmax<a_t::KEY_WAVES>(wave - key_wave, key_wave, &softmax);
            store_shared<a_t::KEY_WAVES>(find_output(p, item, first_row + r * 16, softmax), rows[r], factor,
                                         wave - key_wave, key_wave);
        }
    }
}

#endif
