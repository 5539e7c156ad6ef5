/* Entry points of gfx942 and gfx950: mla_decode_<q and cache>_r<rows of a tile>; rows of kernel_table_gfx9.inc. */
#ifndef AC_KERNELS_MLA_GFX9_ENTRIES_H
#define AC_KERNELS_MLA_GFX9_ENTRIES_H

#include "mla_gfx9_apart.h"
#include "mla_gfx9_together.h"

/* Waves by rows, tiles of 16 rows of a wave, groups of 16 keys of a wave, steps of the queries in local memory: as many
 * groups as a matrix instruction takes, and as few local steps, as the registers allow. */
#if defined(__gfx950__)
#define R32 2, 1, 2, 0
#define R32_SPLIT 2, 1, 2, 4
#define R128 4, 2, 2, 8
#define R128_WIDENED 4, 2, 2, 10
#define R128_RECORDS 4, 2, 2, 15
#define R64_FP8 4, 1, 8, 0
#else
#define R32 2, 1, 1, 0
#define R32_SPLIT R32
#define R128 4, 2, 1, 5
#define R128_WIDENED R128
#define R128_RECORDS R128
#define R64_FP8 R64
#endif
#define R32_FP8 2, 1, 2, 0
#define R64 4, 1, 2, 0
#define R128_FP8 4, 2, 2, 0

/* Two groups at a time where one instruction takes them. */
#define APART_GROUPS(matrix) (matrix##_matrix_t::GROUPS == 1 ? 1 : 2)
#define DECODE_APART(name, matrix, source, terms)                                                       \
    GPU_KERNEL(256) mla_decode_##name##_r16(ac_mla_decode_params_t p) {                                 \
        decode_apart<matrix##_matrix_t, source##_source_t, terms, APART_GROUPS(matrix), false>(p);      \
    }
#define DECODE_MIXED(name, matrix, source, terms)                              \
    GPU_KERNEL(256) mla_decode_##name##_r16(ac_mla_decode_params_t p) {        \
        decode_apart<matrix##_matrix_t, source##_source_t, terms, 1, true>(p); \
    }
#define DECODE_TOGETHER(name, matrix, source, terms, rows, ...)                              \
    GPU_KERNEL(256) mla_decode_##name##_r##rows(ac_mla_decode_params_t p) {                  \
        typedef arrangement_t<matrix##_matrix_t, source##_source_t, terms, __VA_ARGS__> a_t; \
        static_assert(a_t::ROWS == rows, "the name says how many rows");                     \
        decode_together<a_t>(p);                                                             \
    }
#define DECODE(name, matrix, source, r32, r64, r128)  \
    DECODE_APART(name, matrix, source, 1)             \
    DECODE_TOGETHER(name, matrix, source, 1, 32, r32) \
    DECODE_TOGETHER(name, matrix, source, 1, 64, r64) \
    DECODE_TOGETHER(name, matrix, source, 1, 128, r128)

DECODE(bf16, bf16, same, R32, R64, R128)
DECODE(f16, f16, same, R32, R64, R128)
DECODE(fp8, fp8, own_fp8, R32_FP8, R64_FP8, R128_FP8)
DECODE(bf16_fp8, bf16, fp8, R32, R64, R128_WIDENED)
DECODE(f16_fp8, f16, fp8, R32, R64, R128_WIDENED)
DECODE(records_bf16, bf16, record, R32, R64, R128_RECORDS)
DECODE_APART(records_f16, bf16, record, 2)
DECODE_TOGETHER(records_f16, bf16, record, 2, 32, R32_SPLIT)
DECODE_TOGETHER(records_f16, bf16, record, 2, 64, R64)
DECODE_MIXED(mixed_bf16, bf16, same, 3)
DECODE_MIXED(mixed_f16, f16, same, 2)
DECODE_MIXED(mixed_fp8, bf16, fp8, 3)

#endif
