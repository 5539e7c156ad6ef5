/* gfx950, 16 and 32 rows of fp8. A multiplication for the output takes 128 keys, more than one wave can hold. The waves
 * divide a tile's keys for the scores, and the columns for the output; in between they exchange the largest scores and
 * then the probabilities through LDS. */
#ifndef AC_OPS_ATTENTION_GFX9_SPLIT_COLUMNS_H
#define AC_OPS_ATTENTION_GFX9_SPLIT_COLUMNS_H

#include "streams.h"

template <class matrix_t, class source_t, int ROW_TILES_>
struct split_columns_t : tiles_t<matrix_t, source_t, matrix_t::GROUPS, 2> {
    typedef tiles_t<matrix_t, source_t, matrix_t::GROUPS, 2> tiles;
    static constexpr int ROW_TILES = ROW_TILES_, ROWS = ROW_TILES * 16;
    static constexpr int GROUPS = matrix_t::GROUPS;        /* of a tile */
    static constexpr int OWN = GROUPS / WAVES;             /* whose scores a wave computes */
    static constexpr int WORDS = GROUPS * matrix_t::BYTES; /* of a lane's probabilities for one row tile */
    static constexpr int TOPS_AT = tiles::TILES_END, PROBABILITIES_AT = TOPS_AT + ROW_TILES * WAVES * 64;
    static constexpr int BYTES = PROBABILITIES_AT + ROW_TILES * WORDS * 256;
    static_assert(OWN * WAVES == GROUPS && BLOCKS == WAVES, "a wave has its own keys, and a block of columns");
};

/* The largest score of each row in the tile, over all waves. */
template <class a_t> GPU_INLINE void exchange_tops(uint32_t lane, int wave, float (&top)[a_t::ROW_TILES]) {
    uint32_t at = a_t::TOPS_AT + lane % 16 * 4;
    GPU_UNROLL for (int r = 0; r < a_t::ROW_TILES; r++) {
        top[r] = max_of_row(top[r]);
        if (lane < 16) lds<float>(at + (r * WAVES + wave) * 64) = top[r];
    }
    gpu_barrier();
    GPU_UNROLL for (int r = 0; r < a_t::ROW_TILES; r++)
        GPU_UNROLL for (int w = 0; w < WAVES; w++) top[r] = gpu_max(top[r], lds<float>(at + (r * WAVES + w) * 64));
}

/* Gives this wave's probabilities, gets those of all waves. */
template <class a_t, class own_t, class probabilities_t>
GPU_INLINE void exchange_probabilities(uint32_t lane, int wave, const own_t (&own)[a_t::ROW_TILES],
                                 probabilities_t (&all)[a_t::ROW_TILES]) {
    static_assert(a_t::WORDS == 8 && sizeof(own_t) == 8, "two reads of 16 bytes, one write of 8");
    uint32_t at = a_t::PROBABILITIES_AT + lane * 16;
    GPU_UNROLL for (int r = 0; r < a_t::ROW_TILES; r++)
        lds<u32x2_t>(at + r * 2048 + wave / 2 * 1024 + wave % 2 * 8) = BITS(u32x2_t, own[r]);
    gpu_barrier();
    GPU_UNROLL for (int r = 0; r < a_t::ROW_TILES; r++)
        GPU_UNROLL for (int half = 0; half < 2; half++) {
            u32x4_t words = lds<u32x4_t>(at + r * 2048 + half * 1024);
            GPU_UNROLL for (int w = 0; w < 4; w++) all[r].words[half * 4 + w] = words[w];
        }
}

template <class a_t, bool ALL>
GPU_INLINE void attend_split_columns(const item_t &item, const direct_stream_t<a_t> &stream, int wave,
                               const query_t<typename a_t::matrix_t> (&query)[a_t::ROW_TILES][1],
                               query_rows_t<1> (&rows)[a_t::ROW_TILES]) {
    typedef typename a_t::matrix_t matrix_t;
    typedef typename a_t::tile tile;
    const int masked_tail = item.range.masked_tail;
    const auto own = keys_of_tile<a_t, a_t::OWN>(stream.tile, stream.left, masked_tail, wave * a_t::OWN);
    const uint32_t key = wave * a_t::OWN * 16 + own.lane % 16, g = own.lane / 16;
    const uint32_t latent = keep_in_register(tile::lane_part(stream.tile, key, g));
    const uint32_t rope = keep_in_register(tile::rope_chunk(stream.tile + tile::rope_at(a_t::KEYS), key, g));
    auto no_scales = [](int, int) { return (f32x4_t){}; };
    f32x4_t scores[a_t::ROW_TILES][a_t::OWN];
    score<matrix_t, false, 1, 2>(
        [&](int r, int, int i, bool is_rope) { return is_rope ? query[r][0].rope[i] : query[r][0].latent[i]; },
        no_scales,
        [&](int n, int i, bool is_rope) {
            return lds<u32x4_t>(is_rope ? rope + (n * tile::ROPE_STEPS + i) * tile::RUN
                                          : tile::chunk(latent, 4 * i) + n * tile::GROUP);
        },
        scores);

    float top[a_t::ROW_TILES];
    GPU_UNROLL for (int r = 0; r < a_t::ROW_TILES; r++)
        top[r] = scale_and_mask<ALL>(own, item.score_scale, rows[r].masked_tail, scores[r]);
    exchange_tops<a_t>(own.lane, wave, top);
    probabilities_t<matrix_t, false, a_t::OWN> part[a_t::ROW_TILES];
    probabilities_t<matrix_t, false, a_t::GROUPS> probabilities[a_t::ROW_TILES];
    GPU_UNROLL for (int r = 0; r < a_t::ROW_TILES; r++) {
        if (base_moves<matrix_t>(top[r], rows[r])) move_base<matrix_t>(top[r], &rows[r]);
        exponentiate(scores[r], &rows[r].softmax);
        pack_probabilities(scores[r], &part[r]);
    }
    exchange_probabilities<a_t>(own.lane, wave, part, probabilities);

    auto keys = keys_of_tile<a_t, a_t::GROUPS>(stream.tile, stream.left, masked_tail, 0);
    keys.latent += wave * tile::CHUNK_STEPS / BLOCKS * tile::RUN; /* the wave's columns */
    multiply_values<matrix_t, false, ALL>(keys, no_scales, probabilities, rows);
}

template <class a_t, class find_work_f>
GPU_INLINE bool decode_split_columns(const ac_attention_params_t &p, find_work_f find_work) {
    typedef typename a_t::matrix_t matrix_t;
    item_t item;
    if (!make_item<typename a_t::source_t>(p, find_work, &item)) return false;
    const int wave = gpu_uniform(gpu_thread() / 64);
    query_t<matrix_t> query[a_t::ROW_TILES][1];
    query_rows_t<1> rows[a_t::ROW_TILES];
    direct_stream_t<a_t> stream;
    GPU_UNROLL for (int r = 0; r < a_t::ROW_TILES; r++) {
        mla_row_t row = mla_tile_row(p, item.work, item.range, r * 16 + recompute_lane_id() % 16);
        load_query<matrix_t, 1, 1>(query_row(p, row), p.kv[0].cache.rope_dim, query[r]);
        start_rows(row, &rows[r]);
    }
    start_stream(p.kv[0].cache, mla_cursor_at(p, item.work, item.range, item.range.begin), wave, &stream);
    bool more = take_tile(p.kv[0].cache, item, wave, &stream);
    for (; more; more = take_tile(p.kv[0].cache, item, wave, &stream)) {
        if (!sees_all(keys_of_tile<a_t, a_t::GROUPS>(stream.tile, stream.left, item.range.masked_tail, 0))) break;
        attend_split_columns<a_t, true>(item, stream, wave, query, rows);
    }
    for (; more; more = take_tile(p.kv[0].cache, item, wave, &stream))
        attend_split_columns<a_t, false>(item, stream, wave, query, rows);

    gpu_barrier();
    GPU_UNROLL for (int r = 0; r < a_t::ROW_TILES; r++) { /* the base is the same in all waves */
        mla_softmax_t softmax = {rows[r].softmax.base, sum_of_row(rows[r].softmax.sum)};
        merge_softmax<WAVES>(r * WAVES, wave, &softmax);
        store_alone(row_output(p, item, r * 16, softmax), rows[r], wave);
    }
    gpu_barrier(); /* the next item overwrites what the waves exchanged */
    return true;
}

#endif
