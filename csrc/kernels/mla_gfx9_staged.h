/* A tile of keys on its way into local memory through registers, where it is widened or scales are taken out of it. */
#ifndef AC_KERNELS_MLA_GFX9_STAGED_H
#define AC_KERNELS_MLA_GFX9_STAGED_H

#include "mla_gfx9_arrangement.h"

/* The workgroup's stream of keys, as far as one wave loads it. */
template <class a_t> struct staged_stream_t {
    int64_t left;  /* keys from the tile in local memory to the end */
    uint32_t tile; /* its local address */
    mla_cursor_t next; /* at the tile in `loaded` */
    mla_place_t places[a_t::LOADS]; /* of the keys after it */
    loaded_t<typename a_t::source_t, a_t::PARTS> loaded[a_t::LOADS];
};

template <class a_t> GPU_INLINE void find_next_places(const ac_kv_cache_t &kv, int wave, const mla_cursor_t &cursor,
                                                      staged_stream_t<a_t> *stream) {
    UNROLLED for (int i = 0; i < a_t::LOADS; i++)
        stream->places[i] = mla_find_place(kv, cursor, (a_t::first_load(wave) + i) * 16 + gpu_lane() % 16);
}

template <class a_t> GPU_INLINE void load_next_tile(const ac_kv_cache_t &kv, int wave, staged_stream_t<a_t> *stream) {
    mla_cursor_t after = stream->next;
    UNROLLED for (int i = 0; i < a_t::LOADS; i++)
        load_keys(kv, stream->places[i], wave % a_t::PARTS, &stream->loaded[i]);
    mla_advance(kv, a_t::KEYS, &after);
    find_next_places(kv, wave, after, stream);
}

/* What the wave has loaded, into local memory. */
template <class a_t>
GPU_INLINE void store_group(const item_t &item, int group, int part,
                            const loaded_t<typename a_t::source_t, a_t::PARTS> &loaded) {
    typedef typename a_t::source_t source_t;
    typedef typename a_t::tile tile;
    constexpr int WIDEN = source_t::WIDEN, WIDEN_ROPE = source_t::WIDEN_ROPE;
    typedef loaded_t<source_t, a_t::PARTS> part_t;
    const uint32_t lane = opaque_lane();
    u32x4_t chunks[part_t::LATENT * WIDEN], rope[part_t::ROPE * WIDEN_ROPE];
    widen<typename a_t::matrix_t, WIDEN>(loaded.latent, item.foreign, chunks);
    store_latent<typename a_t::matrix_t, WIDEN>(lane, 0, group, part * part_t::LATENT * WIDEN, chunks);
    if (part_has_rope<source_t, a_t::PARTS>(part)) {
        widen<typename a_t::matrix_t, WIDEN_ROPE>(loaded.rope, item.foreign, rope);
        store_rope<typename a_t::matrix_t, WIDEN_ROPE>(lane, tile::rope_at(a_t::KEYS), group,
                                                       part * part_t::ROPE * WIDEN_ROPE, rope);
    }
    if (part == 0 && lane < 16) {
        if (source_t::SCALED)
            UNROLLED for (int block = 0; block < BLOCKS; block++)
                local<float>(tile::scales_at(a_t::KEYS) + (block * a_t::KEYS + 16 * group + lane) * 4) =
                    BITS(float, (uint32_t)loaded.scales[block]) * item.unit;
        local<uint32_t>(tile::valid_at(a_t::KEYS) + group * 4) = loaded.valid;
    }
}

template <class a_t>
GPU_INLINE void start_stream(const ac_kv_cache_t &kv, const mla_cursor_t &begin, int wave,
                             staged_stream_t<a_t> *stream) {
    stream->next = begin, stream->tile = 0;
    find_next_places(kv, wave, begin, stream);
    load_next_tile(kv, wave, stream);
}

/* The loaded tile into local memory, and the next one's loads on their way; false when there is none. */
template <class a_t>
GPU_INLINE bool take_tile(const ac_kv_cache_t &kv, const item_t &item, int wave, staged_stream_t<a_t> *stream) {
    stream->left = stream->next.left;
    if (stream->left <= 0) return false;
    gpu_barrier(); /* the last tile is done */
    UNROLLED for (int i = 0; i < a_t::LOADS; i++)
        store_group<a_t>(item, a_t::first_load(wave) + i, wave % a_t::PARTS, stream->loaded[i]);
    mla_advance(kv, a_t::KEYS, &stream->next);
    load_next_tile(kv, wave, stream);
    gpu_barrier();
    return true;
}

#endif
