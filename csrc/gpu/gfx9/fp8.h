/* fp8 keys as bf16 or fp16, exactly. The arch converts its own kind (fnuz on gfx942, fn on gfx950) by an instruction.
 * The other kind is converted up to a constant factor (fp8_factor_of), so that fn on gfx942, which the quantised
 * records need, takes the same instruction. */
#ifndef AC_GPU_GFX9_FP8_H
#define AC_GPU_GFX9_FP8_H

#include "bytes.h"

GPU_INLINE bool fp8_is_other(int dtype) { return dtype != fp8_matrix_t::DTYPE; }

/* What a converted value has to be multiplied by: fn read as fnuz is half its value. */
GPU_INLINE float fp8_factor_of(int dtype) { return dtype == AC_FLOAT8_E4M3FN && fp8_is_other(dtype) ? 2 : 1; }

/* Two floats that the type can hold, as a word. */
template <class matrix_t> GPU_INLINE uint32_t pack_exact(float low, float high) {
    if (matrix_t::DTYPE == AC_FLOAT16) return BITS(uint32_t, __builtin_amdgcn_cvt_pkrtz(low, high));
    return __builtin_amdgcn_perm(BITS(uint32_t, high), BITS(uint32_t, low), 0x07060302);
}

template <class matrix_t> GPU_INLINE void widen_own_fp8(uint32_t bytes, uint32_t (&out)[2]) {
    f32x2_t low = __builtin_amdgcn_cvt_pk_f32_fp8((int)bytes, false);
    f32x2_t high = __builtin_amdgcn_cvt_pk_f32_fp8((int)bytes, true);
    out[0] = pack_exact<matrix_t>(low.x, low.y);
    out[1] = pack_exact<matrix_t>(high.x, high.y);
}

/* The byte's exponent and mantissa, moved to where fp32 has them, are the value times 2^-120 (fn) or 2^-119 (fnuz);
 * this holds for subnormals too. */
GPU_INLINE float decode_other_fp8(uint32_t byte) {
    float value = BITS(float, (byte & 0x80) << 24 | (byte & 0x7f) << 20) * 0x1p119f;
    bool nan = fp8_matrix_t::DTYPE == AC_FLOAT8_E4M3FN ? byte == 0x80 : (byte & 0x7f) == 0x7f;
    return nan ? __builtin_nanf("") : value;
}

template <class matrix_t> GPU_INLINE void widen_other_fp8(uint32_t bytes, uint32_t (&out)[2]) {
    GPU_UNROLL for (int i = 0; i < 2; i++, bytes >>= 16)
        out[i] = pack_exact<matrix_t>(decode_other_fp8(bytes & 0xff), decode_other_fp8(bytes >> 8 & 0xff));
}

/* 16 bytes of each of N loads as two chunks of 8 elements each. */
template <class matrix_t, int N>
GPU_INLINE void widen_fp8(const u32x4_t (&from)[N], bool other_fp8, u32x4_t (&out)[2 * N]) {
    uint32_t pair[2];
#if defined(__gfx942__)
    u32x4_t own[N];
    GPU_UNROLL for (int n = 0; n < N; n++) own[n] = from[n];
    if (other_fp8) fnuz_of_fn(own);
#else
    const u32x4_t(&own)[N] = from;
    if (other_fp8) {
        GPU_UNROLL for (int n = 0; n < N; n++)
            GPU_UNROLL for (int w = 0; w < 4; w++) {
                widen_other_fp8<matrix_t>(from[n][w], pair);
                out[2 * n + w / 2][w % 2 * 2] = pair[0], out[2 * n + w / 2][w % 2 * 2 + 1] = pair[1];
            }
        return;
    }
#endif
    GPU_UNROLL for (int n = 0; n < N; n++)
        GPU_UNROLL for (int w = 0; w < 4; w++) {
            widen_own_fp8<matrix_t>(own[n][w], pair);
            out[2 * n + w / 2][w % 2 * 2] = pair[0], out[2 * n + w / 2][w % 2 * 2 + 1] = pair[1];
        }
}

#endif
