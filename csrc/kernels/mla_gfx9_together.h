/* 32 to 128 rows: the waves bring a tile of keys into local memory together, the next one waiting in registers, and
 * divide its rows (and, at 32 rows, its keys) among them. */
#ifndef AC_KERNELS_MLA_GFX9_TOGETHER_H
#define AC_KERNELS_MLA_GFX9_TOGETHER_H

#include "mla_gfx9_arrangement.h"

/* Where the wave's step of a query is in local memory. */
template <class a_t> GPU_INLINE uint32_t local_query(uint32_t lane, int wave, int r, int term, int step) {
    int number = ((wave * a_t::ROW_TILES + r) * a_t::TERMS + term) * a_t::LOCAL_STEPS + step;
    return a_t::QUERY_AT + lane * 16 + number * 1024;
}

/* The keys that this wave meets of the tile in local memory. */
template <class a_t>
GPU_INLINE keys_t<a_t::GROUPS> keys_of_wave(const item_t &item, const mla_cursor_t &cursor, int first_group) {
    keys_t<a_t::GROUPS> keys = {opaque_lane(), first_group * 16u * a_t::tile::ROW, {}, cursor.left - first_group * 16,
                                item.range.most_unseen};
    UNROLLED for (int n = 0; n < a_t::GROUPS; n++)
        keys.valid[n] = gpu_uniform(local<int>(a_t::tile::valid_at(a_t::KEYS) + (first_group + n) * 4));
    return keys;
}

template <class a_t, bool ALL>
GPU_INLINE void attend_tile(const item_t &item, const keys_t<a_t::GROUPS> &keys, int wave, int first_group,
                            const query_t<typename a_t::matrix_t> (&query)[a_t::ROW_TILES][a_t::TERMS],
                            rows_t (&rows)[a_t::ROW_TILES]) {
    typedef typename a_t::tile tile;
    constexpr bool SCALED = a_t::source_t::SCALED;
    f32x4_t scores[a_t::ROW_TILES][a_t::GROUPS];
    auto scales_f = [&](int n, int block) {
        uint32_t key = (first_group + n) * 16 + keys.lane / 16 * 4;
        return local<f32x4_t>(tile::scales_at(a_t::KEYS) + (block * a_t::KEYS + key) * 4);
    };
    const uint32_t key = first_group * 16 + keys.lane % 16, g = keys.lane / 16;
    auto key_f = [&](int n, int step, bool is_rope) {
        uint32_t at = is_rope ? tile::rope_chunk(tile::rope_at(a_t::KEYS), key + n * 16, 4 * step + g)
                              : tile::lane_part(0, key + n * 16, g);
        return local<u32x4_t>(is_rope ? at : tile::chunk(at, 4 * step));
    };
    auto query_f = [&](int r, int term, int step, bool is_rope) {
        if (is_rope) return query[r][term].rope[step];
        if (step >= a_t::LOCAL_STEPS) return query[r][term].latent[step];
        return local<u32x4_t>(local_query<a_t>(keys.lane, wave, r, term, step));
    };
    score<typename a_t::matrix_t, SCALED, a_t::TERMS>(query_f, scales_f, key_f, scores);
    attend<typename a_t::matrix_t, SCALED, ALL>(keys, item.score_scale, scales_f, scores, rows);
}

template <class a_t> GPU_INLINE void decode_together(const ac_mla_decode_params_t &p) {
    typedef typename a_t::matrix_t matrix_t;
    item_t item;
    if (!find_item<typename a_t::source_t>(p, a_t::ROWS, &item)) return;
    const int wave = gpu_uniform(gpu_thread() / 64), row_wave = wave / a_t::KEY_WAVES, key_wave = wave % a_t::KEY_WAVES;
    const int first_row = row_wave * a_t::ROW_TILES * 16, first_group = key_wave * a_t::GROUPS;
    query_t<matrix_t> query[a_t::ROW_TILES][a_t::TERMS];
    rows_t rows[a_t::ROW_TILES];
    tile_stream_t<a_t> stream;
    stream.next = mla_cursor_at(p, item.work, item.range, item.range.begin);
    find_next_places(p.kv, wave, stream.next, &stream);
    UNROLLED for (int r = 0; r < a_t::ROW_TILES; r++) {
        mla_row_t row = mla_find_row(p, item.work, item.range, first_row + r * 16 + gpu_lane() % 16);
        load_query<matrix_t, 1, 1>(query_row(p, row), p.kv.rope_dim, query[r]);
        UNROLLED for (int term = 0; term < a_t::TERMS; term++)
            UNROLLED for (int i = 0; i < a_t::LOCAL_STEPS; i++)
                local<u32x4_t>(local_query<a_t>(gpu_lane(), wave, r, term, i)) = query[r][term].latent[i];
        start_rows(row, &rows[r]);
    }
    load_next_tile(p.kv, wave, &stream);
    auto take = [&]() { /* the loaded tile into local memory; false when there is none */
        stream.cursor = stream.next;
        if (stream.cursor.left <= 0) return false;
        gpu_barrier(); /* the last tile is done */
        UNROLLED for (int i = 0; i < a_t::LOADS; i++)
            store_group<a_t>(item, a_t::first_load(wave) + i, wave % a_t::PARTS, stream.loaded[i]);
        mla_advance(p.kv, a_t::KEYS, &stream.next);
        load_next_tile(p.kv, wave, &stream);
        gpu_barrier();
        return true;
    };
    bool more = take();
    for (; more; more = take()) {
        keys_t<a_t::GROUPS> keys = keys_of_wave<a_t>(item, stream.cursor, first_group);
        if (!sees_all(keys)) break;
        attend_tile<a_t, true>(item, keys, wave, first_group, query, rows);
    }
    for (; more; more = take()) {
        keys_t<a_t::GROUPS> keys = keys_of_wave<a_t>(item, stream.cursor, first_group);
        attend_tile<a_t, false>(item, keys, wave, first_group, query, rows);
    }

    gpu_barrier();
    UNROLLED for (int r = 0; r < a_t::ROW_TILES; r++) {
        mla_softmax_t softmax = {rows[r].softmax.base, sum_of_row(rows[r].softmax.sum)};
        if constexpr (a_t::KEY_WAVES == 1) {
            store_alone(find_output(p, item, first_row + r * 16, softmax), rows[r]);
        } else {
            float factor = merge_softmax<a_t::KEY_WAVES>(wave - key_wave, key_wave, &softmax);
            store_shared<a_t::KEY_WAVES>(find_output(p, item, first_row + r * 16, softmax), rows[r], factor,
                                         wave - key_wave, key_wave);
        }
    }
}

#endif
