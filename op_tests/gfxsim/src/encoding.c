/* The rows of tables/ *.inc as C arrays, and the search in them. */
#include "encoding.h"

#include <stddef.h>

#define COUNT(array) ((int)(sizeof(array) / sizeof((array)[0])))

const gs_type_info_t gs_type_info[] = {
#define X(name, bits, place, constants) {bits, GS_PLACE_##place, GS_CONSTANT_##constants},
    GS_TYPES(X)
#undef X
};

/* Short names for the tables. */
enum {
    GFX942 = 1 << GS_GFX942,
    GFX950 = 1 << GS_GFX950,
    ALL = GFX942 | GFX950,

    NEG0 = GS_NEG0,
    NEG1 = GS_NEG1,
    NEG01 = GS_NEG0 | GS_NEG1,
    NEG02 = GS_NEG0 | GS_NEG2,
    NEG012 = GS_NEG0 | GS_NEG1 | GS_NEG2,
    CLAMP = GS_CLAMP,
    OMOD = GS_OMOD,
    OPSEL = GS_OPSEL,
    E64 = GS_E64,
    SDWA = GS_SDWA,
    DPP = GS_DPP,
    PLAIN = GS_PLAIN,
    BITOP3 = GS_BITOP3,
    NO_OPSEL = GS_NO_OPSEL,
    MIX = GS_MIX,
    SPARSE = GS_SPARSE,
    F8F6F4 = GS_F8F6F4,
    SCALED = GS_SCALED,
    TWO = GS_TWO,
    LDS = GS_LDS,
    SWIZZLE = GS_SWIZZLE,
    ATOMIC = GS_ATOMIC,
    LITERAL = GS_LITERAL,
    OPSEL4 = GS_OPSEL | GS_OPSEL4,
    SIGN = GS_SIGN,
    PERMLANE = GS_PERMLANE,
    SDWA_NO_DST = GS_SDWA_NO_DST
};

#define T(type) GS_TYPE_##type

#define ROW(op, name, archs, d, s) {#name, op, GS_SOP1, archs, {T(d)}, {T(s)}, GS_IMM_NONE, 0},
static const gs_row_t sop1_rows[] = {
#include "tables/sop1.inc"
};
#undef ROW

#define ROW(op, name, archs, d, s0, s1) {#name, op, GS_SOP2, archs, {T(d)}, {T(s0), T(s1)}, GS_IMM_NONE, 0},
static const gs_row_t sop2_rows[] = {
#include "tables/sop2.inc"
};
#undef ROW

#define ROW(op, name, archs, d, s, imm, flags) {#name, op, GS_SOPK, archs, {T(d)}, {T(s)}, GS_##imm, flags},
static const gs_row_t sopk_rows[] = {
#include "tables/sopk.inc"
};
#undef ROW

#define ROW(op, name, archs, s0, s1, imm) {#name, op, GS_SOPC, archs, {0}, {T(s0), T(s1)}, GS_##imm, 0},
static const gs_row_t sopc_rows[] = {
#include "tables/sopc.inc"
};
#undef ROW

#define ROW(op, name, archs, imm) {#name, op, GS_SOPP, archs, {0}, {0}, GS_##imm, 0},
static const gs_row_t sopp_rows[] = {
#include "tables/sopp.inc"
};
#undef ROW

#define ROW(op, name, archs, d, base, data, flags) \
    {#name, op, GS_SMEM, archs, {T(d)}, {T(base), T(NO), T(data)}, GS_IMM_NONE, flags},
static const gs_row_t smem_rows[] = {
#include "tables/smem.inc"
};
#undef ROW

#define ROW(op, name, archs, d, s, flags) {#name, op, GS_VOP1, archs, {T(d)}, {T(s)}, GS_IMM_NONE, flags},
static const gs_row_t vop1_rows[] = {
#include "tables/vop1.inc"
};
#undef ROW

#define ROW(op, name, archs, d0, d1, s0, s1, s2, flags) \
    {#name, op, GS_VOP2, archs, {T(d0), T(d1)}, {T(s0), T(s1), T(s2)}, GS_IMM_NONE, flags},
static const gs_row_t vop2_rows[] = {
#include "tables/vop2.inc"
};
#undef ROW

#define COMPARE(op, name, type0, type1, flags) \
    {name, op, GS_VOPC, ALL, {T(MASK)}, {T(type0), T(type1)}, GS_IMM_NONE, (flags) | E64},
#define CLASS(op, prefix, suffix, type, flags) COMPARE(op, #prefix "_class_" #suffix, type, B32, (flags) | NEG0)
#define FLOAT1(op, prefix, test, suffix, type, flags) \
    COMPARE(op, prefix "_" #test "_" suffix, type, type, (flags) | NEG01 | CLAMP)
#define FLOAT(op, prefix, suffix, type, flags) \
    FLOAT1(op, #prefix, f, #suffix, type, flags) FLOAT1((op) + 1, #prefix, lt, #suffix, type, flags) \
    FLOAT1((op) + 2, #prefix, eq, #suffix, type, flags) FLOAT1((op) + 3, #prefix, le, #suffix, type, flags) \
    FLOAT1((op) + 4, #prefix, gt, #suffix, type, flags) FLOAT1((op) + 5, #prefix, lg, #suffix, type, flags) \
    FLOAT1((op) + 6, #prefix, ge, #suffix, type, flags) FLOAT1((op) + 7, #prefix, o, #suffix, type, flags) \
    FLOAT1((op) + 8, #prefix, u, #suffix, type, flags) FLOAT1((op) + 9, #prefix, nge, #suffix, type, flags) \
    FLOAT1((op) + 10, #prefix, nlg, #suffix, type, flags) FLOAT1((op) + 11, #prefix, ngt, #suffix, type, flags) \
    FLOAT1((op) + 12, #prefix, nle, #suffix, type, flags) FLOAT1((op) + 13, #prefix, neq, #suffix, type, flags) \
    FLOAT1((op) + 14, #prefix, nlt, #suffix, type, flags) FLOAT1((op) + 15, #prefix, tru, #suffix, type, flags)
#define INTEGER1(op, prefix, test, suffix, type, flags) COMPARE(op, prefix "_" #test "_" suffix, type, type, flags)
#define INTEGER(op, prefix, suffix, type, flags) \
    INTEGER1(op, #prefix, f, #suffix, type, flags) INTEGER1((op) + 1, #prefix, lt, #suffix, type, flags) \
    INTEGER1((op) + 2, #prefix, eq, #suffix, type, flags) INTEGER1((op) + 3, #prefix, le, #suffix, type, flags) \
    INTEGER1((op) + 4, #prefix, gt, #suffix, type, flags) INTEGER1((op) + 5, #prefix, ne, #suffix, type, flags) \
    INTEGER1((op) + 6, #prefix, ge, #suffix, type, flags) INTEGER1((op) + 7, #prefix, t, #suffix, type, flags)
static const gs_row_t vopc_rows[] = {
#include "tables/vopc.inc"
};

#define ROW(op, name, archs, d0, d1, s0, s1, s2, flags) \
    {#name, op, GS_VOP3, archs, {T(d0), T(d1)}, {T(s0), T(s1), T(s2)}, GS_IMM_NONE, flags},
static const gs_row_t vop3_rows[] = {
#include "tables/vop3.inc"
};
#undef ROW

#define ROW(op, name, archs, d, s0, s1, s2, flags) \
    {#name, op, GS_VOP3P, archs, {T(d)}, {T(s0), T(s1), T(s2)}, GS_IMM_NONE, flags},
static const gs_row_t vop3p_rows[] = {
#include "tables/vop3p.inc"
};
#undef ROW

#define ROW(op, name, archs, d, a, b, c, flags) \
    {#name, op, GS_MFMA, archs, {T(d)}, {T(a), T(b), T(c)}, GS_IMM_NONE, flags},
static const gs_row_t mfma_rows[] = {
#include "tables/mfma.inc"
};
#undef ROW

#define ROW(op, name, archs, d, address, data0, data1, flags) \
    {#name, op, GS_DS, archs, {T(d)}, {T(address), T(data0), T(data1)}, GS_IMM_NONE, flags},
static const gs_row_t ds_rows[] = {
#include "tables/ds.inc"
};
#undef ROW

/* flat.inc three times: a row that a segment lacks has no archs there. The address's width is the segment's matter. */
enum { F = 1, G = 2, S = 4 };

#define FLAT_ROW(prefix, format, bit, op, name, archs, segments, d, data, flags) \
    {prefix #name, op, format, ((segments) & (bit)) ? (archs) : 0, {T(d)}, {T(NO), T(data)}, GS_IMM_NONE, flags},
#define ROW(...) FLAT_ROW("flat_", GS_FLAT, F, __VA_ARGS__)
static const gs_row_t flat_rows[] = {
#include "tables/flat.inc"
};
#undef ROW
#define ROW(...) FLAT_ROW("global_", GS_GLOBAL, G, __VA_ARGS__)
static const gs_row_t global_rows[] = {
#include "tables/flat.inc"
};
#undef ROW
#define ROW(...) FLAT_ROW("scratch_", GS_SCRATCH, S, __VA_ARGS__)
static const gs_row_t scratch_rows[] = {
#include "tables/flat.inc"
};
#undef ROW

#define ROW(op, name, archs, d, data, flags) {#name, op, GS_MUBUF, archs, {T(d)}, {T(data)}, GS_IMM_NONE, flags},
static const gs_row_t mubuf_rows[] = {
#include "tables/mubuf.inc"
};
#undef ROW

static const struct {
    const gs_row_t *rows;
    int count;
} tables[GS_FORMAT_COUNT] = {
    [GS_SOP1] = {sop1_rows, COUNT(sop1_rows)},       [GS_SOP2] = {sop2_rows, COUNT(sop2_rows)},
    [GS_SOPK] = {sopk_rows, COUNT(sopk_rows)},       [GS_SOPC] = {sopc_rows, COUNT(sopc_rows)},
    [GS_SOPP] = {sopp_rows, COUNT(sopp_rows)},       [GS_SMEM] = {smem_rows, COUNT(smem_rows)},
    [GS_VOP1] = {vop1_rows, COUNT(vop1_rows)},       [GS_VOP2] = {vop2_rows, COUNT(vop2_rows)},
    [GS_VOPC] = {vopc_rows, COUNT(vopc_rows)},       [GS_VOP3] = {vop3_rows, COUNT(vop3_rows)},
    [GS_VOP3P] = {vop3p_rows, COUNT(vop3p_rows)},    [GS_MFMA] = {mfma_rows, COUNT(mfma_rows)},
    [GS_DS] = {ds_rows, COUNT(ds_rows)},             [GS_FLAT] = {flat_rows, COUNT(flat_rows)},
    [GS_GLOBAL] = {global_rows, COUNT(global_rows)}, [GS_SCRATCH] = {scratch_rows, COUNT(scratch_rows)},
    [GS_MUBUF] = {mubuf_rows, COUNT(mubuf_rows)},
};

const gs_row_t *gs_row_find(gs_arch_t arch, gs_format_t format, int opcode) {
    for (int i = 0; i < tables[format].count; i++) {
        const gs_row_t *row = &tables[format].rows[i];
        if (row->opcode == opcode && (row->archs >> arch & 1)) return row;
    }
    return NULL;
}

const gs_row_t *gs_row_at(int index) {
    for (int format = 0; format < GS_FORMAT_COUNT; format++) {
        if (index < tables[format].count) return &tables[format].rows[index];
        index -= tables[format].count;
    }
    return NULL;
}
