/* The tables of encodings: one row per opcode and table, from tables/ *.inc. A row says what the operands are; where
 * they stand in the machine words is the same for all rows of a table and lives in decode_*.c. */
#ifndef GFXSIM_ENCODING_H
#define GFXSIM_ENCODING_H

#include "insn.h"

/* Where an operand may live. */
typedef enum gs_place_t {
    GS_PLACE_NONE,
    GS_PLACE_ANY,    /* VALU source: scalar register, vector register or constant */
    GS_PLACE_VGPR,   /* a vector register only */
    GS_PLACE_AGPR,   /* an accumulation register only */
    GS_PLACE_SCALAR, /* scalar register or constant */
    GS_PLACE_SGPR    /* scalar register only */
} gs_place_t;

/* How an inline constant becomes bits. */
typedef enum gs_constant_t {
    GS_CONSTANT_NONE, /* constants are not allowed */
    GS_CONSTANT_I16,  /* floats as f16 bits */
    GS_CONSTANT_F16,
    GS_CONSTANT_BF16,
    GS_CONSTANT_32,   /* floats as f32 bits, whatever the instruction makes of them */
    GS_CONSTANT_64,   /* floats as f64 bits; a literal dword is zero-extended */
    GS_CONSTANT_I64,  /* likewise, but a literal dword is sign-extended */
    GS_CONSTANT_F64,  /* likewise, but a literal dword is the high half */
    GS_CONSTANT_PK_F16, /* 32 bits: floats as f16 in the low half, integers sign-extended to 32 bits */
    GS_CONSTANT_PK_BF16,
    GS_CONSTANT_PK_F32  /* 64 bits: like GS_CONSTANT_32 in the low half, zero in the high half */
} gs_constant_t;

/* Operand types: name, bits, place, constants. B: bits without a type. */
#define GS_TYPES(X) \
    X(NO, 0, NONE, NONE) \
    X(B16, 16, ANY, I16) X(F16, 16, ANY, F16) X(BF16, 16, ANY, BF16) \
    X(B32, 32, ANY, 32) X(F32, 32, ANY, 32) X(B64, 64, ANY, 64) X(I64, 64, ANY, I64) X(F64, 64, ANY, F64) \
    X(PK_B16, 32, ANY, 32) X(PK_F16, 32, ANY, PK_F16) X(PK_BF16, 32, ANY, PK_BF16) X(PK_B32, 64, ANY, PK_F32) \
    X(V32, 32, VGPR, NONE) X(V64, 64, VGPR, NONE) X(V96, 96, VGPR, NONE) X(V128, 128, VGPR, NONE) \
    X(V192, 192, VGPR, NONE) X(V256, 256, VGPR, NONE) X(V512, 512, VGPR, NONE) X(V1024, 1024, VGPR, NONE) \
    X(A32, 32, AGPR, NONE) \
    X(MASK, 64, SGPR, NONE) /* a bit per lane */ \
    X(SREG, 32, SGPR, NONE) X(SREG64, 64, SGPR, NONE) X(LANE, 32, SCALAR, 32) /* a lane number or lane value */ \
    X(S128, 128, SGPR, NONE) X(S256, 256, SGPR, NONE) X(S512, 512, SGPR, NONE) \
    X(F32X4, 128, VGPR, 32) X(F32X16, 512, VGPR, 32) X(F32X32, 1024, VGPR, 32) /* accumulators, of i32 too */ \
    X(F64X1, 64, VGPR, F64) X(F64X4, 256, VGPR, F64)

typedef enum gs_type_t {
#define X(name, bits, place, constants) GS_TYPE_##name,
    GS_TYPES(X)
#undef X
} gs_type_t;

typedef struct gs_type_info_t {
    uint16_t bits;
    uint8_t place, constants;
} gs_type_info_t;

extern const gs_type_info_t gs_type_info[];

/* What a row allows beyond its operands, and how the printer deals with it. */
enum {
    /* vector ALU */
    GS_NEG0 = 1 << 0, /* abs and neg of source 0, 1, 2 */
    GS_NEG1 = 1 << 1,
    GS_NEG2 = 1 << 2,
    GS_SIGN = 1 << 3, /* sign bits of the other sources are ignored; without this they must be 0 */
    GS_CLAMP = 1 << 4,
    GS_OMOD = 1 << 5,
    GS_OPSEL = 1 << 6,
    GS_OPSEL4 = 1 << 7,   /* with GS_OPSEL: printed as for three sources although there are two */
    GS_NO_OPSEL = 1 << 8, /* has op_sel and op_sel_hi, and ignores them */
    GS_E64 = 1 << 9,      /* VOP1, VOP2, VOPC: has a 64-bit form; without one the name takes no suffix */
    GS_PLAIN = 1 << 10,   /* VOP1: has a 64-bit form and yet no suffix; VOP3P: has no modifiers at all */
    GS_SDWA = 1 << 11,
    GS_SDWA_NO_DST = 1 << 12, /* its SDWA form does not select in the destination */
    GS_DPP = 1 << 13,
    GS_BITOP3 = 1 << 14,
    GS_PERMLANE = 1 << 15, /* its 64-bit form has fetch-inactive and bound-control in op_sel */
    GS_MIX = 1 << 16,      /* op_sel_hi says which source is f16; neg_hi is abs */
    GS_LITERAL = 1 << 17,  /* a dword behind the instruction: K of fmamk, fmaak; s_setreg_imm32 */
    /* matrix core */
    GS_SPARSE = 1 << 18, /* smfmac: the third source is an index */
    GS_F8F6F4 = 1 << 19, /* cbsz and blgp are the formats of a and b, hence their sizes */
    GS_SCALED = 1 << 20, /* the second half of a pair that begins with v_mfma_ld_scale_b32 */
    /* memory */
    GS_TWO = 1 << 21, /* DS: two addresses, offset0 and offset1 */
    GS_SWIZZLE = 1 << 22,
    GS_LDS = 1 << 23,   /* FLAT: always loads to LDS; MUBUF: can */
    GS_ATOMIC = 1 << 24 /* returns the old value with sc0 */
};

/* How SOPP, SOPK and SOPC print simm16. */
typedef enum gs_immediate_t {
    GS_IMM_NONE, GS_IMM_HEX, GS_IMM_NUMBER, GS_IMM_DECIMAL, GS_IMM_OPTIONAL, GS_IMM_WAITCNT, GS_IMM_HWREG,
    GS_IMM_MESSAGE, GS_IMM_GPR_IDX
} gs_immediate_t;

typedef struct gs_row_t {
    const char *name;
    uint16_t opcode;
    uint8_t format;    /* gs_format_t of the table; GS_MFMA: VOP3P opcodes of the matrix core */
    uint8_t archs;     /* bit per gs_arch_t */
    uint8_t dst[2], src[4]; /* gs_type_t */
    uint8_t immediate; /* gs_immediate_t */
    uint32_t flags;
} gs_row_t;

/* constant.c: the bits of 0.5, -0.5, 1, -1, 2, -2, 4, -4 and 1 / (2 pi), by index. */
enum { GS_FLOAT_CONSTANTS = 9 };
uint64_t gs_float_constant(gs_constant_t kind, int index);

const gs_row_t *gs_row_find(gs_arch_t arch, gs_format_t format, int opcode);

/* All rows, for tests and tools; NULL behind the last. */
const gs_row_t *gs_row_at(int index);

#endif
