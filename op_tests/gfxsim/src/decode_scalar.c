/* SOP1, SOP2, SOPC, SOPK, SOPP and SMEM. */
#include "decode.h"

static bool decode_sop1(gs_decoder_t *decoder, uint32_t word) {
    if (!gs_decode_row(decoder, GS_SOP1, (int)gs_bits(word, 8, 8), GS_SOP1)) return false;
    const gs_row_t *row = decoder->row;
    uint32_t dst = gs_bits(word, 16, 7), src = gs_bits(word, 0, 8);
    if (row->dst[0] && !gs_decode_sdst(decoder, (int)dst, row->dst[0])) return false;
    return !row->src[0] || gs_decode_ssrc(decoder, (int)src, row->src[0]);
}

static bool decode_sop2(gs_decoder_t *decoder, uint32_t word) {
    if (!gs_decode_row(decoder, GS_SOP2, (int)gs_bits(word, 23, 7), GS_SOP2)) return false;
    const gs_row_t *row = decoder->row;
    uint32_t dst = gs_bits(word, 16, 7), src0 = gs_bits(word, 0, 8), src1 = gs_bits(word, 8, 8);
    if (src0 == GS_CODE_LITERAL && src1 == GS_CODE_LITERAL) return false; /* there is room for one */
    if (row->dst[0] && !gs_decode_sdst(decoder, (int)dst, row->dst[0])) return false;
    return gs_decode_ssrc(decoder, (int)src0, row->src[0]) && gs_decode_ssrc(decoder, (int)src1, row->src[1]);
}

static bool decode_sopc(gs_decoder_t *decoder, uint32_t word) {
    if (!gs_decode_row(decoder, GS_SOPC, (int)gs_bits(word, 16, 7), GS_SOPC)) return false;
    const gs_row_t *row = decoder->row;
    uint32_t src0 = gs_bits(word, 0, 8), src1 = gs_bits(word, 8, 8);
    if (src0 == GS_CODE_LITERAL && src1 == GS_CODE_LITERAL) return false;
    if (!gs_decode_ssrc(decoder, (int)src0, row->src[0])) return false;
    if (row->immediate != GS_IMM_NONE) {
        decoder->insn->imm = (int32_t)src1;
        return true;
    }
    return gs_decode_ssrc(decoder, (int)src1, row->src[1]);
}

static bool decode_sopk(gs_decoder_t *decoder, uint32_t word) {
    if (!gs_decode_row(decoder, GS_SOPK, (int)gs_bits(word, 23, 5), GS_SOPK)) return false;
    const gs_row_t *row = decoder->row;
    int reg = (int)gs_bits(word, 16, 7);
    decoder->insn->imm = gs_signed(gs_bits(word, 0, 16), 16);
    if (row->flags & GS_LITERAL) {
        uint32_t value;
        if (!gs_take_literal(decoder, &value)) return false;
        gs_operand_t *operand = gs_add_src(decoder, row->src[0]);
        gs_set_literal(operand, value);
        operand->literal = 0; /* LLVM prints it like an inline constant */
        decoder->used++;
        return true;
    }
    if (row->dst[0]) return gs_decode_sdst(decoder, reg, row->dst[0]);
    return gs_set_scalar(gs_add_src(decoder, row->src[0]), reg);
}

static bool decode_sopp(gs_decoder_t *decoder, uint32_t word) {
    if (!gs_decode_row(decoder, GS_SOPP, (int)gs_bits(word, 16, 7), GS_SOPP)) return false;
    uint32_t immediate = gs_bits(word, 0, 16);
    decoder->insn->imm = gs_signed(immediate, 16);
    return decoder->row->immediate != GS_IMM_NONE || immediate == 0;
}

bool gs_decode_scalar_alu(gs_decoder_t *decoder, uint32_t word) {
    if (word >> 23 == 0x17d) return decode_sop1(decoder, word);
    if (word >> 23 == 0x17e) return decode_sopc(decoder, word);
    if (word >> 23 == 0x17f) return decode_sopp(decoder, word);
    if (word >> 28 == 0xb) return decode_sopk(decoder, word);
    return decode_sop2(decoder, word);
}

/* The offset: an immediate, a register or both. */
static bool decode_smem_offset(gs_decoder_t *decoder, uint32_t word, uint32_t word1) {
    gs_insn_t *insn = decoder->insn;
    gs_operand_t *soffset = gs_add_src(decoder, GS_TYPE_B32);
    bool has_register = gs_bits(word, 14, 1);
    insn->offen = (uint8_t)gs_bits(word, 17, 1);
    if (insn->offen) insn->offset = gs_signed(gs_bits(word1, 0, 21), 21);
    if (has_register) return gs_set_scalar(soffset, (int)gs_bits(word1, 25, 7));
    /* The encoding of older chips, which has the register in the offset's place. */
    return insn->offen || gs_set_scalar(soffset, (int)gs_bits(word1, 0, 7));
}

bool gs_decode_smem(gs_decoder_t *decoder, uint32_t word) {
    if (decoder->available < 2) return false;
    if (!gs_decode_row(decoder, GS_SMEM, (int)gs_bits(word, 18, 8), GS_SMEM)) return false;
    const gs_row_t *row = decoder->row;
    gs_insn_t *insn = decoder->insn;
    int data = (int)gs_bits(word, 6, 7);
    decoder->used = 2;
    if (!row->src[0]) { /* cache control, clocks: no address */
        if (gs_bits(word, 17, 1) || (row->dst[0] && data >= GS_M0)) return false;
        return !row->dst[0] || gs_decode_sdst(decoder, data, row->dst[0]);
    }
    insn->sc0 = (uint8_t)gs_bits(word, 16, 1);
    bool returns = row->dst[0] && (!(row->flags & GS_ATOMIC) || insn->sc0);
    if (data >= GS_M0) return false; /* neither m0 nor exec */
    if (returns && !gs_decode_sdst(decoder, data, row->dst[0])) return false;
    if (!gs_set_scalar(gs_add_src(decoder, row->src[0]), (int)gs_bits(word, 0, 6) * 2)) return false;
    if (!decode_smem_offset(decoder, word, decoder->words[1])) return false;
    return !row->src[2] || gs_set_scalar(gs_add_src(decoder, row->src[2]), data);
}
