/* fp8 to the 16-bit matrix types on sm_90a, exactly. The instruction set converts fn to fp16. For fnuz the 7 bits of
 * exponent and mantissa are moved to where the wider type has them, and one multiplication corrects the exponent's bias
 * (also of subnormals). The one NaN of fnuz is handled on a separate path, which costs little as long as there is none.
 */
#ifndef AC_GPU_SM90_CONVERT_H
#define AC_GPU_SM90_CONVERT_H

#include "wgmma.h"

GPU_INLINE uint32_t sm90_mul_bf16x2(uint32_t a, uint32_t b) {
    uint32_t d;
    asm("mul.rn.bf16x2 %0, %1, %2;" : "=r"(d) : "r"(a), "r"(b));
    return d;
}

GPU_INLINE uint32_t sm90_mul_f16x2(uint32_t a, uint32_t b) {
    uint32_t d;
    asm("mul.rn.f16x2 %0, %1, %2;" : "=r"(d) : "r"(a), "r"(b));
    return d;
}

GPU_INLINE uint32_t sm90_pack_bf16(float low, float high) {
    uint32_t d;
    asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(d) : "f"(high), "f"(low));
    return d;
}

GPU_INLINE uint32_t sm90_pack_f16(float low, float high) {
    uint32_t d;
    asm("cvt.rn.f16x2.f32 %0, %1, %2;" : "=r"(d) : "f"(high), "f"(low));
    return d;
}

template <int TYPE> GPU_INLINE uint32_t sm90_pack(float low, float high) {
    return TYPE == SM90_BF16 ? sm90_pack_bf16(low, high) : sm90_pack_f16(low, high);
}

/* Four values as e4m3fn, the first in the lowest byte; what is too large becomes the largest. */
GPU_INLINE uint32_t sm90_pack_e4m3(float a, float b, float c, float d) {
    uint32_t word;
    asm("{.reg .b16 low, high; cvt.rn.satfinite.e4m3x2.f32 low, %2, %1; cvt.rn.satfinite.e4m3x2.f32 high, %4, %3;"
        "mov.b32 %0, {low, high};}" : "=r"(word) : "f"(a), "f"(b), "f"(c), "f"(d));
    return word;
}

/* The value of element `high` of a pair. */
template <int TYPE> GPU_INLINE float sm90_unpack(uint32_t pair, int high) {
    float f;
    if (TYPE == SM90_BF16) return __builtin_bit_cast(float, high ? pair & 0xffff0000u : pair << 16);
    asm("cvt.f32.f16 %0, %1;" : "=f"(f) : "h"((uint16_t)(high ? pair >> 16 : pair)));
    return f;
}

/* Elements 0 and 1 (or 2 and 3) of a word of fp8. NaN of fnuz becomes some number: see sm90_has_nan(). */
template <int TYPE, bool FNUZ> GPU_INLINE uint32_t sm90_widen_pair(uint32_t word, bool upper) {
    if (!FNUZ) {
        uint32_t d;
        asm("{.reg .b16 low, high; mov.b32 {low, high}, %1; cvt.rn.f16x2.e4m3x2 %0, low;}" : "=r"(d)
            : "r"(upper ? word >> 16 : word));
        return TYPE == SM90_F16 ? d : sm90_pack_bf16(sm90_unpack<SM90_F16>(d, 0), sm90_unpack<SM90_F16>(d, 1));
    }
    uint32_t t = __byte_perm(word, 0, upper ? 0x3424 : 0x1404),
             sign = t & 0x80008000u; /* each byte in the upper half of 16 bits */
    if (TYPE == SM90_F16)
        return sm90_mul_f16x2(sign | (t >> 1 & 0x3f803f80u), 0x58005800u /* 2^7: bias 15 against 8 */);
    return sm90_mul_bf16x2(sign | (t >> 4 & 0x07f007f0u), 0x7b007b00u /* 2^119: bias 127 against 8 */);
}

/* Whether a byte of the word is 0x80, the NaN of fnuz. */
GPU_INLINE bool sm90_has_nan(uint32_t word) {
    uint32_t x = word ^ 0x80808080u; /* a zero byte now */
    return ((x - 0x01010101u) & ~x & 0x80808080u) != 0;
}

/* 16 elements of fp8 to 16 of the matrix type. */
template <int TYPE, bool FNUZ> GPU_INLINE void sm90_widen(const uint32_t (&from)[4], uint32_t (&to)[8]) {
    GPU_UNROLL for (int i = 0; i < 8; i++) to[i] = sm90_widen_pair<TYPE, FNUZ>(from[i / 2], i & 1);
    if constexpr (FNUZ) {
        if (!(sm90_has_nan(from[0]) || sm90_has_nan(from[1]) || sm90_has_nan(from[2]) || sm90_has_nan(from[3]))) return;
        GPU_UNROLL for (int i = 0; i < 16; i++)
            if ((from[i / 4] >> i % 4 * 8 & 0xff) == 0x80) to[i / 2] |= 0x7fffu << i % 2 * 16;
    }
}

/* 16 bytes of elements of BYTES bytes, at an address that is aligned to the elements only. */
template <int BYTES> GPU_INLINE uint4 sm90_gather16(const char *from) {
    uint32_t word[4];
    GPU_UNROLL for (int i = 0; i < 4; i++) {
        word[i] = 0;
        GPU_UNROLL for (int k = 0; k < 4; k += BYTES)
            word[i] |= (BYTES == 2 ? *(const uint16_t *)(from + 4 * i + k) : *(const uint8_t *)(from + 4 * i + k))
                       << 8 * k;
    }
    return make_uint4(word[0], word[1], word[2], word[3]);
}

/* 16 bytes, zeros where `from` is NULL. */
template <int BYTES> GPU_INLINE uint4 sm90_fetch16(const char *from, bool aligned) {
    if (!from) return make_uint4(0, 0, 0, 0);
    return aligned ? sm90_load16(from) : sm90_gather16<BYTES>(from);
}

/* Widens 16 elements of fp8 into chunks c and c + 1 of a row of a matrix. */
template <int TYPE, bool FNUZ> GPU_INLINE void sm90_store_widened(uint32_t matrix, int row, int c, uint4 raw) {
    uint32_t from[4] = {raw.x, raw.y, raw.z, raw.w}, to[8];
    sm90_widen<TYPE, FNUZ>(from, to);
    sm90_store16(sm90_chunk(matrix, row, c), make_uint4(to[0], to[1], to[2], to[3]));
    sm90_store16(sm90_chunk(matrix, row, c + 1), make_uint4(to[4], to[5], to[6], to[7]));
}

#endif
