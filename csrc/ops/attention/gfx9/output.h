/* The output of a wave over GROUPS groups of 16 keys: from probabilities and values to accumulators. */
#ifndef AC_OPS_ATTENTION_GFX9_OUTPUT_H
#define AC_OPS_ATTENTION_GFX9_OUTPUT_H

#include "scores.h"
#include "softmax.h"

/* V^T for one multiplication: the words of A for N tiles of 16 columns, from tile `first` of block `block` on, over
 * GROUPS groups of 16 keys from group `group` on. N is a multiple of LEAST_TILES. Which column row m of tile e is: see
 * output_column(). */
#if defined(__gfx950__)

constexpr int LEAST_TILES = 1;
/* The lane's part of the addresses of V^T, to which constants are added. */
template <class matrix_t> GPU_INLINE uint32_t values_of_lane(uint32_t lane, uint32_t latent) {
    typedef tile_t<matrix_t> tile;
    const uint32_t g = lane / 16, j = lane / 2 % 8;
    if (matrix_t::BYTES == 1)
        return keep_in_register(tile::lane_part(latent, j / 4 * 16 + 4 * g + j % 4, 0) + lane % 2 * 8);
    return keep_in_register(tile::lane_part(latent, 4 * g + lane / 4 % 4, lane / 2 % 2) + lane % 2 * 8);
}

/* The words of A for tile `number` of all columns, over GROUPS groups from group `group` on. */
template <class matrix_t, int GROUPS, int WORDS>
GPU_INLINE void read_column_tile(uint32_t from, int group, int number, uint32_t (&out)[WORDS]) {
    typedef tile_t<matrix_t> tile;
    typedef int i32x2_t __attribute__((ext_vector_type(2)));
    typedef GPU_SHARED i32x2_t *bytes_t;
    typedef GPU_SHARED s16x4_t *halves_t;
    GPU_UNROLL for (int w = 0; w < WORDS; w += 2) { /* two groups of bytes, or one of 16 bits */
        const uint32_t at = tile::chunk(from, matrix_t::BYTES * number) + (group + w / matrix_t::BYTES) * tile::GROUP;
        u32x2_t x;
        if constexpr (matrix_t::BYTES == 1) x = BITS(u32x2_t, __builtin_amdgcn_ds_read_tr8_b64_v2i32((bytes_t)at));
        else x = BITS(u32x2_t, __builtin_amdgcn_ds_read_tr16_b64_v4i16((halves_t)at));
        out[w] = x.x, out[w + 1] = x.y;
    }
}

template <class matrix_t, int GROUPS, int N, int WORDS>
GPU_INLINE void read_values(uint32_t lane, uint32_t latent, int group, int block, int first,
                            uint32_t (&out)[N][WORDS]) {
    const uint32_t from = values_of_lane<matrix_t>(lane, latent + group * tile_t<matrix_t>::GROUP);
    GPU_UNROLL for (int e = 0; e < N; e++)
        read_column_tile<matrix_t, GROUPS>(from, 0, TILES * block + first + e, out[e]);
}

/* The column of element i of a lane's tile e. A run of RUN elements is consecutive. */
constexpr int OUTPUT_RUN = 4;
GPU_INLINE int output_column(int block, int run) { return 128 * block + 16 * run + recompute_lane_id() / 16 * 4; }

#else

/* 4 keys x 4 columns of bytes, transposed. */
GPU_INLINE void transpose_bytes(const uint32_t (&from)[4], uint32_t (&out)[4]) {
    GPU_UNROLL for (int half = 0; half < 2; half++) {
        uint32_t pairs = half ? 0x07030602 : 0x05010400;
        uint32_t a = __builtin_amdgcn_perm(from[1], from[0], pairs), b = __builtin_amdgcn_perm(from[3], from[2], pairs);
        out[2 * half] = __builtin_amdgcn_perm(b, a, 0x05040100);
        out[2 * half + 1] = __builtin_amdgcn_perm(b, a, 0x07060302);
    }
}

constexpr int LEAST_TILES = TILES;
template <class matrix_t, int GROUPS, int N, int WORDS>
GPU_INLINE void read_values(uint32_t lane, uint32_t latent, int group, int block, int, uint32_t (&out)[N][WORDS]) {
    static_assert(N == TILES, "a lane reads a block");
    typedef tile_t<matrix_t> tile;
    uint32_t c = lane % 16, g = lane / 16;
    GPU_UNROLL for (int n = 0; n < GROUPS; n++) {
        u32x4_t x[4]; /* 8 columns of 4 keys: 16 bytes, or 8 of them */
        GPU_UNROLL for (int i = 0; i < 4; i++) {
            uint32_t at = (group + n) * tile::GROUP + block * 128 * matrix_t::BYTES;
            if (matrix_t::BYTES == 1)
                x[i].xy = lds<u32x2_t>(tile::lane_part(latent, 4 * g + i, c / 2) + c % 2 * 8 + at);
            else x[i] = lds<u32x4_t>(tile::lane_part(latent, 4 * g + i, c) + at);
        }
        if constexpr (matrix_t::BYTES == 1) {
            GPU_UNROLL for (int w = 0; w < 2; w++) {
                uint32_t columns[4];
                transpose_bytes({x[0][w], x[1][w], x[2][w], x[3][w]}, columns);
                GPU_UNROLL for (int k = 0; k < 4; k++) out[4 * w + k][n] = columns[k];
            }
        } else {
            GPU_UNROLL for (int e = 0; e < TILES; e++)
                GPU_UNROLL for (int i = 0; i < 2; i++)
                    out[e][2 * n + i] = __builtin_amdgcn_perm(x[2 * i + 1][e / 2], x[2 * i][e / 2],
                                                              e % 2 ? 0x07060302 : 0x05040100);
        }
    }
}

constexpr int OUTPUT_RUN = 8;
GPU_INLINE int output_column(int block, int run) { return 128 * block + recompute_lane_id() / 16 * 32 + 8 * run; }

#endif

/* Where V^T comes from: from the keys of a tile. */
struct tile_values_t {
    template <class matrix_t, int GROUPS, int N, int WORDS>
    GPU_INLINE void read(uint32_t lane, uint32_t latent, int group, int block, int first, uint32_t (&out)[N][WORDS]) {
        read_values<matrix_t, GROUPS>(lane, latent, group, block, first, out);
    }
};

/* A row tile's probabilities of GROUPS groups of keys: as words of B; for records as fp32, since each block of columns
 * multiplies them by other scales. */
template <class matrix_t, bool SCALED, int GROUPS> struct probabilities_t {
    uint32_t words[GROUPS * matrix_t::BYTES];
};
template <class matrix_t, int GROUPS> struct probabilities_t<matrix_t, true, GROUPS> {
    f32x4_t p[GROUPS];
};

template <class matrix_t, int GROUPS>
GPU_INLINE void pack_probabilities(const f32x4_t (&p)[GROUPS], probabilities_t<matrix_t, false, GROUPS> *out) {
    GPU_UNROLL for (int n = 0; n < GROUPS; n++) {
        uint32_t words[matrix_t::BYTES];
        matrix_t::pack(p[n], words);
        GPU_UNROLL for (int w = 0; w < matrix_t::BYTES; w++) out->words[n * matrix_t::BYTES + w] = words[w];
    }
}
template <class matrix_t, int GROUPS>
GPU_INLINE void pack_probabilities(const f32x4_t (&p)[GROUPS], probabilities_t<matrix_t, true, GROUPS> *out) {
    GPU_UNROLL for (int n = 0; n < GROUPS; n++) out->p[n] = p[n];
}

/* The words of one multiplication: WORDS from group `group` on, for block `block`. */
template <class matrix_t, int GROUPS, int WORDS, class scales_f>
GPU_INLINE void probability_words(const probabilities_t<matrix_t, false, GROUPS> &probabilities, int group, int,
                                  scales_f, uint32_t (&out)[WORDS]) {
    GPU_UNROLL for (int w = 0; w < WORDS; w++) out[w] = probabilities.words[group * matrix_t::BYTES + w];
}
template <class matrix_t, int GROUPS, int WORDS, class scales_f>
GPU_INLINE void probability_words(const probabilities_t<matrix_t, true, GROUPS> &probabilities, int group, int block,
                                  scales_f scales, uint32_t (&out)[WORDS]) {
    constexpr int PER_GROUP = matrix_t::BYTES;
    GPU_UNROLL for (int n = 0; n < WORDS / PER_GROUP; n++) {
        uint32_t words[PER_GROUP];
        f32x4_t weight = probabilities.p[group + n], scale = scales(group + n, block);
        GPU_UNROLL for (int i = 0; i < 4; i++) /* a masked key's scale may be NaN */
            weight[i] = weight[i] == 0 ? 0 : weight[i] * scale[i];
        matrix_t::pack(weight, words);
        GPU_UNROLL for (int w = 0; w < PER_GROUP; w++) out[n * PER_GROUP + w] = words[w];
    }
}

/* A run [from, to) of keys: which bits of the words of A belong to it. */
template <class matrix_t, int WORDS>
GPU_INLINE void mask_of_run(int lane, int first, int from, int to, uint32_t (&mask)[WORDS]) {
    constexpr int PER_WORD = 4 / matrix_t::BYTES, BITS_OF = 8 * matrix_t::BYTES;
    GPU_UNROLL for (int w = 0; w < WORDS; w++) {
        mask[w] = 0;
        GPU_UNROLL for (int i = 0; i < PER_WORD; i++) {
            int element = w * PER_WORD + i, key = first + element / 4 * 16 + lane / 16 * 4 + element % 4;
            if (key >= from && key < to) mask[w] |= ((1u << BITS_OF) - 1) << i * BITS_OF;
        }
    }
}

/* O^T += V^T P^T over the groups of one multiplication, from group `group` on, for N blocks of columns. */
template <class matrix_t, bool SCALED, int STEP, int GROUPS, int ROW_TILES, int N, class scales_f>
GPU_INLINE void add_values(const keys_t<GROUPS> &keys, int group, scales_f scales,
                           const probabilities_t<matrix_t, SCALED, GROUPS> (&probabilities)[ROW_TILES],
                           query_rows_t<N> (&rows)[ROW_TILES]) {
    constexpr int WORDS = STEP * matrix_t::BYTES;
    uint32_t p[ROW_TILES][WORDS], a[TILES][WORDS];
    GPU_UNROLL for (int block = 0; block < N; block++) {
        if (block == 0 || SCALED)
            GPU_UNROLL for (int r = 0; r < ROW_TILES; r++)
                probability_words(probabilities[r], group, block, scales, p[r]);
        read_values<matrix_t, STEP>(keys.lane, keys.latent, group, block, 0, a);
        GPU_UNROLL for (int e = 0; e < TILES; e++)
            GPU_UNROLL for (int r = 0; r < ROW_TILES; r++)
                rows[r].out[block][e] = multiply<matrix_t>(a[e], p[r], rows[r].out[block][e]);
    }
}

/* The same where some row may not see some key: first the keys that all rows see at once, then the others one by one.
 * The other keys are zeroed in V^T, and only the rows that see the run take the result, so that not even a NaN of a
 * masked key reaches a row. */
template <class values_t, class matrix_t, bool SCALED, int STEP, int GROUPS, int ROW_TILES, int N, class scales_f>
GPU_INLINE void add_masked_values(const keys_t<GROUPS> &keys, int group, scales_f scales,
                                  const probabilities_t<matrix_t, SCALED, GROUPS> (&probabilities)[ROW_TILES],
                                  query_rows_t<N> (&rows)[ROW_TILES]) {
    constexpr int WORDS = STEP * matrix_t::BYTES;
    uint32_t p[ROW_TILES][WORDS], a[LEAST_TILES][WORDS], mask[WORDS];
    int left = mla_clamp_far(keys.left), end = left < 16 * GROUPS ? left : 16 * GROUPS;
    int whole = left - keys.masked_tail < 1 ? 1 : left - keys.masked_tail;
    for (int from = 0, to = whole; from < end; from = to++) {
        const uint32_t lane = recompute_lane_id();
        mask_of_run<matrix_t>(lane, 16 * group, from, to, mask);
        GPU_UNROLL for (int block = 0; block < N; block++) {
            if (block == 0 || SCALED)
                GPU_UNROLL for (int r = 0; r < ROW_TILES; r++)
                    probability_words(probabilities[r], group, block, scales, p[r]);
            GPU_UNROLL for (int first = 0; first < TILES; first += LEAST_TILES) {
                values_t::template read<matrix_t, STEP>(lane, keys.latent, group, block, first, a);
                GPU_UNROLL for (int r = 0; r < ROW_TILES; r++) {
                    bool sees = from < left - rows[r].masked_tail;
                    GPU_UNROLL for (int e = 0; e < LEAST_TILES; e++) {
                        uint32_t run[WORDS];
                        f32x4_t &out = rows[r].out[block][first + e];
                        GPU_UNROLL for (int w = 0; w < WORDS; w++) run[w] = a[e][w] & mask[w];
                        f32x4_t more = multiply<matrix_t>(run, p[r], out);
                        GPU_UNROLL for (int i = 0; i < 4; i++) out[i] = sees ? more[i] : out[i];
                        __builtin_amdgcn_sched_barrier(0); /* one at a time, for want of registers */
                    }
                }
            }
        }
    }
}

/* The output of all groups. scales(group, block): of SCALED rows. */
template <class matrix_t, bool SCALED, bool ALL, int GROUPS, int ROW_TILES, int N, class scales_f>
GPU_INLINE void multiply_values(const keys_t<GROUPS> &keys, scales_f scales,
                                const probabilities_t<matrix_t, SCALED, GROUPS> (&probabilities)[ROW_TILES],
                                query_rows_t<N> (&rows)[ROW_TILES]) {
    constexpr int STEP = GROUPS < matrix_t::GROUPS ? GROUPS : matrix_t::GROUPS;
    GPU_UNROLL for (int group = 0; group < GROUPS; group += STEP)
        if (ALL) add_values<matrix_t, SCALED, STEP>(keys, group, scales, probabilities, rows);
        else add_masked_values<tile_values_t, matrix_t, SCALED, STEP>(keys, group, scales, probabilities, rows);
}

#endif
