/* DS, FLAT (flat, global, scratch) and MUBUF. */
#include "decode.h"

enum { SADDR_OFF = 127 };

static bool decode_data(gs_decoder_t *decoder, gs_type_t type, uint32_t reg, bool accumulator) {
    return gs_set_vector(gs_add_src(decoder, type), (int)reg, accumulator);
}

bool gs_decode_ds(gs_decoder_t *decoder, uint32_t word) {
    if (decoder->available < 2 || !gs_decode_row(decoder, GS_DS, (int)gs_bits(word, 17, 8), GS_DS)) return false;
    const gs_row_t *row = decoder->row;
    gs_insn_t *insn = decoder->insn;
    uint32_t word1 = decoder->words[1];
    if (gs_bits(word, 16, 1)) return false;  /* GDS, which these chips do not have */
    bool accumulator = gs_bits(word, 25, 1); /* the data are in AGPRs; the address never is */
    decoder->used = 2;
    if (row->flags & GS_TWO) {
        insn->offset = (int32_t)gs_bits(word, 0, 8);
        insn->offset1 = (int32_t)gs_bits(word, 8, 8);
    } else {
        insn->offset = (int32_t)gs_bits(word, 0, 16);
    }
    uint32_t dst = gs_bits(word1, 24, 8);
    if (row->dst[0] ? !gs_set_vector(gs_add_dst(decoder, row->dst[0]), (int)dst, accumulator) : dst != 0) return false;
    for (int i = 0; i < 3; i++) { /* address, data0, data1 */
        uint32_t reg = gs_bits(word1, 8 * i, 8);
        gs_type_t type = (gs_type_t)row->src[i];
        if (type ? !decode_data(decoder, type, reg, accumulator && i > 0) : reg != 0) return false;
    }
    return true;
}

/* The address: a vector register (64 bits, or 32 beside a scalar base), a scalar base, both or none. */
static bool decode_flat_address(gs_decoder_t *decoder, uint32_t word, gs_operand_t *address, gs_operand_t *base) {
    const gs_insn_t *insn = decoder->insn;
    uint32_t word1 = decoder->words[1];
    int reg = (int)gs_bits(word1, 0, 8), saddr = (int)gs_bits(word1, 16, 7);
    bool scratch_vector = gs_bits(word, 13, 1);
    switch (insn->format) {
    case GS_FLAT: address->bits = 64; return saddr == 0 && !scratch_vector && gs_set_vector(address, reg, false);
    case GS_GLOBAL:
        address->bits = saddr == SADDR_OFF ? 64 : 32;
        base->bits = 64;
        if (scratch_vector || !gs_set_vector(address, reg, false)) return false;
        return saddr == SADDR_OFF || ((saddr != GS_EXEC || insn->lds) && gs_set_scalar(base, saddr));
    default: /* scratch */
        address->bits = base->bits = 32;
        if (scratch_vector && !gs_set_vector(address, reg, false)) return false;
        return saddr == SADDR_OFF || gs_set_scalar(base, saddr);
    }
}

bool gs_decode_flat(gs_decoder_t *decoder, uint32_t word) {
    static const gs_format_t formats[] = {GS_FLAT, GS_SCRATCH, GS_GLOBAL, GS_FORMAT_COUNT};
    gs_format_t format = formats[gs_bits(word, 14, 2)];
    if (decoder->available < 2 || format == GS_FORMAT_COUNT) return false;
    if (!gs_decode_row(decoder, format, (int)gs_bits(word, 18, 7), format)) return false;
    const gs_row_t *row = decoder->row;
    gs_insn_t *insn = decoder->insn;
    uint32_t word1 = decoder->words[1];
    bool accumulator = gs_bits(word1, 23, 1);
    decoder->used = 2;
    insn->sc0 = (uint8_t)gs_bits(word, 16, 1);
    insn->nt = (uint8_t)gs_bits(word, 17, 1);
    insn->sc1 = (uint8_t)gs_bits(word, 25, 1);
    insn->lds = (row->flags & GS_LDS) != 0;
    uint32_t offset = gs_bits(word, 0, 13);
    insn->offset = format == GS_FLAT ? (int32_t)offset : gs_signed(offset, 13);
    if (format == GS_FLAT && offset >> 12) return false;

    bool returns = row->dst[0] && (!(row->flags & GS_ATOMIC) || insn->sc0);
    if (accumulator && insn->lds) return false;
    uint32_t dst = gs_bits(word1, 24, 8), data = gs_bits(word1, 8, 8);
    if (returns && !gs_set_vector(gs_add_dst(decoder, row->dst[0]), (int)dst, accumulator)) return false;
    gs_operand_t *address = gs_add_src(decoder, GS_TYPE_NO);
    gs_operand_t *data_operand = gs_add_src(decoder, row->src[1]);
    gs_operand_t *base = gs_add_src(decoder, GS_TYPE_NO);
    if (row->src[1] && !gs_set_vector(data_operand, (int)data, accumulator)) return false;
    return decode_flat_address(decoder, word, address, base);
}

bool gs_decode_mubuf(gs_decoder_t *decoder, uint32_t word) {
    if (decoder->available < 2 || !gs_decode_row(decoder, GS_MUBUF, (int)gs_bits(word, 18, 7), GS_MUBUF)) return false;
    const gs_row_t *row = decoder->row;
    gs_insn_t *insn = decoder->insn;
    uint32_t word1 = decoder->words[1];
    bool accumulator = gs_bits(word1, 23, 1);
    decoder->used = 2;
    insn->offset = (int32_t)gs_bits(word, 0, 12);
    insn->offen = (uint8_t)gs_bits(word, 12, 1);
    insn->idxen = (uint8_t)gs_bits(word, 13, 1);
    insn->sc0 = (uint8_t)gs_bits(word, 14, 1);
    insn->sc1 = (uint8_t)gs_bits(word, 15, 1);
    insn->lds = (uint8_t)gs_bits(word, 16, 1);
    insn->nt = (uint8_t)gs_bits(word, 17, 1);
    if (insn->lds && (accumulator || !(row->flags & GS_LDS))) return false;
    if (!row->dst[0] && !row->src[0]) { /* cache control */
        bool clean = !accumulator && !insn->lds && !insn->offen && !insn->idxen;
        insn->offset = insn->nt = 0;
        return clean;
    }
    int vdata = (int)gs_bits(word1, 8, 8), vaddr = (int)gs_bits(word1, 0, 8);
    bool returns = row->dst[0] && !insn->lds && (!(row->flags & GS_ATOMIC) || insn->sc0);
    if (returns && !gs_set_vector(gs_add_dst(decoder, row->dst[0]), vdata, accumulator)) return false;
    if (row->src[0] && !decode_data(decoder, row->src[0], (uint32_t)vdata, accumulator)) return false;
    gs_operand_t *address = gs_add_src(decoder, insn->offen && insn->idxen ? GS_TYPE_V64 : GS_TYPE_V32);
    if ((insn->offen || insn->idxen) && !gs_set_vector(address, vaddr, false)) return false;
    if (!gs_set_scalar(gs_add_src(decoder, GS_TYPE_S128), (int)gs_bits(word1, 16, 5) * 4)) return false;
    return gs_decode_source_no_literal(decoder, (int)gs_bits(word1, 24, 8), GS_TYPE_B32);
}
