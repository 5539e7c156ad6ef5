/* 16 rows: every wave streams its own keys from the cache through registers. The scores take them from there; the
 * values go through local memory that no other wave touches. No barrier but at the end, where the waves merge. */
#ifndef AC_OPS_ATTENTION_GFX9_APART_H
#define AC_OPS_ATTENTION_GFX9_APART_H

#include "item.h"

/* Of local memory: the values of four waves; before them converted queries, after them what the waves merge. */
template <class matrix_t, int TERMS, int GROUPS> constexpr int apart_bytes() {
    constexpr int VALUES = WAVES * GROUPS * tile_t<matrix_t>::GROUP;
    constexpr int QUERIES = TERMS * (tile_t<matrix_t>::CHUNK_STEPS + tile_t<matrix_t>::ROPE_STEPS) * 1024;
    static_assert(VALUES >= QUERIES && VALUES >= MERGE_BYTES, "they lie where the values are");
    return VALUES;
}

/* A wave's own stream of keys. */
template <class source_t, int GROUPS> struct stream_t {
    mla_cursor_t cursor, next;           /* at the keys in `loaded`; at those after them, which are at `places` */
    mla_place_t places[GROUPS];
    loaded_t<source_t, 1> loaded[GROUPS];
};

/* Starts the loads of the next keys and looks up the places of those after them. */
template <class source_t, int GROUPS>
GPU_INLINE void load_next(const ac_kv_cache_t &kv, stream_t<source_t, GROUPS> *stream) {
    stream->cursor = stream->next;
    if (stream->cursor.left > 0)
        UNROLLED for (int n = 0; n < GROUPS; n++) load_keys(kv, stream->places[n], 0, &stream->loaded[n]);
    mla_advance(kv, WAVES * GROUPS * 16, &stream->next);
    find_places(kv, stream->next, stream->places);
}

template <class source_t, int GROUPS>
GPU_INLINE keys_t<GROUPS> keys_of(const stream_t<source_t, GROUPS> &stream, uint32_t latent, int most_unseen) {
    keys_t<GROUPS> keys = {0, latent, {}, stream.cursor.left, most_unseen};
    UNROLLED for (int n = 0; n < GROUPS; n++) keys.valid[n] = stream.loaded[n].valid;
    return keys;
}

/* The keys in registers, and the loads of the next. */
template <class matrix_t, bool ALL, class source_t, int TERMS, int GROUPS>
GPU_INLINE void attend_apart(const ac_mla_decode_params_t &p, const item_t &item, uint32_t latent,
                             const query_t<matrix_t> (&query)[1][TERMS], stream_t<source_t, GROUPS> *stream,
                             rows_t<> (&rows)[1]) {
    typedef tile_t<matrix_t> tile;
    f32x4_t scores[1][GROUPS];
    f32x4_t scales[GROUPS][BLOCKS];
    keys_t<GROUPS> keys = keys_of(*stream, latent, item.range.most_unseen);
    keys.lane = opaque_lane();
    UNROLLED for (int n = 0; n < GROUPS; n++) {
        const loaded_t<source_t, 1> &loaded = stream->loaded[n];
        u32x4_t chunks[tile::CHUNK_STEPS], rope[tile::ROPE_STEPS];
        f32x4_t score_of_group[1][1];
        if (source_t::SCALED)
            UNROLLED for (int b = 0; b < BLOCKS; b++)
                scales[n][b] = fetch_scales(keys.lane, loaded.scales, b) * item.unit;
        widen<matrix_t, source_t::WIDEN>(loaded.latent, item.foreign, chunks);
        widen<matrix_t, source_t::WIDEN_ROPE>(loaded.rope, item.foreign, rope);
        store_latent<matrix_t, source_t::WIDEN>(keys.lane, latent, n, 0, chunks);
        score<matrix_t, source_t::SCALED, TERMS, 0>(
            [&](int, int t, int i, bool is_rope) { return is_rope ? query[0][t].rope[i] : query[0][t].latent[i]; },
            [&](int, int block) { return scales[n][block]; },
            [&](int, int i, bool is_rope) { return is_rope ? rope[i] : chunks[i]; }, score_of_group);
        scores[0][n] = score_of_group[0][0];
    }
    load_next(p.kv, stream);
    weights_t<matrix_t, source_t::SCALED, GROUPS> weights[1];
    soften<matrix_t, ALL>(keys, item.score_scale, scores[0], &rows[0]);
    weigh(scores[0], &weights[0]);
    attend<matrix_t, source_t::SCALED, ALL>(keys, [&](int n, int block) { return scales[n][block]; }, weights, rows);
}

/* MIXED: queries of any type. */
template <class matrix_t, class source_t, int TERMS, int GROUPS, bool MIXED>
GPU_INLINE void decode_apart(const ac_mla_decode_params_t &p) {
    item_t item;
    if (!find_item<source_t>(p, 16, &item)) return;
    const int wave = gpu_uniform(gpu_thread() / 64);
    const uint32_t latent = wave * GROUPS * tile_t<matrix_t>::GROUP;
    const mla_row_t row = mla_find_row(p, item.work, item.range, gpu_lane() % 16);
    query_t<matrix_t> query[1][TERMS];
    rows_t<> rows[1];
    stream_t<source_t, GROUPS> stream;
    stream.next = mla_cursor_at(p, item.work, item.range, item.range.begin + wave * GROUPS * 16);
    find_places(p.kv, stream.next, stream.places);
    if constexpr (MIXED)
        item.score_scale *= convert_query<matrix_t, source_t::WIDEN, source_t::WIDEN_ROPE>(
            query_row(p, row), AC_MLA_DV + p.kv.rope_dim, p.q_dtype, wave, query[0]);
    else load_query<matrix_t, source_t::WIDEN, source_t::WIDEN_ROPE>(query_row(p, row), p.kv.rope_dim, query[0]);
    start_rows(row, &rows[0]);
    load_next(p.kv, &stream);
    while (sees_all(keys_of(stream, latent, item.range.most_unseen)))
        attend_apart<matrix_t, true>(p, item, latent, query, &stream, rows);
    while (stream.cursor.left > 0) attend_apart<matrix_t, false>(p, item, latent, query, &stream, rows);

    mla_softmax_t softmax = {rows[0].softmax.base, sum_of_row(rows[0].softmax.sum)};
    gpu_barrier(); /* other waves' values lie where the merge is */
    float factor = merge_softmax<WAVES>(0, wave, &softmax);
    store_shared<WAVES>(find_output(p, item, 0, softmax), rows[0], factor, 0, wave);
}

#endif
