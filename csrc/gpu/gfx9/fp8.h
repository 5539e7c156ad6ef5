/* fp8 keys as bf16 or fp16, exactly. The arch's own kind is an instruction; of the other kind the tile holds the value
 * without its unit (fp8_unit), so that fn on gfx942, which the quantised records need, takes the same instruction. */
#ifndef AC_GPU_GFX9_FP8_H
#define AC_GPU_GFX9_FP8_H

#include "matrix.h"

GPU_INLINE bool fp8_is_foreign(int dtype) { return dtype != fp8_matrix_t::DTYPE; }

/* What one in the tile stands for. fn read as fnuz is half its value. */
GPU_INLINE float fp8_unit(int dtype) { return dtype == AC_FLOAT8_E4M3FN && fp8_is_foreign(dtype) ? 2 : 1; }

/* Two floats that the type can hold, as a word. */
template <class matrix_t> GPU_INLINE uint32_t pack_exact(float low, float high) {
    if (matrix_t::DTYPE == AC_FLOAT16) return BITS(uint32_t, __builtin_amdgcn_cvt_pkrtz(low, high));
    return __builtin_amdgcn_perm(BITS(uint32_t, high), BITS(uint32_t, low), 0x07060302);
}

template <class matrix_t> GPU_INLINE void expand_own(uint32_t bytes, uint32_t (&out)[2]) {
    f32x2_t low = __builtin_amdgcn_cvt_pk_f32_fp8((int)bytes, false);
    f32x2_t high = __builtin_amdgcn_cvt_pk_f32_fp8((int)bytes, true);
    out[0] = pack_exact<matrix_t>(low.x, low.y);
    out[1] = pack_exact<matrix_t>(high.x, high.y);
}

/* Exponent and mantissa moved to where fp32 has them are the value times 2^-120 (fn) or 2^-119 (fnuz), also where the
 * byte is denormal. */
GPU_INLINE float decode_foreign(uint32_t byte) {
    float value = BITS(float, (byte & 0x80) << 24 | (byte & 0x7f) << 20) * 0x1p119f;
    bool nan = fp8_matrix_t::DTYPE == AC_FLOAT8_E4M3FN ? byte == 0x80 : (byte & 0x7f) == 0x7f;
    return nan ? __builtin_nanf("") : value;
}

template <class matrix_t> GPU_INLINE void expand_foreign(uint32_t bytes, uint32_t (&out)[2]) {
    UNROLLED for (int i = 0; i < 2; i++, bytes >>= 16)
        out[i] = pack_exact<matrix_t>(decode_foreign(bytes & 0xff), decode_foreign(bytes >> 8 & 0xff));
}

/* 16 bytes of each of N loads as two chunks of 8 elements each. */
template <class matrix_t, int N>
GPU_INLINE void expand(const u32x4_t (&from)[N], bool foreign, u32x4_t (&out)[2 * N]) {
    uint32_t pair[2];
    bool by_hand = foreign;
#if defined(__gfx942__)
    /* fn as fnuz: only NaN (7f, ff) and -0 (80) differ by more than the unit. NaN is rare enough for a branch. */
    uint32_t nans = 0;
    UNROLLED for (int n = 0; n < N; n++)
        UNROLLED for (int w = 0; w < 4; w++) nans |= (from[n][w] & 0x7f7f7f7f) + 0x01010101;
    by_hand = foreign && gpu_any(nans & 0x80808080);
#endif
    if (by_hand) {
        UNROLLED for (int n = 0; n < N; n++)
            UNROLLED for (int w = 0; w < 4; w++) {
                expand_foreign<matrix_t>(from[n][w], pair);
                out[2 * n + w / 2][w % 2 * 2] = pair[0], out[2 * n + w / 2][w % 2 * 2 + 1] = pair[1];
            }
        return;
    }
    UNROLLED for (int n = 0; n < N; n++)
        UNROLLED for (int w = 0; w < 4; w++) {
            uint32_t bytes = from[n][w];
#if defined(__gfx942__)
            uint32_t keep = foreign ? 0x7f7f7f7f : ~0u; /* with the carry: the sign of all bytes but +-0 */
            bytes &= ((bytes & 0x7f7f7f7f) + 0x7f7f7f7f) | keep;
#endif
            expand_own<matrix_t>(bytes, pair);
            out[2 * n + w / 2][w % 2 * 2] = pair[0], out[2 * n + w / 2][w % 2 * 2 + 1] = pair[1];
        }
}

#endif
