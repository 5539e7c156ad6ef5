/* fp8 as bf16, exactly, by table look-up of bytes (AVX512-VBMI). Included after simd_avx512.h. */
#ifndef AC_CPU_FP8_TO_BF16_H
#define AC_CPU_FP8_TO_BF16_H

#include <stdint.h>

/* 64 bf16 elements. */
typedef struct ac_cpu_bf16x64_t {
    __m512i half[2];
} ac_cpu_bf16x64_t;

/* The bf16 of every fp8 code without its sign, apart in low and high bytes. `b` is the biased bf16 exponent of the
 * upper half of fp8's subnormals; BYTE picks a byte; `last` is the value of code 0x7f. */
#define BF16(exponent, eighths) ((exponent) << 7 | (eighths) << 4)
#define LOW(x) ((x) & 0xff)
#define HIGH(x) ((x) >> 8)
#define SEVEN(e, BYTE)                                                                                                 \
    BYTE(BF16(e, 0)), BYTE(BF16(e, 1)), BYTE(BF16(e, 2)), BYTE(BF16(e, 3)), BYTE(BF16(e, 4)), BYTE(BF16(e, 5)),        \
        BYTE(BF16(e, 6))
#define EIGHT(e, BYTE) SEVEN(e, BYTE), BYTE(BF16(e, 7))
#define SUBNORMALS(b, BYTE)                                                                                            \
    0, BYTE(BF16((b) - 2, 0)), BYTE(BF16((b) - 1, 0)), BYTE(BF16((b) - 1, 4)), BYTE(BF16(b, 0)), BYTE(BF16(b, 2)),     \
        BYTE(BF16(b, 4)), BYTE(BF16(b, 6))
#define CODES(b, BYTE, last)                                                                                           \
    SUBNORMALS(b, BYTE), EIGHT((b) + 1, BYTE), EIGHT((b) + 2, BYTE), EIGHT((b) + 3, BYTE), EIGHT((b) + 4, BYTE),       \
        EIGHT((b) + 5, BYTE), EIGHT((b) + 6, BYTE), EIGHT((b) + 7, BYTE), EIGHT((b) + 8, BYTE), EIGHT((b) + 9, BYTE),  \
        EIGHT((b) + 10, BYTE), EIGHT((b) + 11, BYTE), EIGHT((b) + 12, BYTE), EIGHT((b) + 13, BYTE),                    \
        EIGHT((b) + 14, BYTE), SEVEN((b) + 15, BYTE), BYTE(last)
#define BF16_NAN 0x7fc0

static const struct {
    uint8_t low[128], high[128];
} ac_cpu_fp8_fn = {{CODES(120, LOW, BF16_NAN)}, {CODES(120, HIGH, BF16_NAN)}},
  ac_cpu_fp8_fnuz = {{CODES(119, LOW, BF16(134, 7))}, {CODES(119, HIGH, BF16(134, 7))}};

#undef LOW
#undef HIGH
#undef SEVEN
#undef EIGHT
#undef SUBNORMALS
#undef CODES
#undef BF16

static inline ac_cpu_bf16x64_t ac_cpu_fp8_to_bf16(const char *codes, const uint8_t *low, const uint8_t *high,
                                                  int is_fnuz) {
    /* Unpacking interleaves within 128-bit lanes: put the eighths of the codes where that restores their order. */
    const __m512i order = _mm512_setr_epi64(0, 4, 1, 5, 2, 6, 3, 7);
    __m512i code = _mm512_permutexvar_epi64(order, _mm512_loadu_si512(codes));
    __m512i l = _mm512_permutex2var_epi8(_mm512_loadu_si512(low), code, _mm512_loadu_si512(low + 64));
    __m512i h = _mm512_permutex2var_epi8(_mm512_loadu_si512(high), code, _mm512_loadu_si512(high + 64));
    h = _mm512_or_si512(h, _mm512_and_si512(code, _mm512_set1_epi8((char)0x80)));
    if (is_fnuz) { /* minus zero is NaN */
        __mmask64 nan = _mm512_cmpeq_epi8_mask(code, _mm512_set1_epi8((char)0x80));
        l = _mm512_mask_mov_epi8(l, nan, _mm512_set1_epi8((char)(BF16_NAN & 0xff)));
        h = _mm512_mask_mov_epi8(h, nan, _mm512_set1_epi8(BF16_NAN >> 8));
    }
    return (ac_cpu_bf16x64_t){{_mm512_unpacklo_epi8(l, h), _mm512_unpackhi_epi8(l, h)}};
}

/* 64 elements of bf16 or fp8. `dtype` is a constant where this is inlined. */
static inline __attribute__((always_inline)) ac_cpu_bf16x64_t ac_cpu_load_bf16x64(const int32_t dtype, const char *p) {
    if (dtype == AC_FLOAT8_E4M3FN) return ac_cpu_fp8_to_bf16(p, ac_cpu_fp8_fn.low, ac_cpu_fp8_fn.high, 0);
    if (dtype == AC_FLOAT8_E4M3FNUZ) return ac_cpu_fp8_to_bf16(p, ac_cpu_fp8_fnuz.low, ac_cpu_fp8_fnuz.high, 1);
    return (ac_cpu_bf16x64_t){{_mm512_loadu_si512(p), _mm512_loadu_si512(p + 64)}};
}

#endif
