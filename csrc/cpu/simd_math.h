/* What every instruction set builds out of the vocabulary of its simd_*.h, which is included first:
 *
 *   AC_LANES                    fp32 lanes of a vector v_t
 *   AC_QK_VECS, AC_QK_TOKENS    register tile of the scores: vectors of rows x keys
 *   AC_PV_ROWS, AC_PV_VECS      register tile of the output: rows x vectors of columns
 *   v_load, v_store, v_set1, v_broadcast, v_zero, v_add, v_sub, v_mul
 *   v_fma(a, b, c)              a * b + c
 *   v_max(a, b)                 the larger; b where a is NaN
 *   v_sum(x), v_largest(x)      the sum of the lanes; the largest lane, where none is NaN
 *   v_sums(x)                   lane i: the sum of the lanes of x[i]
 *   v_shifted_pow2(t)           2^n out of t = n + AC_ROUND, n in -126 .. 127
 *   v_keep_from(x, low, value)  value where x >= low or x is NaN, else 0
 *   v_load_bf16, v_load_f16, v_load_fp8_fn, v_load_fp8_fnuz   AC_LANES elements, exactly, as fp32
 *   v_load_even, v_load_odd     of 2 * AC_LANES elements of bf16 the even or odd ones, as fp32
 *   v_keep(&x)                  has the compiler hold x in a register instead of loading it again for each use
 *   AC_CONVERTS_F16             whether fp16 becomes fp32 by one instruction; where it does
 *   v_fp8_row_to_f16(p, count, is_fnuz, out)   `count` elements, a multiple of 64, over 256 (fn) or 128 as fp16
 *   v_store_bf16, v_store_f16   AC_LANES elements, rounded to nearest even
 *
 * No load or store needs an alignment beyond the element's, and none touches a byte beyond its elements. */
#ifndef AC_CPU_SIMD_MATH_H
#define AC_CPU_SIMD_MATH_H

/* Adding it leaves round(x) in the low mantissa bits. */
#define AC_ROUND 12582912.0f /* 1.5 * 2^23 */

/* 2^x for x <= 0 with a relative error below 2e-7; 0 below -126, NaN for NaN. exp2(0) is exactly 1. */
static inline v_t v_exp2(v_t x) {
    v_t shifted = v_add(x, v_set1(AC_ROUND));
    v_t r = v_sub(x, v_sub(shifted, v_set1(AC_ROUND)));
    v_t y = v_fma(v_set1(1.32647273e-3f), r, v_set1(9.67151299e-3f));
    y = v_fma(y, r, v_set1(5.55073358e-2f));
    y = v_fma(y, r, v_set1(2.40222424e-1f));
    y = v_fma(y, r, v_set1(6.93147004e-1f));
    y = v_fma(y, r, v_set1(1.0f));
    return v_keep_from(x, -126.0f, v_mul(y, v_shifted_pow2(shifted)));
}

#endif
