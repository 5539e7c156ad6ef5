/* VOP3P: packed 16-bit and 32-bit arithmetic, dot products, mixed precision; and the matrix core's instructions. */
#include "decode.h"

enum { OPCODE_LD_SCALE = 0x2c, SCALE_ENABLE = 1 }; /* abid of an MFMA that follows v_mfma_ld_scale_b32 */

/* ---- matrix core ------------------------------------------------------------------------------------------------- */

/* a and b of the f8f6f4 instructions: 8-bit formats (0, 1) fill 8 registers, 6-bit (2, 3) 6 and 4-bit (4) 4. */
static gs_type_t f8f6f4_type(uint32_t format) {
    static const uint8_t types[] = {GS_TYPE_V256, GS_TYPE_V256, GS_TYPE_V192, GS_TYPE_V192, GS_TYPE_V128};
    return format < sizeof types ? (gs_type_t)types[format] : GS_TYPE_NO;
}

static bool decode_matrix_input(gs_decoder_t *decoder, int code, bool accumulator, gs_type_t type) {
    if (code < GS_CODE_VGPR || type == GS_TYPE_NO) return false;
    return gs_set_vector(gs_add_src(decoder, type), code - GS_CODE_VGPR, accumulator);
}

/* Bits of its own: acc_cd puts c and the result in AGPRs, acc does so for a and b. */
static bool decode_mfma(gs_decoder_t *decoder, const uint32_t *words) {
    const gs_row_t *row = decoder->row;
    gs_insn_t *insn = decoder->insn;
    bool acc_cd = gs_bits(words[0], 15, 1);
    uint32_t acc = gs_bits(words[1], 27, 2);
    int c = (int)gs_bits(words[1], 18, 9);
    gs_type_t a_type = (gs_type_t)row->src[0], b_type = (gs_type_t)row->src[1];
    insn->cbsz = (uint8_t)gs_bits(words[0], 8, 3);
    insn->abid = (uint8_t)gs_bits(words[0], 11, 4);
    insn->blgp = (uint8_t)gs_bits(words[1], 29, 3);
    if ((row->flags & GS_SPARSE) && insn->blgp) return false;
    if (row->flags & GS_F8F6F4) {
        if (insn->abid != (row->flags & GS_SCALED ? SCALE_ENABLE : 0)) return false;
        insn->abid = 0;
        a_type = f8f6f4_type(insn->cbsz);
        b_type = f8f6f4_type(insn->blgp);
    }
    if (!gs_set_vector(gs_add_dst(decoder, row->dst[0]), (int)gs_bits(words[0], 0, 8), acc_cd)) return false;
    if (!decode_matrix_input(decoder, (int)gs_bits(words[1], 0, 9), acc & 1, a_type)) return false;
    if (!decode_matrix_input(decoder, (int)gs_bits(words[1], 9, 9), acc & 2, b_type)) return false;
    if (c < GS_CODE_VGPR) return gs_decode_source_no_literal(decoder, c, row->src[2]);
    bool c_accumulator = acc_cd && !(row->flags & GS_SPARSE); /* the index of a sparse one is a VGPR */
    return gs_set_vector(gs_add_src(decoder, row->src[2]), c - GS_CODE_VGPR, c_accumulator);
}

/* v_mfma_ld_scale_b32 and the MFMA behind it are one instruction when the MFMA says that it is scaled. */
static bool is_scaled_mfma(const gs_decoder_t *decoder) {
    const uint32_t *words = decoder->words;
    if (decoder->available < 4 || words[2] >> 23 != 0x1a7 || gs_bits(words[2], 11, 4) != SCALE_ENABLE) return false;
    const gs_row_t *row = gs_row_find(decoder->arch, GS_MFMA, (int)gs_bits(words[2], 16, 7));
    return row && (row->flags & GS_F8F6F4);
}

static bool decode_scaled_mfma(gs_decoder_t *decoder) {
    const uint32_t *words = decoder->words;
    if (!gs_decode_row(decoder, GS_MFMA, (int)gs_bits(words[2], 16, 7), GS_MFMA)) return false;
    gs_insn_t *insn = decoder->insn;
    insn->row = ++decoder->row; /* the scaled variant stands behind the plain one */
    insn->name = insn->row->name;
    decoder->used = 4;
    insn->op_sel = (uint8_t)gs_bits(words[0], 11, 2);
    insn->op_sel_hi = (uint8_t)gs_bits(words[1], 27, 2);
    return decode_mfma(decoder, words + 2) &&
           gs_decode_source_no_literal(decoder, (int)gs_bits(words[1], 0, 9), GS_TYPE_V32) &&
           gs_decode_source_no_literal(decoder, (int)gs_bits(words[1], 9, 9), GS_TYPE_V32);
}

/* ---- packed arithmetic ------------------------------------------------------------------------------------------- */

static bool decode_packed(gs_decoder_t *decoder, uint32_t word, uint32_t word1) {
    const gs_row_t *row = decoder->row;
    gs_insn_t *insn = decoder->insn;
    insn->neg_hi = (uint8_t)gs_bits(word, 8, 3);
    insn->op_sel = (uint8_t)gs_bits(word, 11, 3);
    insn->op_sel_hi = (uint8_t)(gs_bits(word1, 27, 2) | gs_bits(word, 14, 1) << 2);
    insn->clamp = (uint8_t)gs_bits(word, 15, 1);
    insn->neg = (uint8_t)gs_bits(word1, 29, 3);
    if ((row->flags & (GS_PLAIN | GS_NO_OPSEL)) && insn->op_sel) return false;
    if ((row->flags & GS_PLAIN) && (insn->neg_hi | insn->neg)) return false;
    if (!(row->flags & GS_PLAIN) && !row->src[2]) { /* nothing may be said of a source that is not there */
        if ((insn->neg | insn->neg_hi | insn->op_sel) & 4) return false;
    }
    if (row->flags & GS_MIX) {
        insn->abs = insn->neg_hi;
        insn->neg_hi = 0;
    }
    if (!row->dst[0]) { /* v_mfma_ld_scale_b32 */
        insn->neg = insn->neg_hi = 0;
        if (gs_bits(word, 0, 8) || insn->clamp) return false;
    } else if (!gs_decode_vdst(decoder, (int)gs_bits(word, 0, 8), row->dst[0])) {
        return false;
    }
    for (int i = 0; i < 3 && row->src[i]; i++) {
        gs_type_t type = (gs_type_t)row->src[i];
        if ((row->flags & GS_MIX) && !(insn->op_sel_hi >> i & 1)) type = GS_TYPE_F32;
        if (!gs_decode_source_no_literal(decoder, (int)gs_bits(word1, 9 * i, 9), type)) return false;
    }
    return true;
}

bool gs_decode_vop3p(gs_decoder_t *decoder, uint32_t word) {
    if (decoder->available < 2) return false;
    int opcode = (int)gs_bits(word, 16, 7);
    decoder->used = 2;
    if (gs_decode_row(decoder, GS_MFMA, opcode, GS_MFMA)) return decode_mfma(decoder, decoder->words);
    if (!gs_decode_row(decoder, GS_VOP3P, opcode, GS_VOP3P)) return false;
    if (opcode == OPCODE_LD_SCALE && is_scaled_mfma(decoder)) return decode_scaled_mfma(decoder);
    return decode_packed(decoder, word, decoder->words[1]);
}
