/* The fp8 matrix type, and multiplications by how many steps or groups of keys they take. */
#ifndef AC_KERNELS_MLA_GFX9_MATRIX_FP8_H
#define AC_KERNELS_MLA_GFX9_MATRIX_FP8_H

#include "mla_gfx9_matrix.h"

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
    GPU_INLINE mla_headroom_t room() { return MLA_FP8_HEADROOM; }
    GPU_INLINE f32x4_t mul(const uint32_t (&a)[2], const uint32_t (&b)[2], f32x4_t c) {
        u32x2_t x = {a[0], a[1]}, y = {b[0], b[1]};
        return __builtin_amdgcn_mfma_f32_16x16x32_fp8_fp8(BITS(long, x), BITS(long, y), c, 0, 0, 0);
    }
    GPU_INLINE f32x4_t dot(u32x4_t a, u32x4_t b, f32x4_t c) {
        UNROLLED for (int half = 0; half < 2; half++)
            c = __builtin_amdgcn_mfma_f32_16x16x32_fp8_fp8(BITS(long, half_of(a, half)), BITS(long, half_of(b, half)),
                                                           c, 0, 0, 0);
        return c;
    }
    GPU_INLINE void pack(f32x4_t p, uint32_t (&out)[1]) {
        int word = __builtin_amdgcn_cvt_pk_fp8_f32(p.x, p.y, 0, false);
        out[0] = (uint32_t)__builtin_amdgcn_cvt_pk_fp8_f32(p.z, p.w, word, true);
    }
};

/* One or two steps of the scores. */
template <class matrix_t> GPU_INLINE f32x4_t dots(const u32x4_t (&a)[1], const u32x4_t (&b)[1], f32x4_t c) {
    return matrix_t::dot(a[0], b[0], c);
}
template <class matrix_t> GPU_INLINE f32x4_t dots(const u32x4_t (&a)[2], const u32x4_t (&b)[2], f32x4_t c) {
    return matrix_t::dot2(a, b, c);
}

/* Two groups of keys at once: as one instruction where the arch has it. */
template <class matrix_t>
GPU_INLINE f32x4_t multiply(const uint32_t (&a)[4], const uint32_t (&b)[4], f32x4_t c) {
    u32x4_t x = {a[0], a[1], a[2], a[3]}, y = {b[0], b[1], b[2], b[3]};
    return matrix_t::dot(x, y, c);
}
template <class matrix_t>
GPU_INLINE f32x4_t multiply(const uint32_t (&a)[2], const uint32_t (&b)[2], f32x4_t c) {
    return matrix_t::mul(a, b, c);
}

/* Eight groups of fp8. */
template <class matrix_t>
GPU_INLINE f32x4_t multiply(const uint32_t (&a)[8], const uint32_t (&b)[8], f32x4_t c) {
    u32x4_t x[2] = {{a[0], a[1], a[2], a[3]}, {a[4], a[5], a[6], a[7]}};
    u32x4_t y[2] = {{b[0], b[1], b[2], b[3]}, {b[4], b[5], b[6], b[7]}};
    return matrix_t::dot2(x, y, c);
}

#endif
