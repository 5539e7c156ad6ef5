/* Streams of tiles whose loads are started one at a time among the multiplications, and not all at once between two
 * tiles, where every wave would wait for the others' loads to start: start_spread(); for each tile take_spread(), then
 * all loads of the next one, by spread_load(). */
#ifndef AC_OPS_ATTENTION_GFX9_SPREAD_STREAMS_H
#define AC_OPS_ATTENTION_GFX9_SPREAD_STREAMS_H

#include "streams.h"

/* Where a wave's part of the next tile comes from, and of a direct stream, where it goes. */
template <class a_t> struct spread_source_t {
    const char *latent[a_t::LOADS], *rope[a_t::LOADS];
    uint32_t stage; /* LDS address */
    int starts;     /* direct: 0 if no load is to be started */
    bool copies;    /* true if the keys are copied instead */
};

template <class a_t, bool DIRECT = a_t::DIRECT> struct spread_stream_t : staged_stream_t<a_t> {
    static constexpr int LATENT = loaded_t<typename a_t::source_t, a_t::PARTS>::LATENT;
    static constexpr int ROPE = loaded_t<typename a_t::source_t, a_t::PARTS>::ROPE;
    spread_source_t<a_t> source;
};
template <class a_t> struct spread_stream_t<a_t, true> : direct_stream_t<a_t> {
    static_assert(a_t::STAGES == 2, "all loads have arrived before a tile is taken");
    static constexpr int LATENT = a_t::tile::CHUNK_STEPS / a_t::PARTS, ROPE = a_t::tile::ROPE_STEPS / a_t::PARTS;
    spread_source_t<a_t> source;
};
template <class a_t> constexpr int spread_loads() {
    return a_t::LOADS * (spread_stream_t<a_t>::LATENT + spread_stream_t<a_t>::ROPE);
}

/* --- through registers --- */

/* The addresses of the keys at `locations`; then those after them are looked up. */
template <class a_t>
GPU_INLINE void aim_spread(const ac_kv_cache_t &kv, int wave, spread_stream_t<a_t, false> *stream) {
    typedef spread_stream_t<a_t, false> stream_t;
    const int g = gpu_lane() / 16 * 16, part = wave % a_t::PARTS;
    GPU_UNROLL for (int i = 0; i < a_t::LOADS; i++) {
        const mla_location_t location = stream->locations[i];
        bool exists = mla_in_pool(kv, location);
        const char *latent = exists ? mla_key_address(kv, location, kv.latent_offset, kv.latent_stride) : zeros;
        const char *rope = rope_of<typename a_t::source_t>(kv, location, exists, latent);
        stream->loaded[i].valid = (uint32_t)__builtin_amdgcn_ballot_w64(exists) & 0xffff;
        stream->source.latent[i] = latent + g + part * stream_t::LATENT * 64;
        stream->source.rope[i] = rope + g + part * stream_t::ROPE * 64;
    }
    mla_cursor_t after = stream->next;
    mla_advance(kv, a_t::KEYS, &after);
    locate_next_keys(kv, wave, after, (staged_stream_t<a_t> *)stream);
}

template <class a_t> GPU_INLINE void spread_load(int number, int wave, spread_stream_t<a_t, false> *stream) {
    typedef spread_stream_t<a_t, false> stream_t;
    const int i = number / (stream_t::LATENT + stream_t::ROPE), run = number % (stream_t::LATENT + stream_t::ROPE);
    auto &loaded = stream->loaded[i];
    if (run < stream_t::LATENT) loaded.latent[run] = gpu_load<u32x4_t>(stream->source.latent[i] + run * 64);
    else if (part_has_rope<typename a_t::source_t, a_t::PARTS>(wave % a_t::PARTS))
        loaded.rope[run - stream_t::LATENT] =
            gpu_load<u32x4_t>(stream->source.rope[i] + (run - stream_t::LATENT) * 64);
}

template <class a_t>
GPU_INLINE void start_spread(const ac_kv_cache_t &kv, const mla_cursor_t &begin, int wave,
                             spread_stream_t<a_t, false> *stream) {
    static_assert(!a_t::source_t::SCALED, "no scales are loaded");
    stream->next = begin, stream->tile = 0;
    locate_next_keys(kv, wave, begin, (staged_stream_t<a_t> *)stream);
    aim_spread(kv, wave, stream);
    GPU_UNROLL for (int i = 0; i < spread_loads<a_t>(); i++) spread_load(i, wave, stream);
}

template <class a_t>
GPU_INLINE bool take_spread(const ac_kv_cache_t &kv, const item_t &item, int wave,
                            spread_stream_t<a_t, false> *stream) {
    stream->left = stream->next.left;
    if (stream->left <= 0) return false;
    gpu_barrier(); /* the last tile is done */
    GPU_UNROLL for (int i = 0; i < a_t::LOADS; i++)
        store_group<a_t>(item, gpu_lane(), a_t::first_load(wave) + i, wave % a_t::PARTS, stream->loaded[i]);
    mla_advance(kv, a_t::KEYS, &stream->next);
    aim_spread(kv, wave, stream);
    gpu_barrier();
    return true;
}

/* --- direct --- */

/* Where in LDS the wave's group number i begins. */
template <class a_t> GPU_INLINE uint32_t spread_to(int i, int wave, uint32_t stage_at) {
    return stage_at + (a_t::first_load(wave) + i) * a_t::tile::GROUP +
           wave % a_t::PARTS * spread_stream_t<a_t>::LATENT * a_t::tile::RUN;
}
template <class a_t> GPU_INLINE uint32_t spread_rope_to(int i, int wave, uint32_t stage_at) {
    int run = (a_t::first_load(wave) + i) * a_t::tile::ROPE_STEPS + wave % a_t::PARTS * spread_stream_t<a_t>::ROPE;
    return stage_at + a_t::tile::rope_at(a_t::KEYS) + run * a_t::tile::RUN;
}

/* The addresses of the next tile's keys, whose page ids have arrived, and the loads of the page ids of the tile that
 * follows it in the stage. */
template <class a_t>
GPU_INLINE void aim_spread(const ac_kv_cache_t &kv, int wave, uint32_t stage, spread_stream_t<a_t, true> *stream) {
    typedef typename a_t::tile tile;
    typedef spread_stream_t<a_t, true> stream_t;
    const uint32_t stage_at = stage * a_t::TILE_BYTES;
    stream->source.starts = stream->key_cursor.left > 0 && stream->aligned;
    stream->source.copies = stream->key_cursor.left > 0 && !stream->aligned;
    stream->source.stage = stage_at;
    if (stream->key_cursor.left <= 0) {
        /* Of no keys: take_spread() counts it. */
        if constexpr (a_t::IN_TURNS) load_page_ids(kv, wave, stage, (direct_stream_t<a_t> *)stream);
        return;
    }
    const uint32_t lane = gpu_lane(), t = tile::slot(lane, lane / 16);
    const int part = wave % a_t::PARTS;
    GPU_UNROLL for (int i = 0; i < a_t::LOADS; i++) {
        const int group = a_t::first_load(wave) + i, key = group * 16 + (int)t;
        uint32_t row = (uint32_t)stream->key_cursor.row + key, entries = mla_entries_before(kv, row);
        mla_location_t location = {lds<int32_t>(page_ids_at<a_t>(wave, stage) + (i * 16 + t) * 4),
                                   (int32_t)(row - entries * kv.entry_rows)};
        bool exists = key < stream->key_cursor.left && mla_in_pool(kv, location);
        uint32_t valid = (uint32_t)__builtin_amdgcn_ballot_w64(exists) & 0xffff; /* lanes 0 to 15 have keys 0 to 15 */
        if (part == 0 && lane == 0) lds<uint32_t>(stage_at + tile::valid_at(a_t::KEYS) + group * 4) = valid;
        const char *latent = exists ? mla_key_address(kv, location, kv.latent_offset, kv.latent_stride) : zeros;
        const char *rope = rope_of<typename a_t::source_t>(kv, location, exists, latent);
        stream->source.latent[i] = latent + lane / 16 * 16 + part * stream_t::LATENT * 64;
        stream->source.rope[i] = rope + lane / 16 * 16 + part * stream_t::ROPE * 64;
    }
    mla_advance(kv, a_t::KEYS, &stream->key_cursor);
    load_page_ids(kv, wave, stage, (direct_stream_t<a_t> *)stream);
}

/* What is done instead of the loads if rows are not aligned. */
template <class a_t> GPU_INLINE void copy_spread(int wave, const spread_stream_t<a_t, true> &stream) {
    typedef spread_stream_t<a_t, true> stream_t;
    if (!stream.source.copies) return;
    GPU_UNROLL for (int i = 0; i < a_t::LOADS; i++) {
        copy_runs<stream_t::LATENT, a_t::tile::RUN>(stream.source.latent[i],
                                                    spread_to<a_t>(i, wave, stream.source.stage));
        copy_runs<stream_t::ROPE, a_t::tile::RUN>(stream.source.rope[i],
                                                  spread_rope_to<a_t>(i, wave, stream.source.stage));
    }
}

template <class a_t> GPU_INLINE void spread_load(int number, int wave, spread_stream_t<a_t, true> *stream) {
    typedef spread_stream_t<a_t, true> stream_t;
    const int i = number / (stream_t::LATENT + stream_t::ROPE), run = number % (stream_t::LATENT + stream_t::ROPE);
    const auto &source = stream->source;
    if (run < stream_t::LATENT)
        start_load16_if(source.starts, source.latent[i], spread_to<a_t>(i, wave, source.stage) + run * a_t::tile::RUN,
                        run * 64);
    else
        start_load16_if(source.starts, source.rope[i],
                        spread_rope_to<a_t>(i, wave, source.stage) + (run - stream_t::LATENT) * a_t::tile::RUN,
                        (run - stream_t::LATENT) * 64);
}

template <class a_t>
GPU_INLINE void start_spread(const ac_kv_cache_t &kv, const mla_cursor_t &begin, int wave,
                             spread_stream_t<a_t, true> *stream) {
    stream->aligned = (((uint64_t)kv.base | kv.page_stride | kv.latent_offset | kv.latent_stride) & 15) == 0;
    stream->key_cursor = stream->page_id_cursor = begin;
    stream->left = begin.left + a_t::KEYS, stream->stage = 1; /* a tile before the first */
    GPU_NO_UNROLL for (uint32_t stage = 0; stage < 2; stage++)
        load_page_ids(kv, wave, stage, (direct_stream_t<a_t> *)stream);
    wait_for_all();
    aim_spread<a_t>(kv, wave, 0, stream);
    copy_spread(wave, *stream);
    GPU_UNROLL for (int i = 0; i < spread_loads<a_t>(); i++) spread_load(i, wave, stream);
    if constexpr (a_t::IN_TURNS) aim_spread<a_t>(kv, wave, 1, stream);
}

template <class a_t>
GPU_INLINE bool take_spread(const ac_kv_cache_t &kv, const item_t &, int wave, spread_stream_t<a_t, true> *stream) {
    wait_for_all_but<a_t::IN_TURNS ? 1 : 0>(); /* keys; behind them, in turns, page ids of a later tile */
    gpu_barrier(); /* the next tile is there, and the last one is done */
    stream->stage = 1 - stream->stage;
    stream->tile = stream->stage * a_t::TILE_BYTES;
    stream->left -= a_t::KEYS;
    if constexpr (!a_t::IN_TURNS) aim_spread<a_t>(kv, wave, 1 - stream->stage, stream);
    copy_spread(wave, *stream);
    return stream->left > 0;
}

/* COUNT loads from number FIRST on, divided among the steps of something: those whose turn it is at `step`. */
template <int FIRST, int COUNT, int STEPS, class a_t>
GPU_INLINE void spread_loads_at(int step, int wave, spread_stream_t<a_t> *stream) {
    GPU_UNROLL for (int k = 0; k < (COUNT + STEPS - 1) / STEPS; k++) {
        const int load = step * COUNT / STEPS + k;
        if (load < (step + 1) * COUNT / STEPS) spread_load(FIRST + load, wave, stream);
    }
}

#endif
