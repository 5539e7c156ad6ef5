/* A tile of keys in local memory, in elements of the matrix type:
 *   latent [keys][512], rope [keys][64], scales [4][keys] fp32, one word per group of 16 keys: which of them are valid
 * 16-byte chunks are swizzled within their row so that no access meets a bank twice:
 *   reading keys     16 lanes the same chunk of 16 rows, 4 of them neighbouring chunks
 *   gfx942, values   16 lanes neighbouring chunks of one row
 *   gfx950, values   transposing reads: 4 (8-bit: 8) rows by 32 (16) bytes for each 16 lanes */
#ifndef AC_KERNELS_MLA_GFX9_TILE_H
#define AC_KERNELS_MLA_GFX9_TILE_H

#include "mla_gfx9_matrix_fp8.h"
#include "mla_walk.h"

#define BLOCKS 4 /* of 128 columns of the output, as far as one scale of a record reaches */
#define TILES 8  /* of 16 columns in a block */

template <class T> GPU_INLINE GPU_LOCAL T &local(uint32_t address) { return *(GPU_LOCAL T *)address; }

template <class matrix_t> struct tile_t {
    static constexpr int ROW = AC_MLA_DV * matrix_t::BYTES, ROPE_ROW = AC_MLA_ROPE * matrix_t::BYTES;
#if defined(__gfx950__)
    static constexpr uint32_t SPAN = 16;
#else
    static constexpr uint32_t SPAN = 8;
#endif
    static constexpr int CHUNK_STEPS = ROW / 64, ROPE_STEPS = ROPE_ROW / 64; /* of 4 chunks, one for each 16 lanes */

    GPU_INLINE uint32_t swizzle(uint32_t key) {
#if defined(__gfx950__)
        if (matrix_t::BYTES == 1) return (key & 15) ^ (key >> 4 & 1) * 8;
        return (key & 7) * 2;
#else
        return key & 7;
#endif
    }
    GPU_INLINE uint32_t rope_swizzle(uint32_t key) {
#if defined(__gfx950__)
        return matrix_t::BYTES == 1 ? key >> 2 & 3 : key >> 1 & 7;
#else
        return matrix_t::BYTES == 1 ? key >> 1 & 3 : key & 7;
#endif
    }
    /* Local addresses are a lane's own part and a constant. A lane's part: chunk `first` of the latent row `key`. */
    GPU_INLINE uint32_t lane_part(uint32_t latent, uint32_t key, uint32_t first) {
        return latent + key * ROW + (first ^ swizzle(key)) * 16;
    }
    /* The chunk `index` behind it; the two numbers have no bit in common. Within a span a chunk's place is swizzled. */
    GPU_INLINE uint32_t chunk(uint32_t lane_part, uint32_t index) {
        return (lane_part ^ index % SPAN * 16) + index / SPAN * SPAN * 16;
    }
    GPU_INLINE uint32_t rope_chunk(uint32_t rope, uint32_t key, uint32_t index) {
        return rope + key * ROPE_ROW + (index ^ rope_swizzle(key)) * 16;
    }

    /* Sizes and places in a tile of `keys` rows. */
    GPU_INLINE uint32_t rope_at(int keys) { return keys * ROW; }
    GPU_INLINE uint32_t scales_at(int keys) { return keys * (ROW + ROPE_ROW); }
    GPU_INLINE uint32_t valid_at(int keys) { return keys * (ROW + ROPE_ROW + 16); }
};

#endif
