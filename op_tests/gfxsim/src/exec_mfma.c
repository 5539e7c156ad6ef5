/* Matrix instructions: D = A * B + C over 64 lanes, whatever EXEC says.
 *
 * With `rows` = 32, 16 or 4, lane l belongs to group l / rows and holds row (of A) or column (of B) l % rows. With one
 * block the groups share K: group g holds k = g * depth / groups + 0, 1, ..., lowest bits first. With several blocks a
 * group is a block. A result register holds of every group one row; the columns are the lanes.
 * Products are summed in fp32 in the order of k with fused multiply-adds; the hardware's inner order is not known. */
#include <math.h>
#include <stdlib.h>

#if defined(__AVX2__) && defined(__FMA__)
#include <immintrin.h>
#endif

#include "valu.h"

typedef enum element_t { BF16, F16, F32, XF32, FP8, BF8, I8, BY_FORMAT } element_t;

enum { MAX_DEPTH_PER_LANE = 32, MAX_REGISTERS = 32 };
enum { FORMAT_FP8, FORMAT_BF8, FORMAT_FP6, FORMAT_BF6, FORMAT_FP4 }; /* cbsz and blgp of f8f6f4 */

/* What insn->a packs; insn->b is K. */
#define SHAPE(rows, blocks, type_a, type_b) ((rows) | (blocks) << 8 | (type_a) << 16 | (type_b) << 20)

typedef struct shape_t {
    int rows, blocks, depth;
    int groups, depth_per_lane, registers; /* registers: of the result */
    element_t type[2];
} shape_t;

static shape_t shape_of(const gs_insn_t *insn) {
    shape_t shape = {.rows = insn->a & 0xff, .blocks = insn->a >> 8 & 0xff, .depth = insn->b};
    shape.groups = GS_LANES / shape.rows;
    shape.depth_per_lane = shape.blocks > 1 ? shape.depth : shape.depth / shape.groups;
    shape.registers = shape.rows * shape.rows * shape.blocks / GS_LANES;
    shape.type[0] = insn->a >> 16 & 15;
    shape.type[1] = insn->a >> 20 & 15;
    return shape;
}

/* ---- inputs: element j of a lane is values[j][lane] ------------------------------------------------------------- */

static gs_small_kind_t small_kind(const gs_wave_t *wave, element_t type, int format) {
    static const gs_small_kind_t KINDS[8] = {GS_E4M3FN, GS_E5M2, GS_E2M3, GS_E3M2, GS_E2M1, GS_E2M1, GS_E2M1, GS_E2M1};
    return type == BY_FORMAT ? KINDS[format & 7] : gs_fp8_kind(wave->program->arch, type == BF8);
}

static float round_to_xf32(float value) /* 10 bits of mantissa */
{
    uint32_t bits = gs_u32(value);
    return value != value || isinf(value) ? value : gs_f32((bits + 0xfff + (bits >> 13 & 1)) & ~0x1fffu);
}

#define CONVERT(expression)                                                                                            \
    GS_FOR_LANES {                                                                                                     \
        uint32_t x = source[lane];                                                                                     \
        to[lane] = expression;                                                                                         \
    }

static void load_codes(const gs_wave_t *wave, const shape_t *shape, int reg, gs_small_kind_t kind,
                       float (*values)[GS_LANES]) {
    int bits = kind <= GS_E5M2FNUZ ? 8 : kind <= GS_E3M2 ? 6 : 4;
    uint32_t mask = (1u << bits) - 1, source[GS_LANES];
    const float *table = gs_small_values(kind);
    for (int j = 0; j < shape->depth_per_lane; j++) {
        int bit = j * bits, word = bit / 32, shift = bit % 32;
        bool crosses = shift + bits > 32;
        const uint32_t *low = wave->v[reg + word], *high = wave->v[reg + word + crosses];
        float *restrict to = values[j];
        if (crosses)
            GS_FOR_LANES source[lane] = (uint32_t)((low[lane] | (uint64_t)high[lane] << 32) >> shift) & mask;
        else
            GS_FOR_LANES source[lane] = low[lane] >> shift & mask;
        if (kind == GS_E4M3FN)
            CONVERT(gs_e4m3fn_value(x))
        else if (kind == GS_E4M3FNUZ)
            CONVERT(gs_e4m3fnuz_value(x))
        else
            CONVERT(table[x])
    }
}

static void load_input(const gs_wave_t *wave, const gs_insn_t *insn, const shape_t *shape, int k,
                       float (*values)[GS_LANES]) {
    element_t type = shape->type[k];
    int reg = insn->src[k].reg, format = k ? insn->blgp : insn->cbsz;
    if (type >= FP8) {
        load_codes(wave, shape, reg, small_kind(wave, type, format), values);
        return;
    }
    int per_register = type <= F16 ? 2 : 1;
    for (int j = 0; j < shape->depth_per_lane; j++) {
        const uint32_t *source = wave->v[reg + j / per_register];
        float *restrict to = values[j];
        int shift = j % per_register ? 16 : 0;
        if (type == BF16)
            CONVERT(gs_f32(x >> shift << 16))
        else if (type == F16)
            CONVERT(gs_f16_value(x >> shift & 0xffff))
        else if (type == F32)
            CONVERT(gs_f32(x))
        else
            CONVERT(round_to_xf32(gs_f32(x)))
    }
}

/* v_mfma_scale: a lane's elements are multiplied with 2^(byte - 127) of its scale register. */
static void scale_input(gs_wave_t *wave, const gs_insn_t *insn, const shape_t *shape, int k,
                        float (*values)[GS_LANES]) {
    uint32_t buffer[GS_LANES];
    const gs_operand_t *operand = &insn->src[3 + k];
    const uint32_t *scales = buffer;
    if (operand->kind == GS_VREG) {
        scales = wave->v[operand->reg];
    } else {
        uint32_t value = gs_read_scalar32(wave, operand);
        GS_FOR_LANES buffer[lane] = value;
    }
    int byte = (insn->op_sel >> k & 1) | (insn->op_sel_hi >> k & 1) << 1;
    GS_FOR_LANES {
        uint32_t code = scales[lane] >> 8 * byte & 0xff;
        float scale = code == 0xff ? NAN : ldexpf(1, (int)code - 127);
        for (int j = 0; j < shape->depth_per_lane; j++) values[j][lane] *= scale;
    }
}

/* cbsz: 2^cbsz neighbouring blocks use the A of the one that abid names. */
static int block_of_a(const gs_insn_t *insn, const shape_t *shape, int block) {
    if (shape->blocks == 1 || insn->cbsz == 0) return block;
    int share = 1 << insn->cbsz;
    return (block & ~(share - 1)) + (insn->abid & (share - 1));
}

/* ---- results: four registers hold four rows that follow each other, a group of lanes the columns ----------------- */

/* Block and first row of the four registers from `reg` on in a group. */
typedef struct place_t {
    int block, row;
} place_t;

static place_t place_of(const shape_t *shape, int reg, int group) {
    if (shape->rows == 32) return (place_t){reg / 16, 8 * (reg % 16 / 4) + 4 * group};
    if (shape->rows == 16) return (place_t){reg / 4, 4 * group};
    return (place_t){group, 0};
}

/* C's registers; a copy if they are a constant, or if D covers them without being the same. */
static const uint32_t (*accumulator(gs_wave_t *wave, const gs_insn_t *insn, const shape_t *shape,
                                    uint32_t (*copy)[GS_LANES]))[GS_LANES] {
    const gs_operand_t *c = &insn->src[2];
    if (c->kind == GS_VREG) {
        int distance = insn->dst[0].reg - c->reg;
        if (distance == 0 || abs(distance) >= shape->registers) return &wave->v[c->reg];
        memcpy(copy, wave->v[c->reg], (size_t)shape->registers * sizeof *copy);
        return copy;
    }
    uint32_t value = gs_read_scalar32(wave, c);
    for (int r = 0; r < shape->registers; r++) GS_FOR_LANES copy[r][lane] = value;
    return copy;
}

/* ---- products --------------------------------------------------------------------------------------------------- */

typedef float vec8_t __attribute__((vector_size(32)));
typedef float vec8_anywhere_t __attribute__((vector_size(32), aligned(4), may_alias));

static inline void fused_multiply_add(vec8_t *sum, const vec8_t *a, const vec8_t *b) {
#if defined(__AVX2__) && defined(__FMA__)
    *sum = (vec8_t)_mm256_fmadd_ps((__m256)*a, (__m256)*b, (__m256)*sum);
#else
    for (int i = 0; i < 8; i++) (*sum)[i] = __builtin_fmaf((*a)[i], (*b)[i], (*sum)[i]);
#endif
}

/* Four rows of the result; `a` begins with the first of them, `b` with the first column. Groups are `rows` lanes apart,
 * the depth of a lane is next in each. */
typedef struct product_t {
    const float *a, *b;
    int groups, rows, depth;
} product_t;

/* 16 columns, from `lane` on: what it works on stays in registers of the host. */
static void add_16_columns(const product_t *product, const uint32_t (*c)[GS_LANES], uint32_t (*d)[GS_LANES], int lane) {
    vec8_t low[4], high[4];
#pragma GCC unroll 4
    for (int i = 0; i < 4; i++) {
        low[i] = *(const vec8_anywhere_t *)(c[i] + lane);
        high[i] = *(const vec8_anywhere_t *)(c[i] + lane + 8);
    }
    for (int group = 0; group < product->groups; group++) {
        const float *a = product->a + group * product->rows, *b = product->b + group * product->rows;
        for (int j = 0; j < product->depth; j++, a += GS_LANES, b += GS_LANES) {
            vec8_t b_low = *(const vec8_anywhere_t *)b, b_high = *(const vec8_anywhere_t *)(b + 8);
#pragma GCC unroll 4
            for (int i = 0; i < 4; i++) {
                float x = a[i];
                vec8_t factor = {x, x, x, x, x, x, x, x};
                fused_multiply_add(&low[i], &factor, &b_low);
                fused_multiply_add(&high[i], &factor, &b_high);
            }
        }
    }
#pragma GCC unroll 4
    for (int i = 0; i < 4; i++) {
        *(vec8_anywhere_t *)(d[i] + lane) = low[i];
        *(vec8_anywhere_t *)(d[i] + lane + 8) = high[i];
    }
}

static void add_4_columns(const product_t *product, const uint32_t (*c)[GS_LANES], uint32_t (*d)[GS_LANES], int lane) {
    for (int i = 0; i < 4; i++) {
        float sums[4];
        memcpy(sums, c[i] + lane, sizeof sums);
        for (int j = 0; j < product->depth; j++)
            for (int column = 0; column < 4; column++) {
                float x = product->a[j * GS_LANES + i];
                sums[column] = __builtin_fmaf(x, product->b[j * GS_LANES + column], sums[column]);
            }
        memcpy(d[i] + lane, sums, sizeof sums);
    }
}

/* D = A * B + C. */
static void multiply(const gs_insn_t *insn, const shape_t *shape, const float (*a)[GS_LANES],
                     const float (*b)[GS_LANES], const uint32_t (*c)[GS_LANES], uint32_t (*d)[GS_LANES]) {
    bool one_block = shape->blocks == 1;
    product_t product = {.groups = one_block ? shape->groups : 1, .rows = shape->rows, .depth = shape->depth_per_lane};
    for (int reg = 0; reg < shape->registers; reg += 4)
        for (int group = 0; group < shape->groups; group++) {
            place_t place = place_of(shape, reg, group);
            int lane = group * shape->rows;
            product.a = a[0] + (one_block ? 0 : block_of_a(insn, shape, place.block) * shape->rows) + place.row;
            product.b = b[0] + (one_block ? 0 : place.block * shape->rows);
            if (shape->rows == 4) add_4_columns(&product, c + reg, d + reg, lane);
            for (int column = 0; shape->rows > 4 && column < shape->rows; column += 16, product.b += 16) {
                add_16_columns(&product, c + reg, d + reg, lane + column);
            }
        }
}

/* ---- undefined data --------------------------------------------------------------------------------------------- */

/* An undefined bit in a row of A spoils that row of the result, one in a column of B that column; C element by element.
 * `mask`: of block b the rows or columns, one bit each. */
static void undefined_rows(const gs_wave_t *wave, const gs_insn_t *insn, const shape_t *shape, int k, uint32_t *mask) {
    uint64_t lanes = gs_taint_lanes(wave, insn->src[k].reg, gs_operand_registers(&insn->src[k]), UINT32_MAX);
    if (insn->src_count > 3 + k && insn->src[3 + k].kind == GS_VREG) {
        lanes |= gs_taint_lanes(wave, insn->src[3 + k].reg, 1, UINT32_MAX);
    }
    memset(mask, 0, 16 * sizeof *mask);
    for (; lanes; lanes &= lanes - 1) {
        int lane = __builtin_ctzll(lanes);
        mask[shape->blocks > 1 ? lane / shape->rows : 0] |= 1u << lane % shape->rows;
    }
}

static void spread_taint(gs_wave_t *wave, const gs_insn_t *insn, const shape_t *shape) {
    const gs_operand_t *c = &insn->src[2];
    uint64_t of_c[32] = {0};
    uint32_t rows[16], columns[16];
    for (int r = 0; c->kind == GS_VREG && r < shape->registers; r++) {
        of_c[r] = gs_taint_lanes(wave, c->reg + r, 1, UINT32_MAX);
    }
    undefined_rows(wave, insn, shape, 0, rows);
    undefined_rows(wave, insn, shape, 1, columns);
    for (int r = 0; r < shape->registers; r++) {
        uint64_t undefined = of_c[r];
        for (int lane = 0; lane < GS_LANES; lane++) {
            place_t place = place_of(shape, r & ~3, lane / shape->rows);
            int block = place.block, row = place.row + r % 4;
            bool bad = (rows[block_of_a(insn, shape, block)] >> row & 1) || (columns[block] >> lane % shape->rows & 1);
            undefined |= (uint64_t)bad << lane;
        }
        gs_taint_clear(wave, insn->dst[0].reg + r, 1, UINT64_MAX);
        gs_taint_spoil(wave, insn->dst[0].reg + r, 1, undefined);
    }
}

static void update_taint(gs_wave_t *wave, const gs_insn_t *insn, const shape_t *shape) {
    if (!gs_taint_on(wave)) return;
    uint64_t any = 0;
    for (int k = 0; k < insn->src_count; k++)
        if (insn->src[k].kind == GS_VREG) {
            any |= gs_taint_lanes(wave, insn->src[k].reg, gs_operand_registers(&insn->src[k]), UINT32_MAX);
        }
    if (any)
        spread_taint(wave, insn, shape);
    else
        gs_taint_clear(wave, insn->dst[0].reg, shape->registers, UINT64_MAX);
}

/* ---- the instructions ------------------------------------------------------------------------------------------- */

static void reject_lane_swizzle(gs_wave_t *wave, const gs_insn_t *insn, const shape_t *shape) {
    if (insn->blgp || (shape->blocks == 1 && (insn->cbsz || insn->abid))) {
        gs_report(wave, GS_REPORT_UNSUPPORTED, "blgp, or cbsz and abid with a single block");
    }
}

static void mfma_float(gs_wave_t *wave, const gs_insn_t *insn) {
    shape_t shape = shape_of(insn);
    _Alignas(64) float a[MAX_DEPTH_PER_LANE][GS_LANES], b[MAX_DEPTH_PER_LANE][GS_LANES];
    uint32_t copy[MAX_REGISTERS][GS_LANES];
    if (shape.type[0] != BY_FORMAT) reject_lane_swizzle(wave, insn, &shape);
    update_taint(wave, insn, &shape);
    load_input(wave, insn, &shape, 0, a);
    load_input(wave, insn, &shape, 1, b);
    if (insn->src_count > 4) {
        scale_input(wave, insn, &shape, 0, a);
        scale_input(wave, insn, &shape, 1, b);
    }
    multiply(insn, &shape, a, b, accumulator(wave, insn, &shape, copy), &wave->v[insn->dst[0].reg]);
}

static void load_bytes(const gs_wave_t *wave, const gs_insn_t *insn, const shape_t *shape, int k,
                       int32_t (*values)[GS_LANES]) {
    for (int j = 0; j < shape->depth_per_lane; j++) {
        const uint32_t *source = wave->v[insn->src[k].reg + j / 4];
        GS_FOR_LANES values[j][lane] = (int8_t)(source[lane] >> 8 * (j % 4));
    }
}

static void mfma_i8(gs_wave_t *wave, const gs_insn_t *insn) {
    shape_t shape = shape_of(insn);
    int32_t a[MAX_DEPTH_PER_LANE][GS_LANES], b[MAX_DEPTH_PER_LANE][GS_LANES];
    uint32_t copy[MAX_REGISTERS][GS_LANES];
    reject_lane_swizzle(wave, insn, &shape);
    update_taint(wave, insn, &shape);
    load_bytes(wave, insn, &shape, 0, a);
    load_bytes(wave, insn, &shape, 1, b);
    const uint32_t(*c)[GS_LANES] = accumulator(wave, insn, &shape, copy);
    for (int reg = 0; reg < shape.registers; reg++)
        GS_FOR_LANES {
            int group = lane / shape.rows, column = lane % shape.rows;
            place_t place = place_of(&shape, reg & ~3, group);
            int row = place.row + reg % 4;
            int first = shape.blocks == 1 ? 0 : block_of_a(insn, &shape, place.block);
            int first_b = shape.blocks == 1 ? 0 : place.block;
            uint32_t sum = c[reg][lane];
            for (int g = 0; g < (shape.blocks == 1 ? shape.groups : 1); g++)
                for (int j = 0; j < shape.depth_per_lane; j++) {
                    int32_t x = a[j][(first + g) * shape.rows + row], y = b[j][(first_b + g) * shape.rows + column];
                    sum += (uint32_t)(x * y);
                }
            wave->v[insn->dst[0].reg + reg][lane] = sum;
        }
}

/* ---- fp64: one element of A and B per lane; blgp negates a, b, c ------------------------------------------------ */

static double element_f64(gs_wave_t *wave, const gs_insn_t *insn, int k, int index, int lane) {
    const gs_operand_t *operand = &insn->src[k];
    uint64_t bits;
    if (operand->kind == GS_VREG) {
        const uint32_t(*registers)[GS_LANES] = &wave->v[operand->reg + 2 * index];
        bits = registers[0][lane] | (uint64_t)registers[1][lane] << 32;
    } else {
        bits = gs_read_scalar64(wave, operand);
    }
    return gs_f64(bits ^ (uint64_t)(insn->blgp >> k & 1) << 63);
}

/* insn->a: rows. 16 rows: lane = 16 * k + row, result i of a lane is row 4 * i + lane / 16. 4 rows in 4 blocks:
 * lane = 16 * k + 4 * block + row, the result is row lane / 16. */
static void mfma_f64(gs_wave_t *wave, const gs_insn_t *insn) {
    int rows = insn->a, results = rows == 16 ? 4 : 1, reg = insn->dst[0].reg;
    double out[4][GS_LANES];
    uint64_t undefined = 0;
    for (int k = 0; k < 3; k++) {
        const gs_operand_t *source = &insn->src[k];
        if (source->kind == GS_VREG)
            undefined |= gs_taint_lanes(wave, source->reg, gs_operand_registers(source), UINT32_MAX);
    }
    for (int i = 0; i < results; i++) {
        GS_FOR_LANES {
            int column = lane % 16, row = rows == 16 ? 4 * i + lane / 16 : (lane % 16 & ~3) + lane / 16;
            double sum = element_f64(wave, insn, 2, i, lane);
            for (int k = 0; k < 4; k++) {
                double a = element_f64(wave, insn, 0, 0, 16 * k + row);
                sum = fma(a, element_f64(wave, insn, 1, 0, 16 * k + column), sum);
            }
            out[i][lane] = sum;
        }
    }
    for (int i = 0; i < results; i++) {
        GS_FOR_LANES {
            wave->v[reg + 2 * i][lane] = (uint32_t)gs_u64(out[i][lane]);
            wave->v[reg + 2 * i + 1][lane] = (uint32_t)(gs_u64(out[i][lane]) >> 32);
        }
    }
    gs_taint_clear(wave, reg, 2 * results, UINT64_MAX);
    if (undefined) gs_taint_spoil(wave, reg, 2 * results, UINT64_MAX);
}

/* ---- the list: clocks are 4 per pass ---------------------------------------------------------------------------- */

#define FLOAT_ENTRY(name, rows, blocks, depth, type_a, type_b, clocks)                                                 \
    {"v_mfma_f32_" name, mfma_float, SHAPE(rows, blocks, type_a, type_b), depth, GS_OWN_TAINT, clocks}
#define I8_ENTRY(name, rows, blocks, depth, clocks)                                                                    \
    {"v_mfma_i32_" name, mfma_i8, SHAPE(rows, blocks, I8, I8), depth, GS_OWN_TAINT, clocks}
#define SIXTEEN_BIT_ENTRIES(suffix, type)                                                                              \
    FLOAT_ENTRY("32x32x4_2b_" suffix, 32, 2, 4, type, type, 64),                                                       \
    FLOAT_ENTRY("16x16x4_4b_" suffix, 16, 4, 4, type, type, 32),                                                       \
        FLOAT_ENTRY("4x4x4_16b_" suffix, 4, 16, 4, type, type, 8),                                                     \
        FLOAT_ENTRY("32x32x8_" suffix, 32, 1, 8, type, type, 32),                                                      \
        FLOAT_ENTRY("16x16x16_" suffix, 16, 1, 16, type, type, 16),                                                    \
        FLOAT_ENTRY("32x32x16_" suffix, 32, 1, 16, type, type, 32),                                                    \
        FLOAT_ENTRY("16x16x32_" suffix, 16, 1, 32, type, type, 16)
#define EIGHT_BIT_ENTRIES(suffix, type_a, type_b)                                                                      \
    FLOAT_ENTRY("16x16x32_" suffix, 16, 1, 32, type_a, type_b, 16),                                                    \
    FLOAT_ENTRY("32x32x16_" suffix, 32, 1, 16, type_a, type_b, 32)

/* The clocks of f8f6f4 are those of 8-bit inputs; gs_bind halves them if both are smaller. */
const gs_semantics_t gs_mfma_list[] = {
    SIXTEEN_BIT_ENTRIES("bf16", BF16), SIXTEEN_BIT_ENTRIES("f16", F16),
    EIGHT_BIT_ENTRIES("fp8_fp8", FP8, FP8), EIGHT_BIT_ENTRIES("fp8_bf8", FP8, BF8),
    EIGHT_BIT_ENTRIES("bf8_fp8", BF8, FP8), EIGHT_BIT_ENTRIES("bf8_bf8", BF8, BF8),
    FLOAT_ENTRY("32x32x1_2b_f32", 32, 2, 1, F32, F32, 64), FLOAT_ENTRY("16x16x1_4b_f32", 16, 4, 1, F32, F32, 32),
    FLOAT_ENTRY("4x4x1_16b_f32", 4, 16, 1, F32, F32, 8), FLOAT_ENTRY("32x32x2_f32", 32, 1, 2, F32, F32, 64),
    FLOAT_ENTRY("16x16x4_f32", 16, 1, 4, F32, F32, 32), FLOAT_ENTRY("16x16x8_xf32", 16, 1, 8, XF32, XF32, 16),
    FLOAT_ENTRY("32x32x4_xf32", 32, 1, 4, XF32, XF32, 32),
    FLOAT_ENTRY("16x16x128_f8f6f4", 16, 1, 128, BY_FORMAT, BY_FORMAT, 32),
    FLOAT_ENTRY("32x32x64_f8f6f4", 32, 1, 64, BY_FORMAT, BY_FORMAT, 64),
    {"v_mfma_scale_f32_16x16x128_f8f6f4", mfma_float, SHAPE(16, 1, BY_FORMAT, BY_FORMAT), 128, GS_OWN_TAINT, 32},
    {"v_mfma_scale_f32_32x32x64_f8f6f4", mfma_float, SHAPE(32, 1, BY_FORMAT, BY_FORMAT), 64, GS_OWN_TAINT, 64},
    I8_ENTRY("32x32x4_2b_i8", 32, 2, 4, 64), I8_ENTRY("16x16x4_4b_i8", 16, 4, 4, 32),
    I8_ENTRY("4x4x4_16b_i8", 4, 16, 4, 8), I8_ENTRY("32x32x16_i8", 32, 1, 16, 32),
    I8_ENTRY("16x16x32_i8", 16, 1, 32, 16), I8_ENTRY("32x32x32_i8", 32, 1, 32, 32),
    I8_ENTRY("16x16x64_i8", 16, 1, 64, 16),
    {"v_mfma_f64_16x16x4_f64", mfma_f64, 16, 4, GS_OWN_TAINT, 32},
    {"v_mfma_f64_4x4x4_4b_f64", mfma_f64, 4, 4, GS_OWN_TAINT, 16},
    {0},
};
