/* 16 rows: each wave streams its own keys from the cache through registers. The scores read them there; the values go
 * through LDS that no other wave touches. The only barriers are at the end, where the waves merge. */
#ifndef AC_OPS_ATTENTION_GFX9_PER_WAVE_H
#define AC_OPS_ATTENTION_GFX9_PER_WAVE_H

#include "item.h"

/* LDS: the values of four waves. The same bytes hold converted queries before them, and what the waves merge after. */
template <class matrix_t, int TERMS, int GROUPS> constexpr int per_wave_bytes() {
    constexpr int VALUES = WAVES * GROUPS * tile_t<matrix_t>::GROUP;
    constexpr int QUERIES = TERMS * (tile_t<matrix_t>::CHUNK_STEPS + tile_t<matrix_t>::ROPE_STEPS) * 1024;
    static_assert(VALUES >= QUERIES && VALUES >= MERGE_BYTES, "they share the bytes of the values");
    return VALUES;
}

/* A wave's own stream of keys. */
template <class source_t, int GROUPS> struct stream_t {
    mla_cursor_t cursor, next; /* at the keys in `loaded`; at those after them, whose `locations` are known */
    mla_location_t locations[GROUPS];
    loaded_t<source_t, 1> loaded[GROUPS];
};

template <class source_t, int GROUPS>
GPU_INLINE void load_groups(const ac_kv_cache_t &kv, uint32_t lane, stream_t<source_t, GROUPS> *stream) {
    GPU_UNROLL for (int n = 0; n < GROUPS; n++) load_keys(kv, stream->locations[n], lane, 0, &stream->loaded[n]);
}

/* Starts the loads of the next keys and looks up the locations of those after them. */
template <class source_t, int GROUPS>
GPU_INLINE void load_next(const ac_kv_cache_t &kv, uint32_t lane, stream_t<source_t, GROUPS> *stream) {
    stream->cursor = stream->next;
    if (stream->cursor.left > 0) load_groups(kv, lane, stream);
    mla_advance(kv, WAVES * GROUPS * 16, &stream->next);
    locate_keys(kv, stream->next, lane, stream->locations);
}

template <class source_t, int GROUPS>
GPU_INLINE keys_t<GROUPS> keys_of(const stream_t<source_t, GROUPS> &stream, uint32_t latent, int masked_tail) {
    keys_t<GROUPS> keys = {0, latent, {}, stream.cursor.left, masked_tail};
    GPU_UNROLL for (int n = 0; n < GROUPS; n++) keys.valid[n] = stream.loaded[n].valid;
    return keys;
}

/* One step: the keys in registers, and the loads of the next. */
template <class matrix_t, seen_t SEEN, class source_t, int TERMS, int GROUPS>
GPU_INLINE void attend_per_wave(const ac_attention_params_t &p, const item_t &item, uint32_t latent,
                             const query_t<matrix_t> (&query)[1][TERMS], stream_t<source_t, GROUPS> *stream,
                             query_rows_t<> (&rows)[1]) {
    typedef tile_t<matrix_t> tile;
    f32x4_t scores[1][GROUPS];
    f32x4_t scales[GROUPS][BLOCKS];
    keys_t<GROUPS> keys = keys_of(*stream, latent, item.range.masked_tail);
    keys.lane = TERMS == 1 ? (uint32_t)gpu_lane() : recompute_lane_id(); /* kept, if there are registers for it */
    GPU_UNROLL for (int n = 0; n < GROUPS; n++) {
        const loaded_t<source_t, 1> &loaded = stream->loaded[n];
        u32x4_t chunks[tile::CHUNK_STEPS], rope[tile::ROPE_STEPS];
        f32x4_t score_of_group[1][1];
        if (source_t::SCALED)
            GPU_UNROLL for (int b = 0; b < BLOCKS; b++)
                scales[n][b] = fetch_scales(keys.lane, loaded.scales, b) * item.fp8_factor;
        widen<matrix_t, source_t::WIDEN>(loaded.latent, item.other_fp8, chunks);
        widen<matrix_t, source_t::WIDEN_ROPE>(loaded.rope, item.other_fp8, rope);
        store_latent<matrix_t, source_t::WIDEN>(keys.lane, latent, n, 0, chunks);
        score<matrix_t, source_t::SCALED, TERMS, 0>(
            [&](int, int t, int i, bool is_rope) { return is_rope ? query[0][t].rope[i] : query[0][t].latent[i]; },
            [&](int, int block) { return scales[n][block]; },
            [&](int, int i, bool is_rope) { return is_rope ? rope[i] : chunks[i]; }, score_of_group);
        scores[0][n] = score_of_group[0][0];
    }
    load_next(p.kv[0].cache, keys.lane, stream);
    probabilities_t<matrix_t, source_t::SCALED, GROUPS> probabilities[1];
    online_softmax<matrix_t, SEEN>(keys, item.score_scale, scores[0], &rows[0]);
    pack_probabilities(scores[0], &probabilities[0]);
    auto scales_f = [&](int n, int block) { return scales[n][block]; };
    multiply_values<matrix_t, source_t::SCALED, SEEN != SEEN_OWN>(keys, scales_f, probabilities, rows);
}

/* MIXED: queries of any type. */
template <class matrix_t, class source_t, int TERMS, int GROUPS, bool MIXED, class find_work_f>
GPU_INLINE bool decode_per_wave(const ac_attention_params_t &p, find_work_f find_work) {
    item_t item;
    if (!make_item<source_t>(p, find_work, &item)) return false;
    const ac_kv_cache_t &kv = p.kv[0].cache;
    const int wave = gpu_uniform(gpu_thread() / 64);
    const uint32_t latent = wave * GROUPS * tile_t<matrix_t>::GROUP;
    const mla_row_t row = mla_tile_row(p, item.work, item.range, recompute_lane_id() % 16);
    query_t<matrix_t> query[1][TERMS];
    query_rows_t<> rows[1];
    stream_t<source_t, GROUPS> stream;
    stream.next = mla_cursor_at(p, item.work, item.range, item.range.begin + wave * GROUPS * 16);
    locate_keys(kv, stream.next, recompute_lane_id(), stream.locations);
    if constexpr (MIXED)
        item.score_scale *= convert_query<matrix_t, source_t::WIDEN, source_t::WIDEN_ROPE>(
            query_row(p, row), AC_MLA_DV + kv.rope_dim, p.q_dtype, wave, query[0]);
    else load_query<matrix_t, source_t::WIDEN, source_t::WIDEN_ROPE>(query_row(p, row), kv.rope_dim, query[0]);
    start_rows(row, &rows[0]);
    load_next(kv, recompute_lane_id(), &stream);
    while (sees_all(keys_of(stream, latent, item.range.masked_tail)))
        attend_per_wave<matrix_t, SEEN_ALL>(p, item, latent, query, &stream, rows);
    while (stream.cursor.left > 0 && rows_see_the_same(stream.cursor.left, GROUPS * 16, item.range.masked_tail))
        attend_per_wave<matrix_t, SEEN_SAME>(p, item, latent, query, &stream, rows);
    while (stream.cursor.left > 0) attend_per_wave<matrix_t, SEEN_OWN>(p, item, latent, query, &stream, rows);

    mla_softmax_t softmax = {rows[0].softmax.base, sum_of_row(rows[0].softmax.sum)};
    gpu_barrier(); /* the merge overwrites other waves' values */
    float factor = merge_softmax<WAVES>(0, wave, &softmax);
    store_shared<WAVES, WAVES>(row_output(p, item, 0, softmax), rows[0], factor, 0, wave);
    gpu_barrier(); /* the next item overwrites what the waves exchanged */
    return true;
}

#endif
