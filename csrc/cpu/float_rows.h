/* Rows of elements as fp32 and back, of any dtype and length, out of the vocabulary of a simd_*.h, which is included
 * first. */
#ifndef AC_CPU_FLOAT_ROWS_H
#define AC_CPU_FLOAT_ROWS_H

#include <string.h>

#include "../core/dtype.h"
#include "../core/fp8.h"

static inline int ac_cpu_element_bytes(int32_t dtype) {
    if (dtype == AC_FLOAT32) return 4;
    return dtype == AC_BFLOAT16 || dtype == AC_FLOAT16 ? 2 : 1;
}

static inline v_t float_row_load(const char *from, int32_t dtype) {
    if (dtype == AC_BFLOAT16) return v_load_bf16(from);
    return dtype == AC_FLOAT16 ? v_load_f16(from) : v_load((const float *)(const void *)from);
}

/* `count` elements of bfloat16, float16 or float32; `out` has room for whole vectors. */
static inline void load_float_row(const char *from, int32_t dtype, int count, float *out) {
    const int bytes = ac_cpu_element_bytes(dtype), left = count % AC_LANES, whole = count - left;
    for (int i = 0; i < whole; i += AC_LANES) v_store(out + i, float_row_load(from + i * bytes, dtype));
    if (left == 0) return;
    char rest[4 * AC_LANES] = {0};
    memcpy(rest, from + whole * bytes, (size_t)(left * bytes));
    v_store(out + whole, float_row_load(rest, dtype));
}

static inline void float_row_store(char *to, int32_t dtype, v_t x) {
    if (dtype == AC_BFLOAT16) v_store_bf16(to, x);
    else if (dtype == AC_FLOAT16) v_store_f16(to, x);
    else v_store((float *)(void *)to, x);
}

/* The same rounded to nearest even; `from` has whole vectors. */
static inline void store_float_row(char *to, int32_t dtype, int count, const float *from) {
    const int bytes = ac_cpu_element_bytes(dtype), left = count % AC_LANES, whole = count - left;
    for (int i = 0; i < whole; i += AC_LANES) float_row_store(to + i * bytes, dtype, v_load(from + i));
    if (left == 0) return;
    char rest[4 * AC_LANES];
    float_row_store(rest, dtype, v_load(from + whole));
    memcpy(to + whole * bytes, rest, (size_t)(left * bytes));
}

/* `count` values times `factor` as fp8. */
static inline void store_fp8_row(char *to, int32_t dtype, int count, const float *from, float factor) {
    unsigned char *codes = (unsigned char *)to;
    if (dtype == AC_FLOAT8_E4M3FNUZ)
        for (int i = 0; i < count; i++) codes[i] = (unsigned char)ac_fp8_of(ac_mul(from[i], factor), 1);
    else
        for (int i = 0; i < count; i++) codes[i] = (unsigned char)ac_fp8_of(ac_mul(from[i], factor), 0);
}

/* The larger of `largest` and the largest size of `count` values; NaN does not count. */
static inline float largest_of_row(const float *values, int count, float largest) {
    uint32_t most = ac_bits_of(largest);
    for (int i = 0; i < count; i++) {
        const uint32_t size = ac_size_bits(values[i]);
        most = size > most ? size : most;
    }
    return ac_float_of(most);
}

#endif
