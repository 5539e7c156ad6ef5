/* VOP1, VOP2 and VOPC with their SDWA and DPP forms, and VOP3, which also is the 64-bit form of those three. */
#include "decode.h"

enum { OPCODE_FMAMK_F32 = 0x17, OPCODE_MADMK_F16 = 0x24 };

enum { SDWA_DWORD = 6, SDWA_UNUSED_LAST = 2, DPP_QUAD_PERM_LAST = 0xff };

/* Where the opcodes of the 32-bit formats begin within those of VOP3. */
enum { VOP3_VOP2 = 0x100, VOP3_VOP1 = 0x140, VOP3_OWN = 0x1c0 };

static uint8_t negatable(const gs_row_t *row) { return (uint8_t)(row->flags & (GS_NEG0 | GS_NEG1 | GS_NEG2)); }

/* Refuses signs of sources that cannot have one, or drops them where they are ignored. */
static bool check_signs(gs_insn_t *insn) {
    uint8_t allowed = negatable(insn->row);
    uint8_t sources = insn->row->src[2] || (insn->row->flags & GS_OPSEL4) ? 7 : 3;
    if ((insn->abs | insn->neg) & ~(insn->row->flags & GS_SIGN ? sources : allowed)) return false;
    insn->abs &= allowed;
    insn->neg &= allowed;
    return true;
}

/* ---- 32-bit forms ------------------------------------------------------------------------------------------------ */

/* Carry and mask operands, which the 32-bit forms have no field for. */
static void add_vcc_dst(gs_decoder_t *decoder) {
    if (decoder->row->dst[1]) gs_set_vcc(gs_add_dst(decoder, decoder->row->dst[1]));
}

static void add_vcc_src(gs_decoder_t *decoder) {
    if (decoder->row->src[2] == GS_TYPE_MASK) gs_set_vcc(gs_add_src(decoder, GS_TYPE_MASK));
}

static void add_k(gs_decoder_t *decoder, gs_type_t type, uint32_t value) {
    gs_operand_t *operand = gs_add_src(decoder, type);
    gs_set_literal(operand, value);
    operand->literal = 2;
}

/* The constant K of v_fmamk and v_madmk (second source) and of v_fmaak and v_madak (third). */
static bool decode_with_literal(gs_decoder_t *decoder, int src0, int src1) {
    const gs_row_t *row = decoder->row;
    bool second = row->opcode == OPCODE_FMAMK_F32 || row->opcode == OPCODE_MADMK_F16;
    uint32_t value;
    if (!gs_take_literal(decoder, &value) || !gs_decode_source(decoder, src0, row->src[0])) return false;
    if (second) add_k(decoder, row->src[1], value);
    if (!gs_set_vector(gs_add_src(decoder, row->src[1]), src1, false)) return false;
    if (!second) add_k(decoder, row->src[2], value);
    decoder->used = 2;
    return true;
}

static bool decode_sdwa_source(gs_decoder_t *decoder, int index, uint32_t sdwa, uint32_t reg) {
    const gs_row_t *row = decoder->row;
    gs_insn_t *insn = decoder->insn;
    uint32_t control = gs_bits(sdwa, 16 + 8 * index, 8);
    bool sext = control >> 3 & 1, neg = control >> 4 & 1, abs = control >> 5 & 1, scalar = control >> 7 & 1;
    bool has_sign = negatable(row) >> index & 1;
    if (has_sign ? sext : (neg || abs)) return false;
    insn->sdwa_sel[index] = control & 7;
    insn->sdwa_sext |= (uint8_t)(sext << index);
    insn->neg |= (uint8_t)(neg << index);
    insn->abs |= (uint8_t)(abs << index);
    if (insn->sdwa_sel[index] > SDWA_DWORD) return false;
    if (scalar) return gs_decode_source_no_literal(decoder, (int)reg, row->src[index]);
    return gs_set_vector(gs_add_src(decoder, row->src[index]), (int)reg, false);
}

static bool is_float(int type) {
    return type == GS_TYPE_F16 || type == GS_TYPE_BF16 || type == GS_TYPE_F32 || type == GS_TYPE_PK_B32;
}

static bool decode_sdwa(gs_decoder_t *decoder, int dst, int src1) {
    const gs_row_t *row = decoder->row;
    gs_insn_t *insn = decoder->insn;
    if (!(row->flags & GS_SDWA) || decoder->available < 2) return false;
    uint32_t sdwa = decoder->words[1];
    decoder->used = 2;
    insn->is_sdwa = 1;
    insn->sdwa_dst_sel = SDWA_DWORD;
    if (row->format == GS_VOPC) { /* with bit 15 the result goes to an SGPR pair */
        if (!gs_bits(sdwa, 15, 1)) {
            gs_set_vcc(gs_add_dst(decoder, GS_TYPE_MASK));
        } else if (!gs_decode_sdst(decoder, (int)gs_bits(sdwa, 8, 7), GS_TYPE_MASK)) {
            return false;
        }
    } else {
        insn->sdwa_dst_sel = (uint8_t)gs_bits(sdwa, 8, 3);
        insn->sdwa_dst_unused = (uint8_t)gs_bits(sdwa, 11, 2);
        insn->clamp = (uint8_t)gs_bits(sdwa, 13, 1);
        insn->omod = (uint8_t)gs_bits(sdwa, 14, 2);
        if (insn->omod && !is_float(row->dst[0])) return false;
        if ((row->flags & GS_SDWA_NO_DST) && insn->sdwa_dst_sel != SDWA_DWORD) return false;
        if (insn->sdwa_dst_sel > SDWA_DWORD || insn->sdwa_dst_unused > SDWA_UNUSED_LAST) return false;
        if (!gs_decode_vdst(decoder, dst, row->dst[0])) return false;
        add_vcc_dst(decoder);
    }
    if (!decode_sdwa_source(decoder, 0, sdwa, gs_bits(sdwa, 0, 8))) return false;
    if (row->src[1] ? !decode_sdwa_source(decoder, 1, sdwa, (uint32_t)src1) : gs_bits(sdwa, 24, 8) != 0) return false;
    add_vcc_src(decoder);
    return true;
}

/* 64-bit operands know row_newbcast alone. */
static bool is_dpp_ctrl(const gs_row_t *row, uint32_t ctrl) {
    if (gs_type_info[row->dst[0]].bits == 64 || gs_type_info[row->src[0]].bits == 64) return ctrl >> 4 == 0x15;
    if (ctrl <= DPP_QUAD_PERM_LAST) return true;
    switch (ctrl >> 4) {
    case 0x10: /* row_shl */
    case 0x11: /* row_shr */
    case 0x12: /* row_ror */ return ctrl & 15;
    case 0x13: return ctrl % 4 == 0;   /* wave_shl, wave_rol, wave_shr, wave_ror */
    case 0x14: return (ctrl & 15) < 4; /* row_mirror, row_half_mirror, row_bcast:15, row_bcast:31 */
    case 0x15: return true;            /* row_newbcast */
    default: return false;
    }
}

static bool decode_dpp(gs_decoder_t *decoder, int dst, int src1) {
    const gs_row_t *row = decoder->row;
    gs_insn_t *insn = decoder->insn;
    if (!(row->flags & GS_DPP) || decoder->available < 2) return false;
    uint32_t dpp = decoder->words[1];
    decoder->used = 2;
    insn->is_dpp = 1;
    insn->dpp_ctrl = (uint16_t)gs_bits(dpp, 8, 9);
    insn->dpp_bound_ctrl = (uint8_t)gs_bits(dpp, 19, 1);
    insn->neg = (uint8_t)(gs_bits(dpp, 20, 1) | gs_bits(dpp, 22, 1) << 1);
    insn->abs = (uint8_t)(gs_bits(dpp, 21, 1) | gs_bits(dpp, 23, 1) << 1);
    insn->dpp_bank_mask = (uint8_t)gs_bits(dpp, 24, 4);
    insn->dpp_row_mask = (uint8_t)gs_bits(dpp, 28, 4);
    if (!is_dpp_ctrl(row, insn->dpp_ctrl) || !check_signs(insn)) return false;
    if (!gs_decode_vdst(decoder, dst, row->dst[0])) return false;
    add_vcc_dst(decoder);
    if (!gs_set_vector(gs_add_src(decoder, row->src[0]), (int)gs_bits(dpp, 0, 8), false)) return false;
    if (row->src[1] && !gs_set_vector(gs_add_src(decoder, row->src[1]), src1, false)) return false;
    add_vcc_src(decoder);
    return true;
}

bool gs_decode_vop12c(gs_decoder_t *decoder, uint32_t word) {
    int src0 = (int)gs_bits(word, 0, 9), src1 = (int)gs_bits(word, 9, 8), dst = (int)gs_bits(word, 17, 8);
    bool found;
    if (word >> 25 == 0x3f) {
        found = gs_decode_row(decoder, GS_VOP1, src1, GS_VOP1);
    } else if (word >> 25 == 0x3e) {
        found = gs_decode_row(decoder, GS_VOPC, dst, GS_VOPC);
    } else {
        found = gs_decode_row(decoder, GS_VOP2, (int)gs_bits(word, 25, 6), GS_VOP2);
    }
    if (!found) return false;
    const gs_row_t *row = decoder->row;
    if (!row->src[0]) return dst == 0 && src0 != GS_CODE_SDWA && src0 != GS_CODE_DPP; /* v_nop */
    if (src0 == GS_CODE_SDWA) return decode_sdwa(decoder, dst, src1);
    if (src0 == GS_CODE_DPP) return decode_dpp(decoder, dst, src1);
    if (row->format == GS_VOPC) {
        gs_set_vcc(gs_add_dst(decoder, row->dst[0]));
    } else if (!gs_decode_vdst(decoder, dst, row->dst[0])) {
        return false;
    }
    add_vcc_dst(decoder);
    if (row->flags & GS_LITERAL) return decode_with_literal(decoder, src0, src1);
    if (!gs_decode_source(decoder, src0, row->src[0])) return false;
    if (row->format == GS_VOP1) return true;
    if (!gs_set_vector(gs_add_src(decoder, row->src[1]), src1, false)) return false;
    add_vcc_src(decoder);
    return true;
}

/* ---- VOP3 -------------------------------------------------------------------------------------------------------- */

static bool find_vop3_row(gs_decoder_t *decoder, int opcode) {
    bool found;
    if (opcode >= VOP3_OWN) return gs_decode_row(decoder, GS_VOP3, opcode, GS_VOP3);
    if (opcode >= VOP3_VOP1) {
        found = gs_decode_row(decoder, GS_VOP1, opcode - VOP3_VOP1, GS_VOP3);
    } else if (opcode >= VOP3_VOP2) {
        found = gs_decode_row(decoder, GS_VOP2, opcode - VOP3_VOP2, GS_VOP3);
    } else {
        found = gs_decode_row(decoder, GS_VOPC, opcode, GS_VOP3);
    }
    return found && (decoder->row->flags & GS_E64);
}

/* The bits of abs, neg and omod are the truth table of v_bitop3. */
static void decode_bitop3(gs_insn_t *insn) {
    insn->bitop3 = (uint8_t)(insn->neg | insn->abs << 3 | insn->omod << 6);
    insn->neg = insn->abs = insn->omod = 0;
}

bool gs_decode_vop3(gs_decoder_t *decoder, uint32_t word) {
    if (decoder->available < 2 || !find_vop3_row(decoder, (int)gs_bits(word, 16, 10))) return false;
    const gs_row_t *row = decoder->row;
    gs_insn_t *insn = decoder->insn;
    uint32_t word1 = decoder->words[1];
    bool has_sdst = row->dst[1]; /* VOP3B: a second, scalar result stands where others have abs and op_sel */
    decoder->used = 2;
    insn->clamp = (uint8_t)gs_bits(word, 15, 1);
    insn->omod = (uint8_t)gs_bits(word1, 27, 2);
    insn->neg = (uint8_t)gs_bits(word1, 29, 3);
    if (!has_sdst) insn->abs = (uint8_t)gs_bits(word, 8, 3);
    if (row->flags & GS_PERMLANE) insn->op_sel = (uint8_t)gs_bits(word, 11, 2);
    uint8_t op_sel = (uint8_t)gs_bits(word, 11, 4);
    if (row->flags & GS_OPSEL) insn->op_sel = op_sel;
    if (row->flags & (GS_OPSEL | GS_NO_OPSEL)) {
        if (!row->src[2] && !(row->flags & GS_OPSEL4) && (op_sel & 4)) return false;
    }
    if (row->flags & GS_BITOP3) {
        decode_bitop3(insn);
        if (!(row->flags & GS_OPSEL) && op_sel) return false;
    }
    if (!check_signs(insn)) return false;
    if (insn->clamp && !(row->flags & GS_CLAMP)) return false;
    if (insn->omod && !(row->flags & GS_OMOD)) return false;

    int dst = (int)gs_bits(word, 0, 8);
    if (!row->src[0]) return (word & 0x87ff) == 0; /* v_nop */
    if (!gs_decode_vdst(decoder, dst, row->dst[0])) return false;
    if (has_sdst && !gs_decode_sdst(decoder, (int)gs_bits(word, 8, 7), row->dst[1])) return false;
    for (int i = 0; i < 3; i++) {
        int code = (int)gs_bits(word1, 9 * i, 9);
        if (row->src[i] && !gs_decode_source_no_literal(decoder, code, row->src[i])) return false;
    }
    return true;
}
