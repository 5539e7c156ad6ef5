/* 128 rows, and fewer of fp8 and of records: the waves load tiles of keys into LDS together, and divide the rows (at 32
 * rows also the keys) of each tile among them. */
#ifndef AC_OPS_ATTENTION_GFX9_SHARED_TILE_H
#define AC_OPS_ATTENTION_GFX9_SHARED_TILE_H

#include "streams.h"

/* The LDS address of a step of the wave's queries. */
template <class a_t> GPU_INLINE uint32_t lds_query(uint32_t lane, int wave, int r, int term, int step) {
    int number = ((wave * a_t::ROW_TILES + r) * a_t::TERMS + term) * a_t::LDS_STEPS + step;
    return a_t::QUERY_AT + lane * 16 + number * 1024;
}

template <class a_t, seen_t SEEN>
GPU_INLINE void attend_shared_tile(const item_t &item, uint32_t tile_at, int wave, const keys_t<a_t::GROUPS> &keys,
                                   int first_group,
                                   const query_t<typename a_t::matrix_t> (&query)[a_t::ROW_TILES][a_t::TERMS],
                                   query_rows_t<> (&rows)[a_t::ROW_TILES]) {
    typedef typename a_t::tile tile;
    constexpr bool SCALED = a_t::source_t::SCALED;
    auto scales_f = [&](int n, int block) {
        uint32_t key = (first_group + n) * 16 + keys.lane / 16 * 4;
        return lds<f32x4_t>(tile_at + tile::scales_at(a_t::KEYS) + (block * a_t::KEYS + key) * 4);
    };
    const uint32_t key = first_group * 16 + keys.lane % 16, g = keys.lane / 16;
    const uint32_t latent = tile::lane_part(tile_at, key, g);
    auto key_f = [&](int n, int step, bool is_rope) {
        uint32_t rope = tile_at + tile::rope_at(a_t::KEYS);
        return lds<u32x4_t>(is_rope ? tile::rope_chunk(rope, key + n * 16, 4 * step + g)
                                    : tile::chunk(latent, 4 * step) + n * tile::GROUP);
    };
    auto query_f = [&](int r, int term, int step, bool is_rope) {
        if (is_rope) return query[r][term].rope[step];
        if (step >= a_t::LDS_STEPS) return query[r][term].latent[step];
        return lds<u32x4_t>(lds_query<a_t>(keys.lane, wave, r, term, step));
    };
    probabilities_t<typename a_t::matrix_t, SCALED, a_t::GROUPS> probabilities[a_t::ROW_TILES];
    GPU_UNROLL for (int first = 0; first < a_t::ROW_TILES; first += a_t::SCORED_TILES) {
        f32x4_t scores[a_t::SCORED_TILES][a_t::GROUPS];
        asm volatile("" ::: "memory"); /* read the keys again instead of keeping them for the next row tile */
        score<typename a_t::matrix_t, SCALED, a_t::TERMS, a_t::AHEAD>(
            [&](int r, int term, int step, bool is_rope) { return query_f(first + r, term, step, is_rope); }, scales_f,
            key_f, scores);
        GPU_UNROLL for (int r = 0; r < a_t::SCORED_TILES; r++) {
            online_softmax<typename a_t::matrix_t, SEEN>(keys, item.score_scale, scores[r], &rows[first + r]);
            pack_probabilities(scores[r], &probabilities[first + r]);
        }
        __builtin_amdgcn_sched_barrier(0); /* scores become probabilities, in fewer registers, before the next ones */
    }
    multiply_values<typename a_t::matrix_t, SCALED, SEEN != SEEN_OWN>(keys, scales_f, probabilities, rows);
}

template <class a_t, class find_work_f>
GPU_INLINE bool decode_shared_tile(const ac_attention_params_t &p, find_work_f find_work) {
    typedef typename a_t::matrix_t matrix_t;
    item_t item;
    if (!make_item<typename a_t::source_t>(p, find_work, &item)) return false;
    const int wave = gpu_uniform(gpu_thread() / 64), row_wave = wave / a_t::KEY_WAVES, key_wave = wave % a_t::KEY_WAVES;
    const int first_row = row_wave * a_t::ROW_TILES * 16, first_group = key_wave * a_t::GROUPS;
    query_t<matrix_t> query[a_t::ROW_TILES][a_t::TERMS];
    query_rows_t<> rows[a_t::ROW_TILES];
    tile_stream_t<a_t> stream;
    GPU_UNROLL for (int r = 0; r < a_t::ROW_TILES; r++) {
        mla_row_t row = mla_tile_row(p, item.work, item.range, first_row + r * 16 + recompute_lane_id() % 16);
        load_query<matrix_t, 1, 1>(query_row(p, row), p.kv[0].cache.rope_dim, query[r]);
        GPU_UNROLL for (int term = 0; term < a_t::TERMS; term++)
            GPU_UNROLL for (int i = 0; i < a_t::LDS_STEPS; i++)
                lds<u32x4_t>(lds_query<a_t>(recompute_lane_id(), wave, r, term, i)) = query[r][term].latent[i];
        start_rows(row, &rows[r]);
    }
    start_stream(p.kv[0].cache, mla_cursor_at(p, item.work, item.range, item.range.begin), wave, &stream);
    const int masked_tail = item.range.masked_tail;
    bool more = take_tile(p.kv[0].cache, item, wave, &stream);
    for (; more; more = take_tile(p.kv[0].cache, item, wave, &stream)) {
        auto keys = keys_of_tile<a_t, a_t::GROUPS>(stream.tile, stream.left, masked_tail, first_group);
        if (!sees_all(keys)) break;
        attend_shared_tile<a_t, SEEN_ALL>(item, stream.tile, wave, keys, first_group, query, rows);
    }
    if (a_t::ROW_TILES == 1) /* no register is left for this loop at 128 rows */
        for (; more; more = take_tile(p.kv[0].cache, item, wave, &stream)) {
            auto keys = keys_of_tile<a_t, a_t::GROUPS>(stream.tile, stream.left, masked_tail, first_group);
            if (!rows_see_the_same(keys.left, a_t::GROUPS * 16, masked_tail)) break;
            attend_shared_tile<a_t, SEEN_SAME>(item, stream.tile, wave, keys, first_group, query, rows);
        }
    for (; more; more = take_tile(p.kv[0].cache, item, wave, &stream)) {
        auto keys = keys_of_tile<a_t, a_t::GROUPS>(stream.tile, stream.left, masked_tail, first_group);
        attend_shared_tile<a_t, SEEN_OWN>(item, stream.tile, wave, keys, first_group, query, rows);
    }

    gpu_barrier();
    GPU_UNROLL for (int r = 0; r < a_t::ROW_TILES; r++) {
        mla_softmax_t softmax = {rows[r].softmax.base, sum_of_row(rows[r].softmax.sum)};
        if constexpr (a_t::KEY_WAVES == 1) {
            store_alone(row_output(p, item, first_row + r * 16, softmax), rows[r], 0);
        } else {
            float factor = merge_softmax<a_t::KEY_WAVES>(wave - key_wave, key_wave, &softmax);
            store_shared<a_t::KEY_WAVES, WAVES>(row_output(p, item, first_row + r * 16, softmax), rows[r], factor,
                                                     wave - key_wave, key_wave);
        }
    }
    gpu_barrier(); /* the next item overwrites what the waves exchanged */
    return true;
}

#endif
