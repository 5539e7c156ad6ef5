#include "float_formats.h"

#include <math.h>
#include <pthread.h>

/* ---- f16 -------------------------------------------------------------------------------------------------------- */

uint32_t gs_f16_bits_of_double(double value) {
    uint64_t bits = gs_u64(value);
    uint32_t sign = (uint32_t)(bits >> 48) & 0x8000;
    double magnitude = fabs(value);
    if (magnitude != magnitude) return sign | 0x7e00 | ((uint32_t)(bits >> 42) & 0x3ff);
    if (magnitude >= 65520) return sign | 0x7c00;
    int exponent = magnitude < 0x1p-14 ? -14 : ilogb(magnitude);
    double ulp = ldexp(1, exponent - 10);
    uint32_t steps = (uint32_t)rint(magnitude / ulp); /* 1024..2048 for a normal; 2048 carries into the exponent */
    return sign | (steps + ((uint32_t)(exponent + 14) << 10));
}

uint32_t gs_f16_fma(float a, float b, float c) {
    double product = (double)a * b, sum = product + c;
    if (isfinite(sum)) {
        /* The error of the sum (Knuth). Rounding to odd in double keeps the second rounding correct. */
        double part = sum - product, error = (product - (sum - part)) + (c - part);
        if (error != 0 && !(gs_u64(sum) & 1)) sum = nextafter(sum, error > 0 ? INFINITY : -INFINITY);
    }
    return gs_f16_bits_of_double(sum);
}

uint32_t gs_f16_bits_toward_zero(float value) {
    uint32_t bits = gs_f16_bits(value);
    if (isfinite(value) && fabsf(gs_f16_value(bits)) > fabsf(value)) bits--;
    return bits;
}

/* ---- 8, 6 and 4 bits -------------------------------------------------------------------------------------------- */

typedef struct format_t {
    int exponent_bits, mantissa_bits, bias;
    uint32_t max_code;           /* of the largest finite value */
    int infinity_code, nan_code; /* without sign; -1: there is none */
    bool fnuz;                   /* no negative zero; its code is the only NaN */
} format_t;

static const format_t FORMATS[GS_SMALL_KIND_COUNT] = {
    [GS_E4M3FN] = {4, 3, 7, 0x7e, -1, 0x7f, false},  [GS_E5M2] = {5, 2, 15, 0x7b, 0x7c, 0x7f, false},
    [GS_E4M3FNUZ] = {4, 3, 8, 0x7f, -1, 0x80, true}, [GS_E5M2FNUZ] = {5, 2, 16, 0x7f, -1, 0x80, true},
    [GS_E2M3] = {2, 3, 1, 0x1f, -1, -1, false},      [GS_E3M2] = {3, 2, 3, 0x1f, -1, -1, false},
    [GS_E2M1] = {2, 1, 1, 0x07, -1, -1, false},
};

static float values[GS_SMALL_KIND_COUNT][256];
static pthread_once_t values_once = PTHREAD_ONCE_INIT;

static float value_of_code(const format_t *format, uint32_t code) {
    int sign_bit = format->exponent_bits + format->mantissa_bits;
    uint32_t magnitude = code & ((1u << sign_bit) - 1);
    bool negative = code >> sign_bit & 1;
    if (format->fnuz ? code == 0x80 : format->infinity_code < 0 && (int)magnitude == format->nan_code) return NAN;
    if (format->infinity_code >= 0 && (int)magnitude >= format->infinity_code) {
        return (int)magnitude > format->infinity_code ? NAN : negative ? -INFINITY : INFINITY;
    }
    int exponent = (int)(magnitude >> format->mantissa_bits);
    uint32_t mantissa = magnitude & ((1u << format->mantissa_bits) - 1);
    if (exponent) mantissa |= 1u << format->mantissa_bits;
    else exponent = 1;
    float value = ldexpf((float)mantissa, exponent - format->bias - format->mantissa_bits);
    return negative ? -value : value;
}

static void fill_values(void) {
    for (int kind = 0; kind < GS_SMALL_KIND_COUNT; kind++) {
        int bits = 1 + FORMATS[kind].exponent_bits + FORMATS[kind].mantissa_bits;
        for (uint32_t code = 0; code < 256; code++) {
            values[kind][code] = value_of_code(&FORMATS[kind], code & ((1u << bits) - 1));
        }
    }
}

void gs_float_formats_init(void) { pthread_once(&values_once, fill_values); }

const float *gs_small_values(gs_small_kind_t kind) { return values[kind]; }

/* The sign belongs to the code; what is beyond the range is settled here. */
static uint32_t finish(const format_t *format, float value, uint32_t code, bool saturate) {
    uint32_t sign = gs_u32(value) >> 31 << (format->exponent_bits + format->mantissa_bits);
    bool nan = value != value;
    if (nan && format->nan_code >= 0) return format->fnuz ? 0x80 : sign | (uint32_t)format->nan_code;
    if (nan || code > format->max_code) {
        code = format->max_code;
        if (!nan && !saturate && format->nan_code >= 0) {
            int special = format->infinity_code >= 0 ? format->infinity_code : format->nan_code;
            return format->fnuz ? 0x80 : sign | (uint32_t)special;
        }
    }
    return format->fnuz && code == 0 ? 0 : sign | code;
}

uint32_t gs_small_bits(gs_small_kind_t kind, float value, bool saturate) {
    const format_t *format = &FORMATS[kind];
    int cut = 23 - format->mantissa_bits;
    uint32_t u = gs_u32(value) & 0x7fffffff, smallest_normal = (uint32_t)(128 - format->bias) << 23, code;
    if (u >= smallest_normal) {
        uint32_t rounded = u + ((1u << (cut - 1)) - 1) + (u >> cut & 1);
        code = (rounded >> cut) - ((uint32_t)(127 - format->bias) << format->mantissa_bits);
    } else {
        /* An ulp of `magic` is the smallest denormal of the format: the addition rounds. */
        uint32_t magic = (uint32_t)(128 - format->bias - format->mantissa_bits + 23) << 23;
        code = gs_u32(gs_f32(u) + gs_f32(magic)) - magic;
    }
    return finish(format, value, code, saturate);
}

uint32_t gs_small_bits_stochastic(gs_small_kind_t kind, float value, uint32_t random, bool saturate) {
    const format_t *format = &FORMATS[kind];
    uint32_t u = gs_u32(value) & 0x7fffffff;
    int exponent = (int)(u >> 23) - 127, smallest = 1 - format->bias, cut = 23 - format->mantissa_bits;
    uint64_t mantissa = u >> 23 ? (u & 0x7fffff) | 0x800000 : u & 0x7fffff;
    if (exponent < smallest) { /* a denormal of the format loses more bits */
        cut += smallest - exponent;
        exponent = smallest;
    }
    if (u >= 0x7f800000 || cut > 60) return finish(format, value, u >= 0x7f800000 ? UINT32_MAX : 0, saturate);
    /* The random bits stand below the last kept bit, aligned to their top. */
    uint64_t addend = cut >= 32 ? (uint64_t)random << (cut - 32) : random >> (32 - cut);
    uint32_t kept = (uint32_t)((mantissa + addend) >> cut);
    uint32_t code = kept + ((uint32_t)(exponent - smallest) << format->mantissa_bits);
    return finish(format, value, code, saturate);
}
