/* Entry points of gfx942 and gfx950: mla_decode_<q and cache>_r<rows of a tile>; the rows of kernels.inc. */
#ifndef AC_OPS_MLA_DECODE_GFX9_H
#define AC_OPS_MLA_DECODE_GFX9_H

#include "../attention/gfx9/apart.h"
#include "../attention/gfx9/columns.h"
#include "../attention/gfx9/together.h"

#define AC_FAMILY_ROWS "mla_decode/kernels.inc"
#include "../local_bytes.inc"

/* Waves by rows, tiles of 16 rows of a wave, groups of 16 keys of a wave, steps of the queries in local memory, tiles
 * that are loaded there directly: as many groups as a matrix instruction takes, as few local steps as the registers
 * allow, and as many tiles as there is room for. */
#if defined(__gfx950__)
#define R32 2, 1, 2, 0, 2
#define R64 4, 1, 2, 0, 4
#define R128 4, 2, 2, 0, 4
#define R64_FP8 4, 1, 8, 0, 2
#define R128_FP8 4, 2, 8, 1, 2
#define R32_WIDENED 2, 1, 2, 0, 0
#define R32_SPLIT 2, 1, 2, 4, 0
#define R64_WIDENED 4, 1, 2, 0, 0
#define R128_WIDENED 4, 2, 2, 4, 0
#define R128_RECORDS 4, 2, 2, 15, 0
#else
#define R32 2, 1, 1, 0, 0
#define R64 4, 1, 2, 0, 0
#define R128 4, 2, 1, 5, 0
#define R32_FP8 2, 1, 2, 0, 0
#define R64_FP8 R64
#define R128_FP8 4, 2, 2, 0, 0
#define R32_WIDENED R32
#define R32_SPLIT R32
#define R64_WIDENED R64
#define R128_WIDENED R128
#define R128_RECORDS R128
#endif

/* Two groups at a time where one instruction takes them. */
#define APART_GROUPS(matrix) (matrix##_matrix_t::GROUPS == 1 ? 1 : 2)
#define ENTRY(name, rows, used, call)                                               \
    CHECK_LOCAL_BYTES("mla_decode_" #name "_r" #rows, used);                        \
    GPU_KERNEL(256) mla_decode_##name##_r##rows(ac_mla_decode_params_t p) { call; }
#define DECODE_APART_OF(name, matrix_t, source_t, terms, groups, mixed) \
    ENTRY(name, 16, (apart_bytes<matrix_t, terms, groups>()),           \
          (decode_apart<matrix_t, source_t, terms, groups, mixed>(p)))
#define DECODE_APART(name, matrix, source, terms)                                                   \
    DECODE_APART_OF(name, matrix##_matrix_t, source##_source_t, terms, APART_GROUPS(matrix), false)
#define DECODE_MIXED(name, matrix, source, terms)                               \
    DECODE_APART_OF(name, matrix##_matrix_t, source##_source_t, terms, 1, true)
#define DECODE_TOGETHER(name, matrix, source, terms, rows, ...)                                         \
    typedef arrangement_t<matrix##_matrix_t, source##_source_t, terms, __VA_ARGS__> name##_r##rows##_t; \
    static_assert(name##_r##rows##_t::ROWS == rows, "the name says how many rows");                     \
    ENTRY(name, rows, name##_r##rows##_t::BYTES, decode_together<name##_r##rows##_t>(p))
#define DECODE_COLUMNS(name, matrix, source, rows)                                         \
    typedef columns_t<matrix##_matrix_t, source##_source_t, rows / 16> name##_r##rows##_t; \
    ENTRY(name, rows, name##_r##rows##_t::BYTES, decode_columns<name##_r##rows##_t>(p))
#define DECODE(name, matrix, source, r32, r64, r128)    \
    DECODE_APART(name, matrix, source, 1)               \
    DECODE_TOGETHER(name, matrix, source, 1, 32, r32)   \
    DECODE_TOGETHER(name, matrix, source, 1, 64, r64)   \
    DECODE_TOGETHER(name, matrix, source, 1, 128, r128)

DECODE(bf16, bf16, same, R32, R64, R128)
DECODE(f16, f16, same, R32, R64, R128)
#if defined(__gfx950__)
DECODE_COLUMNS(fp8, fp8, own_fp8, 16)
DECODE_COLUMNS(fp8, fp8, own_fp8, 32)
DECODE_TOGETHER(fp8, fp8, own_fp8, 1, 64, R64_FP8)
DECODE_TOGETHER(fp8, fp8, own_fp8, 1, 128, R128_FP8)
#else
DECODE(fp8, fp8, own_fp8, R32_FP8, R64_FP8, R128_FP8)
#endif
DECODE(bf16_fp8, bf16, fp8, R32_WIDENED, R64_WIDENED, R128_WIDENED)
DECODE(f16_fp8, f16, fp8, R32_WIDENED, R64_WIDENED, R128_WIDENED)
DECODE(records_bf16, bf16, record, R32_WIDENED, R64_WIDENED, R128_RECORDS)
DECODE_APART(records_f16, bf16, record, 2)
DECODE_TOGETHER(records_f16, bf16, record, 2, 32, R32_SPLIT)
DECODE_TOGETHER(records_f16, bf16, record, 2, 64, R64_WIDENED)
DECODE_MIXED(mixed_bf16, bf16, same, 3)
DECODE_MIXED(mixed_f16, f16, same, 2)
DECODE_MIXED(mixed_fp8, bf16, fp8, 3)

#endif
