/* A tile's queries as B of the scores: lane 16 g + c holds, of row c, the chunks of lane group g, in the order of the
 * keys. A query of a type that the matrix type does not contain is a sum of TERMS numbers of it. */
#ifndef AC_OPS_ATTENTION_GFX9_QUERY_H
#define AC_OPS_ATTENTION_GFX9_QUERY_H

#include "keys.h"

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
    const char *latent = row + lane_chunk<WIDEN>(recompute_lane_id()) * 16;
    const char *rope = row + tile_t<matrix_t>::ROW + lane_chunk<WIDEN_ROPE>(recompute_lane_id()) * 16;
    GPU_UNROLL for (int i = 0; i < q_t::LATENT; i++)
        out[0].latent[i] = gpu_load<u32x4_t>(latent + step_chunk<WIDEN>(i) * 16);
    GPU_UNROLL for (int i = 0; i < q_t::ROPE; i++)
        out[0].rope[i] = rope_dim ? gpu_load<u32x4_t>(rope + step_chunk<WIDEN_ROPE>(i) * 16) : none;
}

/* Takes the next term of x: a number of the matrix type, as its 16 bits; x becomes the rest. All terms have the sign of
 * x, and none is 0 unless x is 0 or among the type's smallest numbers: an infinite key would otherwise be multiplied by
 * both signs, or by 0, and its score would be NaN. So all terms but the last are rounded towards 0, and an x that fits
 * one term is divided between two. */
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
    GPU_UNROLL for (int w = 0; w < 4; w++) {
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
    GPU_UNROLL for (int i = 0; i < q_t::LATENT; i++)
        split_f16(whole[0].latent[i], &out[0].latent[i], &out[1].latent[i]);
    GPU_UNROLL for (int i = 0; i < q_t::ROPE; i++) split_f16(whole[0].rope[i], &out[0].rope[i], &out[1].rope[i]);
}

/* --- mixed: queries of any type for bf16 or fp16 keys, 16 rows; for rare combinations of types ---
 * A query is the sum of
 * TERMS numbers of the matrix type: 3 bf16 hold an fp32; 2 fp16 hold it to 2^-23, once the row is scaled by a power of
 * two so that its largest element is just below 2^15. All waves have the same rows: each converts a quarter of them and
 * shares it through LDS. */

/* 8 elements of a query, of any type, as fp32. */
typedef struct eight_t {
    float x[8];
} eight_t;

GPU_INLINE float decode_fp8(uint32_t byte, bool fn) {
    float value = BITS(float, (byte & 0x80) << 24 | (byte & 0x7f) << 20) * (fn ? 0x1p120f : 0x1p119f);
    bool nan = fn ? (byte & 0x7f) == 0x7f : byte == 0x80;
    return nan ? __builtin_nanf("") : value;
}

GPU_INLINE eight_t load_eight(const char *row, int element, int dtype) {
    eight_t out;
    if (dtype == AC_FLOAT32) return gpu_load<eight_t>(row + element * 4);
    if (dtype == AC_BFLOAT16 || dtype == AC_FLOAT16) {
        u32x4_t words = gpu_load<u32x4_t>(row + element * 2);
        GPU_UNROLL for (int i = 0; i < 8; i++) {
            uint32_t half = words[i / 2] >> i % 2 * 16 & 0xffff;
            out.x[i] = dtype == AC_BFLOAT16 ? BITS(float, half << 16) : (float)BITS(_Float16, (uint16_t)half);
        }
        return out;
    }
    u32x2_t words = gpu_load<u32x2_t>(row + element);
    GPU_UNROLL for (int i = 0; i < 8; i++)
        out.x[i] = decode_fp8(words[i / 4] >> i % 4 * 8 & 0xff, dtype == AC_FLOAT8_E4M3FN);
    return out;
}

/* The power of two that takes the row's largest element just below 2^15; 1 for bf16, whose range is that of fp32. */
template <class matrix_t> GPU_INLINE float scale_of_row(const char *row, int elements, int dtype) {
    float largest = 0;
    if (matrix_t::DTYPE == AC_BFLOAT16) return 1;
    for (int i = 0; i < elements; i += 8) {
        eight_t eight = load_eight(row, i, dtype);
        GPU_UNROLL for (int k = 0; k < 8; k++) {
            float size = __builtin_fabsf(eight.x[k]);
            if (size < __builtin_inff()) largest = gpu_max(largest, size);
        }
    }
    int exponent = (int)(BITS(uint32_t, largest) >> 23) - 127; /* below 2^-126: -127, which is small enough */
    int shift = 14 - exponent < 120 ? 14 - exponent : 120;
    return largest == 0 ? 1 : BITS(float, (uint32_t)(shift + 127) << 23);
}

/* Fills `out`; returns what the scores have to be multiplied by. `elements`: of a row, 576 or 512. */
template <class matrix_t, int WIDEN, int WIDEN_ROPE, int TERMS>
GPU_INLINE float convert_query(const char *row, int elements, int dtype, int wave, query_t<matrix_t> (&out)[TERMS]) {
    constexpr int LATENT = query_t<matrix_t>::LATENT, ROPE = query_t<matrix_t>::ROPE, STEPS = LATENT + ROPE;
    const uint32_t lane = recompute_lane_id();
    const float scale = scale_of_row<matrix_t>(row, elements, dtype);
    for (int step = wave; step < STEPS; step += 4) {
        uint32_t chunk = lane_chunk<WIDEN>(lane) + step_chunk<WIDEN>(step);
        if (step >= LATENT) chunk = 64 + lane_chunk<WIDEN_ROPE>(lane) + step_chunk<WIDEN_ROPE>(step - LATENT);
        eight_t eight = {};
        if ((int)chunk * 8 < elements) eight = load_eight(row, chunk * 8, dtype);
        GPU_UNROLL for (int k = 0; k < 8; k++) eight.x[k] *= scale;
        for (int term = 0; term < TERMS; term++) {
            u32x4_t words;
            GPU_UNROLL for (int w = 0; w < 4; w++) {
                uint32_t low = take_term<matrix_t>(term == TERMS - 1, &eight.x[2 * w]);
                words[w] = low | take_term<matrix_t>(term == TERMS - 1, &eight.x[2 * w + 1]) << 16;
            }
            lds<u32x4_t>(((term * STEPS + step) * 64 + lane) * 16) = words;
        }
    }
    gpu_barrier();
    GPU_UNROLL for (int term = 0; term < TERMS; term++) {
        GPU_UNROLL for (int i = 0; i < LATENT; i++)
            out[term].latent[i] = lds<u32x4_t>(((term * STEPS + i) * 64 + lane) * 16);
        GPU_UNROLL for (int i = 0; i < ROPE; i++)
            out[term].rope[i] = lds<u32x4_t>(((term * STEPS + LATENT + i) * 64 + lane) * 16);
    }
    gpu_barrier();
    return 1 / scale;
}

#endif
