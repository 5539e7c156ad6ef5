/* Matrix instructions of gfx942 and gfx950, all of 16 rows x 16 columns. Lane l = 16 g + c of a wave holds
 *   of A [16, K]   row c, K/4 neighbouring elements from K/4 g on
 *   of B [K, 16]   column c, the same elements
 *   of C [16, 16]  column c, rows 4 g .. 4 g + 3
 * Scores are S^T = K Q^T: keys are rows, query rows are columns, so that a query row's statistics live in the lanes of
 * its column. The output is O^T = V^T P^T: what a lane holds of P^T after the scores (keys 4 g + i of 16) is what it
 * has to hold of B. Instructions with K = 32 take two such groups of 16 keys; V^T uses the same order of keys. */
#ifndef AC_GPU_GFX9_MATRIX_H
#define AC_GPU_GFX9_MATRIX_H

#include "../../core/dtype.h"
#include "../gpu.h"

typedef float f32x2_t __attribute__((ext_vector_type(2)));
typedef float f32x4_t __attribute__((ext_vector_type(4)));
typedef uint32_t u32x2_t __attribute__((ext_vector_type(2)));
typedef uint32_t u32x4_t __attribute__((ext_vector_type(4)));
typedef short s16x4_t __attribute__((ext_vector_type(4)));
typedef __bf16 bf16x8_t __attribute__((ext_vector_type(8)));
typedef _Float16 f16x4_t __attribute__((ext_vector_type(4)));
typedef _Float16 f16x8_t __attribute__((ext_vector_type(8)));
typedef _Float16 f16x2_t __attribute__((ext_vector_type(2)));

#define BITS(type, x) __builtin_bit_cast(type, x)

GPU_INLINE u32x2_t half_of(u32x4_t x, int half) { return half ? x.zw : x.xy; }

/* What the three element types have in common:
 *   BYTES, DTYPE              of an element
 *   GROUPS                    groups of 16 keys that one multiplication for the output takes at most
 *   dot(a, b, c)              c + the product of 16 bytes of each row of A and of each column of B
 *   DOTS, dot2(a, b, c)       steps that a multiplication for the scores takes; two of them at once
 *   pack(p)                   4 probabilities in the words of B
 *   mul(a, b, c)              c + A B, of N words a lane: one or two groups of keys */
struct bf16_matrix_t {
    static constexpr int BYTES = 2, DTYPE = AC_BFLOAT16, DOTS = 1;
    GPU_INLINE f32x4_t mul(const uint32_t (&a)[2], const uint32_t (&b)[2], f32x4_t c) {
        u32x2_t x = {a[0], a[1]}, y = {b[0], b[1]};
        return __builtin_amdgcn_mfma_f32_16x16x16bf16_1k(BITS(s16x4_t, x), BITS(s16x4_t, y), c, 0, 0, 0);
    }
#if defined(__gfx950__)
    static constexpr int GROUPS = 2;
    GPU_INLINE f32x4_t dot(u32x4_t a, u32x4_t b, f32x4_t c) {
        return __builtin_amdgcn_mfma_f32_16x16x32_bf16(BITS(bf16x8_t, a), BITS(bf16x8_t, b), c, 0, 0, 0);
    }
    GPU_INLINE void pack(f32x4_t p, uint32_t (&out)[2]) {
        typedef __bf16 bf16x4_t __attribute__((ext_vector_type(4)));
        u32x2_t words = BITS(u32x2_t, __builtin_convertvector(p, bf16x4_t));
        out[0] = words.x, out[1] = words.y;
    }
#else
    static constexpr int GROUPS = 1;
    GPU_INLINE f32x4_t dot(u32x4_t a, u32x4_t b, f32x4_t c) {
        GPU_UNROLL for (int half = 0; half < 2; half++)
            c = __builtin_amdgcn_mfma_f32_16x16x16bf16_1k(BITS(s16x4_t, half_of(a, half)),
                                                          BITS(s16x4_t, half_of(b, half)), c, 0, 0, 0);
        return c;
    }
    /* Rounded to nearest, ties up: one addition. The error is at most half a unit in the last place, as with ties to
     * even. */
    GPU_INLINE void pack(f32x4_t p, uint32_t (&out)[2]) {
        u32x4_t x = BITS(u32x4_t, p) + 0x8000u;
        out[0] = __builtin_amdgcn_perm(x.y, x.x, 0x07060302);
        out[1] = __builtin_amdgcn_perm(x.w, x.z, 0x07060302);
    }
#endif
};

struct f16_matrix_t {
    static constexpr int BYTES = 2, DTYPE = AC_FLOAT16, DOTS = 1;
    GPU_INLINE f32x4_t mul(const uint32_t (&a)[2], const uint32_t (&b)[2], f32x4_t c) {
        u32x2_t x = {a[0], a[1]}, y = {b[0], b[1]};
        return __builtin_amdgcn_mfma_f32_16x16x16f16(BITS(f16x4_t, x), BITS(f16x4_t, y), c, 0, 0, 0);
    }
    GPU_INLINE void pack(f32x4_t p, uint32_t (&out)[2]) {
        u32x2_t words = BITS(u32x2_t, __builtin_convertvector(p, f16x4_t));
        out[0] = words.x, out[1] = words.y;
    }
#if defined(__gfx950__)
    static constexpr int GROUPS = 2;
    GPU_INLINE f32x4_t dot(u32x4_t a, u32x4_t b, f32x4_t c) {
        return __builtin_amdgcn_mfma_f32_16x16x32_f16(BITS(f16x8_t, a), BITS(f16x8_t, b), c, 0, 0, 0);
    }
#else
    static constexpr int GROUPS = 1;
    GPU_INLINE f32x4_t dot(u32x4_t a, u32x4_t b, f32x4_t c) {
        GPU_UNROLL for (int half = 0; half < 2; half++)
            c = __builtin_amdgcn_mfma_f32_16x16x16f16(BITS(f16x4_t, half_of(a, half)), BITS(f16x4_t, half_of(b, half)),
                                                      c, 0, 0, 0);
        return c;
    }
#endif
};

/* The arch's own kind: fnuz on gfx942, fn on gfx950. */
struct fp8_matrix_t {
    static constexpr int BYTES = 1;
#if defined(__gfx950__)
    static constexpr int DTYPE = AC_FLOAT8_E4M3FN, DOTS = 2, GROUPS = 8;
    /* K = 128 at twice the rate of K = 32. The two 0 are the formats, e4m3; the scales are not used. */
    GPU_INLINE f32x4_t dot2(const u32x4_t (&a)[2], const u32x4_t (&b)[2], f32x4_t c) {
        typedef int i32x8_t __attribute__((ext_vector_type(8)));
        i32x8_t x = BITS(i32x8_t, __builtin_shufflevector(a[0], a[1], 0, 1, 2, 3, 4, 5, 6, 7));
        i32x8_t y = BITS(i32x8_t, __builtin_shufflevector(b[0], b[1], 0, 1, 2, 3, 4, 5, 6, 7));
        return __builtin_amdgcn_mfma_scale_f32_16x16x128_f8f6f4(x, y, c, 0, 0, 0, 0, 0, 0);
    }
#else
    static constexpr int DTYPE = AC_FLOAT8_E4M3FNUZ, DOTS = 1, GROUPS = 2;
#endif
    GPU_INLINE f32x4_t mul(const uint32_t (&a)[2], const uint32_t (&b)[2], f32x4_t c) {
        u32x2_t x = {a[0], a[1]}, y = {b[0], b[1]};
        return __builtin_amdgcn_mfma_f32_16x16x32_fp8_fp8(BITS(long, x), BITS(long, y), c, 0, 0, 0);
    }
    GPU_INLINE f32x4_t dot(u32x4_t a, u32x4_t b, f32x4_t c) {
        GPU_UNROLL for (int half = 0; half < 2; half++)
            c = __builtin_amdgcn_mfma_f32_16x16x32_fp8_fp8(BITS(long, half_of(a, half)), BITS(long, half_of(b, half)),
                                                           c, 0, 0, 0);
        return c;
    }
    GPU_INLINE void pack(f32x4_t p, uint32_t (&out)[1]) {
        int word = __builtin_amdgcn_cvt_pk_fp8_f32(p.x, p.y, 0, false);
        out[0] = (uint32_t)__builtin_amdgcn_cvt_pk_fp8_f32(p.z, p.w, word, true);
    }
};

/* One step of the scores, or two. */
template <class matrix_t> GPU_INLINE f32x4_t dots(const u32x4_t (&a)[1], const u32x4_t (&b)[1], f32x4_t c) {
    return matrix_t::dot(a[0], b[0], c);
}
template <class matrix_t> GPU_INLINE f32x4_t dots(const u32x4_t (&a)[2], const u32x4_t (&b)[2], f32x4_t c) {
    return matrix_t::dot2(a, b, c);
}

/* c + A B over one, two or eight groups of keys: one instruction where the arch has it. */
template <class matrix_t>
GPU_INLINE f32x4_t multiply(const uint32_t (&a)[4], const uint32_t (&b)[4], f32x4_t c) {
    u32x4_t x = {a[0], a[1], a[2], a[3]}, y = {b[0], b[1], b[2], b[3]};
    return matrix_t::dot(x, y, c);
}
template <class matrix_t>
GPU_INLINE f32x4_t multiply(const uint32_t (&a)[2], const uint32_t (&b)[2], f32x4_t c) {
    return matrix_t::mul(a, b, c);
}

template <class matrix_t>
GPU_INLINE f32x4_t multiply(const uint32_t (&a)[8], const uint32_t (&b)[8], f32x4_t c) {
    u32x4_t x[2] = {{a[0], a[1], a[2], a[3]}, {a[4], a[5], a[6], a[7]}};
    u32x4_t y[2] = {{b[0], b[1], b[2], b[3]}, {b[4], b[5], b[6], b[7]}};
    return matrix_t::dot2(x, y, c);
}

#endif
