/* Keys on their way from the cache to a tile. Lane 16 g + m carries, of key m of a group of 16, the chunk g of every
 * run of 4 chunks (64 bytes): 16 rows by 64 bytes per instruction, which is what a lane needs of A for the scores. */
#ifndef AC_OPS_ATTENTION_GFX9_KEYS_H
#define AC_OPS_ATTENTION_GFX9_KEYS_H

#include "../../../gpu/gfx9/fp8.h"
#include "tile.h"

/* What a cache holds, against what the matrix instructions take:
 *   LATENT, ROPE     loads of 64 bytes of every key
 *   WIDEN, WIDEN_ROPE  chunks of the tile that a loaded chunk becomes
 *   SCALED           rows carry scales */
struct same_source_t { /* both have the same 16-bit type */
    static constexpr int LATENT = 16, ROPE = 2, WIDEN = 1, WIDEN_ROPE = 1;
    static constexpr bool SCALED = false;
};
struct own_fp8_source_t { /* both are the arch's own fp8 */
    static constexpr int LATENT = 8, ROPE = 1, WIDEN = 1, WIDEN_ROPE = 1;
    static constexpr bool SCALED = false;
};
struct fp8_source_t { /* fp8 of either kind, for a 16-bit type */
    static constexpr int LATENT = 8, ROPE = 1, WIDEN = 2, WIDEN_ROPE = 2;
    static constexpr bool SCALED = false;
};
struct record_source_t { /* fp8 with scales, and a bf16 rope part, for bf16 */
    static constexpr int LATENT = 8, ROPE = 2, WIDEN = 2, WIDEN_ROPE = 1;
    static constexpr bool SCALED = true;
};

/* One of PARTS equal parts of a group of 16 keys, in registers. */
template <class source_t, int PARTS> struct loaded_t {
    static constexpr int LATENT = source_t::LATENT / PARTS, ROPE = (source_t::ROPE + PARTS - 1) / PARTS;
    u32x4_t latent[LATENT], rope[ROPE], scales;
    uint32_t valid; /* bit m: key m is not masked */
};

/* Part number `part` loads the latent runs part * LATENT + i; likewise the rope runs, of which only the first parts
 * have any. */
template <class source_t, int PARTS> GPU_INLINE bool part_has_rope(int part) { return part < source_t::ROPE; }

/* What is loaded instead of a masked key, or of a rope part that does not exist: no branch, and zeros. */
static const __device__ __attribute__((aligned(64))) char zeros[AC_MLA_DV * 2] = {};

/* The rope part of a key whose latent part is at `latent`: behind it, but for records. */
template <class source_t>
GPU_INLINE const char *rope_of(const ac_kv_cache_t &kv, mla_location_t location, bool exists, const char *latent) {
    if (!exists || !kv.rope_dim) return zeros;
    return source_t::SCALED ? mla_key_address(kv, location, kv.rope_offset, kv.rope_stride)
                            : latent + source_t::LATENT * 64;
}

/* Starts the loads; a masked key is zero and not read. */
template <class source_t, int PARTS>
GPU_INLINE void load_keys(const ac_kv_cache_t &kv, mla_location_t location, uint32_t lane, int part,
                          loaded_t<source_t, PARTS> *out) {
    typedef loaded_t<source_t, PARTS> part_t;
    bool exists = mla_in_pool(kv, location);
    const int g = lane / 16 * 16;
    const char *latent = exists ? mla_key_address(kv, location, kv.latent_offset, kv.latent_stride) : zeros;
    const char *rope = rope_of<source_t>(kv, location, exists, latent);
    out->valid = (uint32_t)__builtin_amdgcn_ballot_w64(exists) & 0xffff;
    GPU_UNROLL for (int i = 0; i < part_t::LATENT; i++)
        out->latent[i] = gpu_load<u32x4_t>(latent + g + part * part_t::LATENT * 64 + i * 64);
    if (part_has_rope<source_t, PARTS>(part))
        GPU_UNROLL for (int i = 0; i < part_t::ROPE; i++)
            out->rope[i] = gpu_load<u32x4_t>(rope + g + part * part_t::ROPE * 64 + i * 64);
    if (source_t::SCALED) {
        const char *scales = exists ? mla_key_address(kv, location, kv.scale_offset, kv.scale_stride) : zeros;
        out->scales = gpu_load<u32x4_t>(scales);
    }
}

/* The order in which a lane takes its chunks: as they are loaded (a widened chunk is two neighbours), or as they are in
 * a row. Chunk number `step` of lane group g is number lane_chunk() + step_chunk(step). Queries are in the same order.
 */
template <int WIDEN> GPU_INLINE uint32_t lane_chunk(uint32_t lane) { return lane / 16 * WIDEN; }
template <int WIDEN> GPU_INLINE uint32_t step_chunk(uint32_t step) { return step / WIDEN * 4 * WIDEN + step % WIDEN; }

template <class matrix_t, int WIDEN, int N>
GPU_INLINE void widen(const u32x4_t (&from)[N], bool other_fp8, u32x4_t (&out)[N * WIDEN]) {
    if constexpr (WIDEN == 2) widen_fp8<matrix_t>(from, other_fp8, out);
    else GPU_UNROLL for (int i = 0; i < N; i++) out[i] = from[i];
}

/* N chunks of key m of a group, from chunk number `first` of the loading order on, into the tile. */
template <class matrix_t, int WIDEN, int N>
GPU_INLINE void store_latent(uint32_t lane, uint32_t latent, int group, int first, const u32x4_t (&chunks)[N]) {
    typedef tile_t<matrix_t> tile;
    uint32_t to = tile::lane_part(latent, 16 * group + lane % 16, lane_chunk<WIDEN>(lane));
    to += first * tile::RUN; /* a whole number of spans */
    GPU_UNROLL for (int i = 0; i < N; i++) lds<u32x4_t>(tile::chunk(to, step_chunk<WIDEN>(i))) = chunks[i];
}

template <class matrix_t, int WIDEN, int N>
GPU_INLINE void store_rope(uint32_t lane, uint32_t rope, int group, int first, const u32x4_t (&chunks)[N]) {
    uint32_t key = 16 * group + lane % 16, own = lane_chunk<WIDEN>(lane);
    GPU_UNROLL for (int i = 0; i < N; i++)
        lds<u32x4_t>(tile_t<matrix_t>::rope_chunk(rope, key, own + step_chunk<WIDEN>(first + i))) = chunks[i];
}

#endif
