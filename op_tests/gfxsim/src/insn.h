/* One decoded instruction: what the decoder produces and the executor consumes.
 * Operands stand in the order of LLVM's assembly text, implicit ones made explicit: a VOPC in its 32-bit form has vcc
 * as dst[0], v_cndmask_b32_e32 has it as src[2], v_addc_co_u32_e32 as dst[1] and src[2].
 *   DS      src: address, data0, data1          FLAT    src: address (vreg or none), data, saddr (or none)
 *   MUBUF   src: vdata (of a store or atomic only; a load's is dst[0]), address (or none), resource, soffset
 *   SMEM    src: base, soffset (or none), data (of a store or atomic)
 *   MFMA    src: a, b, c, then the scales of a and b if it has them */
#ifndef GFXSIM_INSN_H
#define GFXSIM_INSN_H

#include <stdbool.h>
#include <stdint.h>

typedef enum gs_arch_t { GS_GFX942, GS_GFX950, GS_ARCH_COUNT } gs_arch_t;

typedef enum gs_operand_kind_t { GS_NONE, GS_SREG, GS_VREG, GS_CONST } gs_operand_kind_t;

/* Scalar register numbers as the hardware encodes them. */
enum {
    GS_FLAT_SCRATCH = 102,
    GS_XNACK_MASK = 104,
    GS_VCC = 106,
    GS_M0 = 124,
    GS_EXEC = 126,
    GS_SHARED_BASE = 235, /* apertures; with the other read-only sources up to GS_SCC they are operands of kind SREG */
    GS_PRIVATE_BASE = 237,
    GS_VCCZ = 251,
    GS_EXECZ = 252,
    GS_SCC = 253,
    GS_FIRST_AGPR = 256 /* a0 is vector register 256 */
};

typedef struct gs_operand_t {
    uint8_t kind;   /* gs_operand_kind_t */
    uint8_t type;   /* gs_type_t of encoding.h: how the instruction reads the bits; for the printer */
    uint16_t bits;  /* 16, 32, 64, 96, 128, ..., 1024: the width that the instruction reads or writes */
    uint16_t reg;   /* first register */
    uint8_t literal; /* for the printer. GS_CONST: 1 came from a dword behind the instruction, 2 is the K of v_fmamk */
    uint64_t value; /* GS_CONST: the bits as the instruction sees them (an inline 1.0 in a 16-bit operand is 0x3c00) */
} gs_operand_t;

typedef enum gs_format_t {
    GS_SOP1, GS_SOP2, GS_SOPK, GS_SOPC, GS_SOPP, GS_SMEM,
    GS_VOP1, GS_VOP2, GS_VOPC, GS_VOP3, GS_VOP3P, GS_MFMA,
    GS_DS, GS_FLAT, GS_GLOBAL, GS_SCRATCH, GS_MUBUF,
    GS_FORMAT_COUNT
} gs_format_t;

/* What an instruction is counted as: the columns of `bench simcost`. */
typedef enum gs_class_t {
    GS_CLASS_MFMA, GS_CLASS_VALU, GS_CLASS_TRANS, GS_CLASS_LDS, GS_CLASS_VMEM, GS_CLASS_SMEM, GS_CLASS_SALU,
    GS_CLASS_BRANCH, GS_CLASS_BARRIER, GS_CLASS_WAIT, GS_CLASS_COUNT
} gs_class_t;

typedef struct gs_wave_t gs_wave_t;
typedef struct gs_insn_t gs_insn_t;
typedef void (*gs_execute_t)(gs_wave_t *wave, const gs_insn_t *insn);

/* Registers that an instruction reads, or writes. */
typedef struct gs_register_list_t {
    uint16_t vector[8];
    uint8_t scalar[6];
    uint8_t vector_count, scalar_count;
} gs_register_list_t;

struct gs_insn_t {
    gs_execute_t execute;  /* NULL: no semantics in the executor; running it is an error that names it */
    const struct gs_row_t *row; /* of the encoding tables (encoding.h); NULL: none */
    const char *name;      /* mnemonic without an _e32, _e64, _dpp or _sdwa suffix: "v_add_f32" */
    uint8_t format;        /* gs_format_t; VOP3 also for the 64-bit form of VOP1, VOP2 and VOPC */
    uint8_t class_;        /* gs_class_t */
    uint8_t bytes;         /* 4, 8, 12 or 16 */
    uint8_t dst_count, src_count;
    gs_operand_t dst[2], src[5];
    int32_t a, b;          /* parameters of the execute function, from the executor's table (a size, a condition) */
    uint16_t mfma_clocks;  /* 4 * passes, for the counters; 0 else */
    uint8_t traits;        /* how undefined bits pass through it: gs_traits_t of the executor */

    gs_register_list_t reads, writes; /* for taint.c, if `listed` */
    bool listed, moves;    /* moves: copies vector registers, and nothing else */
    bool plain;            /* sources are used as they stand in their registers: no DPP, SDWA, abs or neg */

    int32_t imm;           /* SOPP, SOPK: simm16; branches: signed offset in dwords from the next instruction */
    int32_t offset, offset1; /* DS (offset1: of two-address forms), FLAT, MUBUF, SMEM; bytes; elements for DS *2 */

    uint8_t abs, neg;      /* VOP3, DPP, SDWA, v_fma_mix: bit i is source i; VOP3P: neg is neg_lo */
    uint8_t neg_hi;
    uint8_t op_sel;        /* bit i: source i (scaled MFMA: the scale of a, of b), bit 3: destination */
    uint8_t op_sel_hi;
    uint8_t clamp, omod;   /* omod: 1 *2, 2 *4, 3 /2 */

    uint8_t is_dpp, is_sdwa;
    uint8_t dpp_row_mask, dpp_bank_mask, dpp_bound_ctrl; /* bound_ctrl 1: lanes without a source read 0 */
    uint16_t dpp_ctrl;
    uint8_t sdwa_dst_sel, sdwa_dst_unused, sdwa_sel[2], sdwa_sext; /* sels 0-3 bytes, 4-5 words, 6 dword; sext: bits */

    uint8_t sc0, sc1, nt, lds, idxen, gds;
    uint8_t offen;            /* MUBUF; SMEM: there is an immediate offset */
    uint8_t cbsz, abid, blgp; /* MFMA; blgp as neg bits for f64 */
    uint8_t bitop3;           /* truth table of v_bitop3 */
};

/* decode.c: one instruction out of `words` (up to 4 may be read; `available` of them exist). Returns its size in bytes,
 * or 0: not an instruction that the tables know, with insn->name NULL. Does not set execute. */
int gs_decode(gs_arch_t arch, const uint32_t *words, int available, gs_insn_t *out_insn);

/* print.c: LLVM's text of the instruction (as llvm-objdump --mcpu=... writes it, without the address comment); `pc` is
 * its address, for branches. Returns the length. */
int gs_print(gs_arch_t arch, const gs_insn_t *insn, uint64_t pc, char *text, int size);

/* exec_table.c: finds the semantics of insn->name and sets execute, a, b, class_, mfma_clocks; false: none. */
bool gs_bind(gs_arch_t arch, gs_insn_t *insn);

#endif
