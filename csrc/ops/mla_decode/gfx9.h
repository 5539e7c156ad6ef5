/* Entry points of gfx942 and gfx950: mla_decode_<q and cache>_r<rows of a tile>; the rows of kernels.inc. */
#ifndef AC_OPS_MLA_DECODE_GFX9_H
#define AC_OPS_MLA_DECODE_GFX9_H

#include "../attention/gfx9/per_wave.h"
#include "../attention/gfx9/shared_tile.h"
#include "../attention/gfx9/split_columns.h"
#if defined(__gfx950__)
#include "../attention/gfx9/direct_halves.h"
#else
#include "../attention/gfx9/halves.h"
#endif
#include "kernel_params.h"

#define AC_FAMILY_ROWS "mla_decode/kernels.inc"
#include "../local_bytes.inc"

/* How the rows and keys of a tile are divided: see arrangement_t and columns_t. As many groups of keys as a matrix
 * instruction takes, as few steps of the queries in LDS as the registers allow, and as many stages as there is room
 * for.
 */
#if defined(__gfx950__)
/*                     ROW_WAVES, TILE_GROUPS, STAGES */
typedef columns_t<2, 4, 2> r32_t;
typedef columns_t<4, 4, 2> r64_t;
typedef columns_t<1, 8, 2> r16_fp8_t, r32_fp8_t;
typedef columns_t<4, 8, 2, 8> r64_fp8_t;
typedef columns_t<2, 4, 0> r32_widened_t;
typedef columns_t<4, 4, 0> r64_widened_t;
/*                      ROW_WAVES, ROW_TILES, GROUPS, LDS_STEPS, STAGES */
typedef division_t<4, 2, 2, 4, 0> r128_widened_t;
typedef division_t<2, 1, 2, 0, 0> r32_records_t;
typedef division_t<2, 1, 2, 4, 0> r32_split_t;
typedef division_t<4, 1, 2, 0, 0> r64_records_t;
typedef division_t<4, 2, 2, 15, 0> r128_records_t;
#else
typedef columns_t<2, 2, 0> r32_t, r32_widened_t;
typedef columns_t<4, 2, 0> r48_widened_t, r64_t, r64_widened_t;
typedef division_t<2, 1, 2, 0, 0> r32_fp8_t;
typedef division_t<2, 1, 1, 0, 0> r32_records_t, r32_split_t;
typedef division_t<4, 1, 2, 0, 0> r64_records_t;
typedef division_t<4, 2, 1, 5, 0> r128_t, r128_widened_t, r128_records_t;
#endif

/* Kernel mla_decode_<name>_r<rows>, which uses `used` bytes of LDS and has `decode` for a work item. */
#define ENTRY(name, rows, threads, used, decode)                                                                       \
    CHECK_LOCAL_BYTES("mla_decode_" #name "_r" #rows, used);                                                           \
    GPU_KERNEL(threads) mla_decode_##name##_r##rows(GPU_PARAMS(ac_mla_decode_params_t) by_value) {                     \
        ac_work_done_t done = {0, 0};                                                                                  \
        for (bool more = true; more;) {                                                                                \
            const ac_mla_decode_params_t &p = gpu_params_again(by_value);                                              \
            more = decode(p.attention, [&](ac_work_t *work) {                                                          \
                return ac_work_next(&p.attention, &p.work, gpu_block(), rows, &done, work);                            \
            });                                                                                                        \
        }                                                                                                              \
        const ac_mla_decode_params_t &p = gpu_params_again(by_value);                                                  \
        ac_work_fill_unserved(&p.attention, &p.work, gpu_block(), gpu_thread(), threads);                              \
    }

/* The same without lists, in kernels that have no register left for them; nor for what comes after the decode. */
#define GRID_ENTRY(name, rows, threads, used, decode)                                                                  \
    CHECK_LOCAL_BYTES("mla_decode_" #name "_r" #rows, used);                                                           \
    GPU_KERNEL(threads) mla_decode_##name##_r##rows(GPU_PARAMS(ac_mla_decode_params_t) by_value) {                     \
        ac_work_fill_unserved(&by_value.attention, &by_value.work, gpu_block(), gpu_thread(), threads);                \
        const ac_mla_decode_params_t &p = gpu_params_again(by_value);                                                  \
        decode(p.attention, [&](ac_work_t *work) {                                                                     \
            return ac_work_from_grid(&p.attention, &p.work.grid, gpu_block(), rows, work);                             \
        });                                                                                                            \
    }

/* Lists beside those: one item a workgroup. */
#define ITEM_ENTRY(name, rows, threads, used, decode)                                                                  \
    CHECK_LOCAL_BYTES("mla_decode_" #name "_r" #rows, used);                                                           \
    GPU_KERNEL(threads) mla_decode_##name##_r##rows(GPU_PARAMS(ac_mla_decode_params_t) by_value) {                     \
        const ac_mla_decode_params_t &p = gpu_params_again(by_value);                                                  \
        ac_work_done_t done = {0, 0};                                                                                  \
        decode(p.attention,                                                                                            \
               [&](ac_work_t *work) { return ac_work_only(&p.attention, &p.work, gpu_block(), rows, &done, work); });  \
    }

/* 16 rows. Two groups of keys at a time where one instruction takes them. */
#define PER_WAVE(name, matrix_t, source_t, terms)                                                                      \
    PER_WAVE_OF(name, matrix_t, source_t, terms, (matrix_t::GROUPS == 1 ? 1 : 2), false)
#define MIXED(name, matrix_t, source_t, terms) PER_WAVE_OF(name, matrix_t, source_t, terms, 1, true)
#define PER_WAVE_OF(name, matrix_t, source_t, terms, groups, mixed)                                                    \
    ENTRY(name, 16, WAVES * 64, (per_wave_bytes<matrix_t, terms, groups>()),                                           \
          (decode_per_wave<matrix_t, source_t, terms, groups, mixed>))

#define SHARED_TILE(name, matrix_t, source_t, terms, rows, division_t)                                                 \
    SHARED_TILE_OF(ENTRY, name, matrix_t, source_t, terms, rows, division_t)
#define SHARED_TILE_OF(entry, name, matrix_t, source_t, terms, rows, division_t)                                       \
    typedef arrangement_t<matrix_t, source_t, terms, division_t> name##_r##rows##_t;                                   \
    static_assert(name##_r##rows##_t::ROWS == rows, "the name says how many rows");                                    \
    entry(name, rows, name##_r##rows##_t::THREADS, name##_r##rows##_t::BYTES, decode_shared_tile<name##_r##rows##_t>)

#define SPLIT_COLUMNS(name, matrix_t, source_t, rows, columns)                                                         \
    typedef split_columns_t<matrix_t, source_t, rows / 16, columns> name##_r##rows##_t;                                \
    ENTRY(name, rows, name##_r##rows##_t::THREADS, name##_r##rows##_t::BYTES, decode_split_columns<name##_r##rows##_t>)

#define HALVES(name, matrix_t, rows)                                                                                   \
    typedef halves_t<matrix_t, rows> name##_r##rows##_t;                                                               \
    ENTRY(name, rows, name##_r##rows##_t::THREADS, name##_r##rows##_t::BYTES, decode_in_halves<name##_r##rows##_t>)

#define DIRECT_HALVES(name, rows, ...)                                                                                 \
    typedef direct_halves_t<__VA_ARGS__> name##_r##rows##_t;                                                           \
    static_assert(name##_r##rows##_t::ROWS == rows, "the name says how many rows");                                    \
    ENTRY(name, rows, name##_r##rows##_t::THREADS, name##_r##rows##_t::BYTES,                                          \
          decode_in_direct_halves<name##_r##rows##_t>)

/* 16 bits, and fp8 that becomes 16 bits: 16, 32, 64 and 128 rows. */
#define UP_TO_64(name, matrix_t, source_t, r32, r64)                                                                   \
    PER_WAVE(name, matrix_t, source_t, 1)                                                                              \
    SPLIT_COLUMNS(name, matrix_t, source_t, 32, r32)                                                                   \
    SPLIT_COLUMNS(name, matrix_t, source_t, 64, r64)
#define FAMILY(name, matrix_t, source_t, r32, r64, r128) FAMILY_OF(ENTRY, name, matrix_t, source_t, r32, r64, r128)
#define FAMILY_OF(entry128, name, matrix_t, source_t, r32, r64, r128)                                                  \
    UP_TO_64(name, matrix_t, source_t, r32, r64)                                                                       \
    SHARED_TILE_OF(entry128, name, matrix_t, source_t, 1, 128, r128)

#if defined(__gfx950__)
UP_TO_64(bf16, bf16_matrix_t, same_source_t, r32_t, r64_t)
UP_TO_64(f16, f16_matrix_t, same_source_t, r32_t, r64_t)
/*                                     GROUPS, KEYS_AHEAD, VALUES_AHEAD: what registers allow */
DIRECT_HALVES(bf16, 128, bf16_matrix_t, 4, 4, 4)
DIRECT_HALVES(f16, 128, f16_matrix_t, 4, 4, 3)
#else
FAMILY(bf16, bf16_matrix_t, same_source_t, r32_t, r64_t, r128_t)
FAMILY(f16, f16_matrix_t, same_source_t, r32_t, r64_t, r128_t)
#endif
FAMILY(bf16_fp8, bf16_matrix_t, fp8_source_t, r32_widened_t, r64_widened_t, r128_widened_t)
#if defined(__gfx950__)
FAMILY_OF(GRID_ENTRY, f16_fp8, f16_matrix_t, fp8_source_t, r32_widened_t, r64_widened_t, r128_widened_t)
SHARED_TILE_OF(ITEM_ENTRY, f16_fp8_lists, f16_matrix_t, fp8_source_t, 1, 128, r128_widened_t)
SPLIT_COLUMNS(fp8, fp8_matrix_t, own_fp8_source_t, 16, r16_fp8_t)
SPLIT_COLUMNS(fp8, fp8_matrix_t, own_fp8_source_t, 32, r32_fp8_t)
SPLIT_COLUMNS(fp8, fp8_matrix_t, own_fp8_source_t, 64, r64_fp8_t)
DIRECT_HALVES(fp8, 128, fp8_matrix_t, 8, 3, 2)
#else
FAMILY(f16_fp8, f16_matrix_t, fp8_source_t, r32_widened_t, r64_widened_t, r128_widened_t)
/* A request of 12 heads and 4 tokens, and its like. */
SPLIT_COLUMNS(bf16_fp8, bf16_matrix_t, fp8_source_t, 48, r48_widened_t)
SPLIT_COLUMNS(f16_fp8, f16_matrix_t, fp8_source_t, 48, r48_widened_t)
PER_WAVE(fp8, fp8_matrix_t, own_fp8_source_t, 1)
SHARED_TILE(fp8, fp8_matrix_t, own_fp8_source_t, 1, 32, r32_fp8_t)
HALVES(fp8, fp8_matrix_t, 64)
HALVES(fp8, fp8_matrix_t, 128)
#endif
PER_WAVE(records_bf16, bf16_matrix_t, record_source_t, 1)
SHARED_TILE(records_bf16, bf16_matrix_t, record_source_t, 1, 32, r32_records_t)
SHARED_TILE(records_bf16, bf16_matrix_t, record_source_t, 1, 64, r64_records_t)
SHARED_TILE(records_bf16, bf16_matrix_t, record_source_t, 1, 128, r128_records_t)
PER_WAVE(records_f16, bf16_matrix_t, record_source_t, 2)
SHARED_TILE(records_f16, bf16_matrix_t, record_source_t, 2, 32, r32_split_t)
SHARED_TILE(records_f16, bf16_matrix_t, record_source_t, 2, 64, r64_records_t)

/* Queries of types that the matrix type does not hold, as sums of terms of it. */
MIXED(mixed_bf16, bf16_matrix_t, same_source_t, 3)
MIXED(mixed_f16, f16_matrix_t, same_source_t, 2)
MIXED(mixed_fp8, bf16_matrix_t, fp8_source_t, 3)

#endif
