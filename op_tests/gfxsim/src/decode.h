/* What the files of the decoder share. Every function that returns bool says false for an encoding that is not one. */
#ifndef GFXSIM_DECODE_H
#define GFXSIM_DECODE_H

#include "encoding.h"

/* Source codes with a meaning of their own. */
enum {
    GS_CODE_SDWA = 249,    /* in src0: a dword with the selections follows */
    GS_CODE_DPP = 250,     /* in src0: a dword with the lane pattern follows */
    GS_CODE_LITERAL = 255, /* the value is the next dword */
    GS_CODE_VGPR = 256
};

typedef struct gs_decoder_t {
    gs_arch_t arch;
    const uint32_t *words;
    int available; /* words that exist */
    int used;      /* words that the instruction takes, so far */
    const gs_row_t *row;
    gs_insn_t *insn;
} gs_decoder_t;

static inline uint32_t gs_bits(uint32_t word, int low, int count) {
    return word >> low & (uint32_t)((UINT64_C(1) << count) - 1);
}

static inline int32_t gs_signed(uint32_t value, int bits) { return (int32_t)(value << (32 - bits)) >> (32 - bits); }

/* ---- decode_operand.c ------------------------------------------------------------------------------------------- */

/* Finds the row of the opcode and notes it in the instruction. */
bool gs_decode_row(gs_decoder_t *decoder, gs_format_t table, int opcode, gs_format_t format);

/* Each appends one operand to the instruction. */

gs_operand_t *gs_add_dst(gs_decoder_t *decoder, gs_type_t type);
gs_operand_t *gs_add_src(gs_decoder_t *decoder, gs_type_t type);

/* The dword behind the instruction; the same one when asked again. */
bool gs_take_literal(gs_decoder_t *decoder, uint32_t *out_value);

bool gs_set_vector(gs_operand_t *operand, int reg, bool accumulator);
bool gs_set_scalar(gs_operand_t *operand, int code);
void gs_set_vcc(gs_operand_t *operand);
void gs_set_literal(gs_operand_t *operand, uint32_t value);

bool gs_decode_sdst(gs_decoder_t *decoder, int code, gs_type_t type);
bool gs_decode_ssrc(gs_decoder_t *decoder, int code, gs_type_t type);
bool gs_decode_vdst(gs_decoder_t *decoder, int code, gs_type_t type);

/* A 9-bit source of the vector units. */
bool gs_decode_source(gs_decoder_t *decoder, int code, gs_type_t type);

/* Without a literal: where the format has no room for one. */
bool gs_decode_source_no_literal(gs_decoder_t *decoder, int code, gs_type_t type);

/* ---- one function per group of formats; `word` is words[0] ------------------------------------------------------- */

bool gs_decode_scalar_alu(gs_decoder_t *decoder, uint32_t word);
bool gs_decode_smem(gs_decoder_t *decoder, uint32_t word);
bool gs_decode_vop12c(gs_decoder_t *decoder, uint32_t word);
bool gs_decode_vop3(gs_decoder_t *decoder, uint32_t word);
bool gs_decode_vop3p(gs_decoder_t *decoder, uint32_t word);
bool gs_decode_ds(gs_decoder_t *decoder, uint32_t word);
bool gs_decode_flat(gs_decoder_t *decoder, uint32_t word);
bool gs_decode_mubuf(gs_decoder_t *decoder, uint32_t word);

#endif
