/* V^T out of a tile, as A of the output. */
#ifndef AC_KERNELS_MLA_GFX9_VALUES_H
#define AC_KERNELS_MLA_GFX9_VALUES_H

#include "mla_gfx9_tile.h"

/* V^T for one multiplication: the words of A for N tiles of 16 columns, from tile `first` of block `block` on, over
 * GROUPS groups of 16 keys from group `group` on. N is a multiple of LEAST_TILES. Which column row m of tile e is: see
 * output_column(). */
#if defined(__gfx950__)

#define LEAST_TILES 1
template <class matrix_t, int GROUPS, int N, int WORDS>
GPU_INLINE void read_values(uint32_t lane, uint32_t latent, int group, int block, int first,
                            uint32_t (&out)[N][WORDS]) {
    typedef tile_t<matrix_t> tile;
    typedef int i32x2_t __attribute__((ext_vector_type(2)));
    typedef GPU_LOCAL s16x4_t *halves_t;
    typedef GPU_LOCAL i32x2_t *bytes_t;
    uint32_t g = lane / 16;
    if constexpr (matrix_t::BYTES == 1) {
        uint32_t j = lane / 2 % 8, key = j / 4 * 16 + 4 * g + j % 4;
        uint32_t from = one_address(tile::lane_part(latent, key, 0) + lane % 2 * 8 + group * tile::GROUP);
        UNROLLED for (int e = 0; e < N; e++)
            UNROLLED for (int n = 0; n < GROUPS; n += 2) {
                auto at = (bytes_t)(tile::chunk(from, TILES * block + first + e) + n * tile::GROUP);
                u32x2_t x = BITS(u32x2_t, __builtin_amdgcn_ds_read_tr8_b64_v2i32(at));
                out[e][n] = x.x, out[e][n + 1] = x.y;
            }
    } else {
        uint32_t from = one_address(tile::lane_part(latent, 4 * g + lane / 4 % 4, lane / 2 % 2) + lane % 2 * 8 +
                                    group * tile::GROUP);
        UNROLLED for (int e = 0; e < N; e++)
            UNROLLED for (int n = 0; n < GROUPS; n++) {
                auto at = (halves_t)(tile::chunk(from, 2 * (TILES * block + first + e)) + n * tile::GROUP);
                u32x2_t x = BITS(u32x2_t, __builtin_amdgcn_ds_read_tr16_b64_v4i16(at));
                out[e][2 * n] = x.x, out[e][2 * n + 1] = x.y;
            }
    }
}

/* The column of element i of a lane's tile e. A run of RUN elements is consecutive. */
#define OUTPUT_RUN 4
GPU_INLINE int output_column(int block, int run) { return 128 * block + 16 * run + gpu_lane() / 16 * 4; }

#else

/* 4 keys x 4 columns of bytes, transposed. */
GPU_INLINE void transpose_bytes(const uint32_t (&from)[4], uint32_t (&out)[4]) {
    UNROLLED for (int half = 0; half < 2; half++) {
        uint32_t pairs = half ? 0x07030602 : 0x05010400;
        uint32_t a = __builtin_amdgcn_perm(from[1], from[0], pairs), b = __builtin_amdgcn_perm(from[3], from[2], pairs);
        out[2 * half] = __builtin_amdgcn_perm(b, a, 0x05040100);
        out[2 * half + 1] = __builtin_amdgcn_perm(b, a, 0x07060302);
    }
}

#define LEAST_TILES TILES
template <class matrix_t, int GROUPS, int N, int WORDS>
GPU_INLINE void read_values(uint32_t lane, uint32_t latent, int group, int block, int, uint32_t (&out)[N][WORDS]) {
    static_assert(N == TILES, "a lane reads a block");
    typedef tile_t<matrix_t> tile;
    uint32_t c = lane % 16, g = lane / 16;
    UNROLLED for (int n = 0; n < GROUPS; n++) {
        u32x4_t x[4]; /* 8 columns of 4 keys: 16 bytes, or 8 of them */
        UNROLLED for (int i = 0; i < 4; i++) {
            uint32_t at = (group + n) * tile::GROUP + block * 128 * matrix_t::BYTES;
            if (matrix_t::BYTES == 1)
                x[i].xy = local<u32x2_t>(tile::lane_part(latent, 4 * g + i, c / 2) + c % 2 * 8 + at);
            else x[i] = local<u32x4_t>(tile::lane_part(latent, 4 * g + i, c) + at);
        }
        if constexpr (matrix_t::BYTES == 1) {
            UNROLLED for (int w = 0; w < 2; w++) {
                uint32_t columns[4];
                transpose_bytes({x[0][w], x[1][w], x[2][w], x[3][w]}, columns);
                UNROLLED for (int k = 0; k < 4; k++) out[4 * w + k][n] = columns[k];
            }
        } else {
            UNROLLED for (int e = 0; e < TILES; e++)
                UNROLLED for (int i = 0; i < 2; i++)
                    out[e][2 * n + i] = __builtin_amdgcn_perm(x[2 * i + 1][e / 2], x[2 * i][e / 2],
                                                              e % 2 ? 0x07060302 : 0x05040100);
        }
    }
}

#define OUTPUT_RUN 8
GPU_INLINE int output_column(int block, int run) { return 128 * block + gpu_lane() / 16 * 32 + 8 * run; }

#endif

#endif
