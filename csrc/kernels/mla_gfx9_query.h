/* A tile's queries as B of the scores: lane 16 g + c holds, of row c, the chunks that lane group g meets, in the order
 * of the keys. A query type that the matrix type does not hold is the sum of TERMS of them. */
#ifndef AC_KERNELS_MLA_GFX9_QUERY_H
#define AC_KERNELS_MLA_GFX9_QUERY_H

#include "mla_gfx9_load.h"

/* Steps (chunks of a lane) of the latent and of the rope part. */
template <class matrix_t> struct query_t {
    static constexpr int LATENT = tile_t<matrix_t>::CHUNK_STEPS, ROPE = tile_t<matrix_t>::ROPE_STEPS;
    u32x4_t latent[LATENT], rope[ROPE];
};

/* Queries of the matrix type itself. */
template <class matrix_t, int WIDEN, int WIDEN_ROPE>
GPU_INLINE void load_query(const char *row, int rope_dim, query_t<matrix_t> (&out)[1]) {
    typedef query_t<matrix_t> q_t;
    const u32x4_t none = {0, 0, 0, 0};
    const char *latent = row + lane_chunk<WIDEN>(gpu_lane()) * 16;
    const char *rope = row + tile_t<matrix_t>::ROW + lane_chunk<WIDEN_ROPE>(gpu_lane()) * 16;
    UNROLLED for (int i = 0; i < q_t::LATENT; i++)
        out[0].latent[i] = gpu_load<u32x4_t>(latent + step_chunk<WIDEN>(i) * 16);
    UNROLLED for (int i = 0; i < q_t::ROPE; i++)
        out[0].rope[i] = rope_dim ? gpu_load<u32x4_t>(rope + step_chunk<WIDEN_ROPE>(i) * 16) : none;
}

/* The next term of x, a number of the matrix type in its 16 bits; x becomes what is left for the terms after it. All
 * terms have the sign of x, and none is 0 unless x is, or is among the type's smallest numbers: else an infinite key
 * would meet both signs, or a 0, and its score would be NaN. Hence all but the last are rounded towards 0, and what one
 * term holds is divided between two. */
template <class matrix_t> GPU_INLINE uint32_t take_term(bool last, float *x) {
    const bool is_bf16 = matrix_t::DTYPE == AC_BFLOAT16;
    auto value_of = [&](uint32_t bits) {
        return is_bf16 ? BITS(float, bits << 16) : (float)BITS(_Float16, (uint16_t)bits);
    };
    auto truncated = [&](float value) {
        if (is_bf16) return BITS(uint32_t, value) >> 16;
        return BITS(uint32_t, __builtin_amdgcn_cvt_pkrtz(value, 0.0f)) & 0xffff;
    };
    if (last || !(*x - *x == 0)) return is_bf16 ? gpu_bf16(*x) : gpu_f16(*x); /* NaN and infinity stay what they are */
    uint32_t bits = truncated(*x);
    if (value_of(bits) == *x) bits = truncated(*x / 2);
    *x -= value_of(bits);
    return bits;
}

/* fp16 as two bf16: 11 significant bits are 8 and at most 3. */
GPU_INLINE void split_f16(u32x4_t from, u32x4_t *high, u32x4_t *low) {
    UNROLLED for (int w = 0; w < 4; w++) {
        f16x2_t pair = BITS(f16x2_t, (uint32_t)from[w]);
        float x = (float)pair.x, y = (float)pair.y;
        uint32_t x_high = take_term<bf16_matrix_t>(false, &x), y_high = take_term<bf16_matrix_t>(false, &y);
        (*high)[w] = x_high | y_high << 16;
        (*low)[w] = take_term<bf16_matrix_t>(true, &x) | take_term<bf16_matrix_t>(true, &y) << 16;
    }
}

template <class matrix_t, int WIDEN, int WIDEN_ROPE>
GPU_INLINE void load_query(const char *row, int rope_dim, query_t<matrix_t> (&out)[2]) {
    typedef query_t<matrix_t> q_t;
    query_t<matrix_t> whole[1];
    load_query<matrix_t, WIDEN, WIDEN_ROPE>(row, rope_dim, whole);
    UNROLLED for (int i = 0; i < q_t::LATENT; i++) split_f16(whole[0].latent[i], &out[0].latent[i], &out[1].latent[i]);
    UNROLLED for (int i = 0; i < q_t::ROPE; i++) split_f16(whole[0].rope[i], &out[0].rope[i], &out[1].rope[i]);
}

#endif
