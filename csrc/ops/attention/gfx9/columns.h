/* gfx950, 16 and 32 rows of fp8, whose multiplication for the output takes 128 keys: more than a wave could hold for
 * itself. The waves divide a tile's keys for the scores and the columns for the output; in between they exchange the
 * largest scores and then the probabilities through local memory. */
#ifndef AC_OPS_ATTENTION_GFX9_COLUMNS_H
#define AC_OPS_ATTENTION_GFX9_COLUMNS_H

#include "streams.h"

template <class matrix_t, class source_t, int ROW_TILES_>
struct columns_t : tiles_t<matrix_t, source_t, matrix_t::GROUPS, 2> {
    typedef tiles_t<matrix_t, source_t, matrix_t::GROUPS, 2> tiles;
    static constexpr int ROW_TILES = ROW_TILES_, ROWS = ROW_TILES * 16;
    static constexpr int GROUPS = matrix_t::GROUPS, OWN = GROUPS / WAVES; /* of a tile; whose scores a wave makes */
    static constexpr int WORDS = GROUPS * matrix_t::BYTES; /* of a lane's probabilities for one row tile */
    static constexpr int TOPS_AT = tiles::TILES_END, WEIGHTS_AT = TOPS_AT + ROW_TILES * WAVES * 64;
    static constexpr int BYTES = WEIGHTS_AT + ROW_TILES * WORDS * 256;
    static_assert(OWN * WAVES == GROUPS && BLOCKS == WAVES, "a wave has its own keys, and a block of columns");
};

/* The largest score of each row in the tile, of those of all waves. */
template <class a_t> GPU_INLINE void exchange_tops(uint32_t lane, int wave, float (&top)[a_t::ROW_TILES]) {
    uint32_t at = a_t::TOPS_AT + lane % 16 * 4;
    UNROLLED for (int r = 0; r < a_t::ROW_TILES; r++) {
        top[r] = max_of_row(top[r]);
        if (lane < 16) local<float>(at + (r * WAVES + wave) * 64) = top[r];
    }
    gpu_barrier();
    UNROLLED for (int r = 0; r < a_t::ROW_TILES; r++)
        UNROLLED for (int w = 0; w < WAVES; w++) top[r] = gpu_max(top[r], local<float>(at + (r * WAVES + w) * 64));
}

/* This wave's probabilities for those of all. */
template <class a_t, class own_t, class weights_t>
GPU_INLINE void exchange_weights(uint32_t lane, int wave, const own_t (&own)[a_t::ROW_TILES],
                                 weights_t (&all)[a_t::ROW_TILES]) {
    static_assert(a_t::WORDS == 8 && sizeof(own_t) == 8, "two reads of 16 bytes, one write of 8");
    uint32_t at = a_t::WEIGHTS_AT + lane * 16;
    UNROLLED for (int r = 0; r < a_t::ROW_TILES; r++)
        local<u32x2_t>(at + r * 2048 + wave / 2 * 1024 + wave % 2 * 8) = BITS(u32x2_t, own[r]);
    gpu_barrier();
    UNROLLED for (int r = 0; r < a_t::ROW_TILES; r++)
        UNROLLED for (int half = 0; half < 2; half++) {
            u32x4_t words = local<u32x4_t>(at + r * 2048 + half * 1024);
            UNROLLED for (int w = 0; w < 4; w++) all[r].words[half * 4 + w] = words[w];
        }
}

template <class a_t, bool ALL>
GPU_INLINE void attend_columns(const item_t &item, const direct_stream_t<a_t> &stream, int wave,
                               const query_t<typename a_t::matrix_t> (&query)[a_t::ROW_TILES][1],
                               rows_t<1> (&rows)[a_t::ROW_TILES]) {
    typedef typename a_t::matrix_t matrix_t;
    typedef typename a_t::tile tile;
    const int most_unseen = item.range.most_unseen;
    const auto own = keys_of_tile<a_t, a_t::OWN>(stream.tile, stream.left, most_unseen, wave * a_t::OWN);
    const uint32_t key = wave * a_t::OWN * 16 + own.lane % 16, g = own.lane / 16;
    const uint32_t latent = one_address(tile::lane_part(stream.tile, key, g));
    const uint32_t rope = one_address(tile::rope_chunk(stream.tile + tile::rope_at(a_t::KEYS), key, g));
    auto no_scales = [](int, int) { return (f32x4_t){}; };
    f32x4_t scores[a_t::ROW_TILES][a_t::OWN];
    score<matrix_t, false, 1, 2>(
        [&](int r, int, int i, bool is_rope) { return is_rope ? query[r][0].rope[i] : query[r][0].latent[i]; },
        no_scales,
        [&](int n, int i, bool is_rope) {
            return local<u32x4_t>(is_rope ? rope + (n * tile::ROPE_STEPS + i) * tile::RUN
                                          : tile::chunk(latent, 4 * i) + n * tile::GROUP);
        },
        scores);

    float top[a_t::ROW_TILES];
    UNROLLED for (int r = 0; r < a_t::ROW_TILES; r++)
        top[r] = scale_scores<ALL>(own, item.score_scale, rows[r].unseen, scores[r]);
    exchange_tops<a_t>(own.lane, wave, top);
    weights_t<matrix_t, false, a_t::OWN> part[a_t::ROW_TILES];
    weights_t<matrix_t, false, a_t::GROUPS> weights[a_t::ROW_TILES];
    UNROLLED for (int r = 0; r < a_t::ROW_TILES; r++) {
        if (base_moves<matrix_t>(top[r], rows[r])) move_base<matrix_t>(top[r], &rows[r]);
        soften(scores[r], &rows[r].softmax);
        weigh(scores[r], &part[r]);
    }
    exchange_weights<a_t>(own.lane, wave, part, weights);

    auto keys = keys_of_tile<a_t, a_t::GROUPS>(stream.tile, stream.left, most_unseen, 0);
    keys.latent += wave * tile::CHUNK_STEPS / BLOCKS * tile::RUN; /* the wave's columns */
    attend<matrix_t, false, ALL>(keys, no_scales, weights, rows);
}

template <class a_t> GPU_INLINE void decode_columns(const ac_mla_decode_params_t &p) {
    typedef typename a_t::matrix_t matrix_t;
    item_t item;
    if (!find_item<typename a_t::source_t>(p, a_t::ROWS, &item)) return;
    const int wave = gpu_uniform(gpu_thread() / 64);
    query_t<matrix_t> query[a_t::ROW_TILES][1];
    rows_t<1> rows[a_t::ROW_TILES];
    direct_stream_t<a_t> stream;
    UNROLLED for (int r = 0; r < a_t::ROW_TILES; r++) {
        mla_row_t row = mla_find_row(p, item.work, item.range, r * 16 + gpu_lane() % 16);
        load_query<matrix_t, 1, 1>(query_row(p, row), p.kv.rope_dim, query[r]);
        start_rows(row, &rows[r]);
    }
    start_stream(p.kv, mla_cursor_at(p, item.work, item.range, item.range.begin), wave, &stream);
    bool more = take_tile(p.kv, item, wave, &stream);
    for (; more; more = take_tile(p.kv, item, wave, &stream)) {
        if (!sees_all(keys_of_tile<a_t, a_t::GROUPS>(stream.tile, stream.left, item.range.most_unseen, 0))) break;
        attend_columns<a_t, true>(item, stream, wave, query, rows);
    }
    for (; more; more = take_tile(p.kv, item, wave, &stream))
        attend_columns<a_t, false>(item, stream, wave, query, rows);

    gpu_barrier();
    UNROLLED for (int r = 0; r < a_t::ROW_TILES; r++) { /* the base is the same in all waves */
        mla_softmax_t softmax = {rows[r].softmax.base, sum_of_row(rows[r].softmax.sum)};
        merge_softmax<WAVES>(r * WAVES, wave, &softmax);
        store_alone(find_output(p, item, r * 16, softmax), rows[r], wave);
    }
}

#endif
