/* A tile of keys in LDS, in elements of the matrix type:
 *   latent [keys][512], rope [keys][64], one word per group of 16 keys: which of them are valid; in a record
 *   scales [4][keys] fp32
 * 16-byte chunks are arranged so that no access has a bank conflict:
 *   reading keys     16 lanes the same chunk of 16 rows, 4 of them neighbouring chunks
 *   gfx942, values   16 lanes neighbouring chunks of one row
 *   gfx950, values   transposing reads: 4 (8-bit: 8) rows by 32 (16) bytes for each 16 lanes
 * gfx942: row after row, the chunks of a row swizzled.
 * gfx950: group after group, in it run after run of 4 chunks, in it the first chunk of all 16 keys, the second, and so
 * on: 1024 bytes, in the order of the lanes that loaded them, which is how direct loads to LDS store them. In
 * odd chunks the 16 keys are in another order (16-bit), or odd groups are shifted by half the banks (8-bit). */
#ifndef AC_OPS_ATTENTION_GFX9_TILE_H
#define AC_OPS_ATTENTION_GFX9_TILE_H

#include "../../../gpu/gfx9/lanes.h"
#include "../walk.h"

constexpr int BLOCKS = 4; /* of 128 columns of the output: what one scale of a record is for */
constexpr int TILES = 8;  /* of 16 columns in a block */

/* A matrix type in tiles whose columns are divided (split_columns.h): see swizzle(). */
template <class matrix_t> struct divided_t : matrix_t {};
template <class matrix_t> constexpr bool is_divided = false;
template <class matrix_t> constexpr bool is_divided<divided_t<matrix_t>> = true;

template <class matrix_t> struct tile_t {
    static constexpr int ROW = AC_MLA_DV * matrix_t::BYTES, ROPE_ROW = AC_MLA_ROPE * matrix_t::BYTES;
    static constexpr int CHUNK_STEPS = ROW / 64, ROPE_STEPS = ROPE_ROW / 64; /* of 4 chunks, one for each 16 lanes */
    /* RUN: bytes from a run of 4 chunks to the next (gfx942: within a span). GROUP: from 16 keys to the next. */

#if defined(__gfx950__)
    static constexpr int RUN = 1024, GROUP = 16 * ROW + (matrix_t::BYTES == 1 ? 128 : 0);

    /* The position of a key among the 16 of its group, in chunk `chunk`; only the lowest bit of `chunk` matters. */
    GPU_INLINE uint32_t slot(uint32_t key, uint32_t chunk) {
        return key % 16 ^ (matrix_t::BYTES == 1 ? 0 : chunk % 2 * 12);
    }
    /* LDS addresses are a lane's own part plus a constant. A lane's part: chunk `first` of the latent row `key`. */
    GPU_INLINE uint32_t lane_part(uint32_t latent, uint32_t key, uint32_t first) {
        return latent + key / 16 * GROUP + first / 4 * RUN + first % 4 * 256 + slot(key, first) * 16;
    }
    /* Chunk `first + index`; the two numbers have no bit in common. */
    GPU_INLINE uint32_t chunk(uint32_t lane_part, uint32_t index) {
        return (lane_part ^ slot(0, index) * 16) + index / 4 * RUN + index % 4 * 256;
    }
    GPU_INLINE uint32_t rope_chunk(uint32_t rope, uint32_t key, uint32_t index) {
        return rope + (key / 16 * ROPE_STEPS + index / 4) * RUN + index % 4 * 256 + slot(key, index) * 16;
    }
#else
    static constexpr int RUN = 64, GROUP = 16 * ROW;
    static constexpr uint32_t SPAN = 8;

    /* Divided: bits 1 and 2 exchanged. LDS gives to lanes 0 to 3 and 20 to 23 together, and so on: keys 0 to 3 and, of
     * the next chunk, keys 4 to 7; chunks 0 to 3 of a key and chunks 4 to 7 of the fourth key behind it. Where
     * registers are short, what that takes is more than the conflicts. */
    GPU_INLINE uint32_t swizzle(uint32_t key) {
        return is_divided<matrix_t> ? (key & 1) | (key >> 1 & 2) | (key << 1 & 4) : key & 7;
    }
    GPU_INLINE uint32_t rope_swizzle(uint32_t key) { return matrix_t::BYTES == 1 ? key >> 1 & 3 : key & 7; }
    /* LDS addresses are a lane's own part plus a constant. A lane's part: chunk `first` of the latent row `key`. */
    GPU_INLINE uint32_t lane_part(uint32_t latent, uint32_t key, uint32_t first) {
        return latent + key * ROW + (first ^ swizzle(key)) * 16;
    }
    /* Chunk `first + index`; the two numbers have no bit in common. Within a span chunks are swizzled. */
    GPU_INLINE uint32_t chunk(uint32_t lane_part, uint32_t index) {
        return (lane_part ^ index % SPAN * 16) + index / SPAN * SPAN * 16;
    }
    GPU_INLINE uint32_t rope_chunk(uint32_t rope, uint32_t key, uint32_t index) {
        return rope + key * ROPE_ROW + (index ^ rope_swizzle(key)) * 16;
    }
#endif

    /* Offsets in a tile of `keys` rows, and its size. */
    static constexpr uint32_t rope_at(int keys) { return keys / 16 * GROUP; }
    static constexpr uint32_t valid_at(int keys) { return rope_at(keys) + keys * ROPE_ROW; }
    static constexpr uint32_t scales_at(int keys) { return (valid_at(keys) + keys / 16 * 4 + 15) / 16 * 16; }
    static constexpr uint32_t bytes(int keys, bool scaled) { return scales_at(keys) + (scaled ? keys * 16 : 0); }
};

#endif
