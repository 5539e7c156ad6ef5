/* What the formats share: the row of an opcode; operands, which are registers, inline constants and literals. */
#include "decode.h"

bool gs_decode_row(gs_decoder_t *decoder, gs_format_t table, int opcode, gs_format_t format) {
    decoder->row = gs_row_find(decoder->arch, table, opcode);
    if (!decoder->row) return false;
    decoder->insn->row = decoder->row;
    decoder->insn->name = decoder->row->name;
    decoder->insn->format = (uint8_t)format;
    return true;
}

/* Codes of scalar sources. */
enum {
    SGPR_COUNT = 102,
    CODE_TTMP = 108,
    TTMP_COUNT = 16,
    CODE_INTEGER = 128, /* 128 + n is n for 0..64, 192 + n is -n for 1..16 */
    CODE_INTEGER_NEGATIVE = 192,
    CODE_INTEGER_LAST = 208,
    CODE_FLOAT = 240,
    CODE_FLOAT_LAST = 248
};

static uint64_t integer_constant(gs_constant_t kind, int64_t value) {
    switch (kind) {
    case GS_CONSTANT_I16:
    case GS_CONSTANT_F16:
    case GS_CONSTANT_BF16: return (uint16_t)value;
    case GS_CONSTANT_64:
    case GS_CONSTANT_I64:
    case GS_CONSTANT_F64: return (uint64_t)value;
    default: return (uint32_t)value;
    }
}

static void set_type(gs_operand_t *operand, gs_type_t type) {
    operand->type = (uint8_t)type;
    operand->bits = gs_type_info[type].bits;
}

gs_operand_t *gs_add_dst(gs_decoder_t *decoder, gs_type_t type) {
    gs_operand_t *operand = &decoder->insn->dst[decoder->insn->dst_count++];
    set_type(operand, type);
    return operand;
}

gs_operand_t *gs_add_src(gs_decoder_t *decoder, gs_type_t type) {
    gs_operand_t *operand = &decoder->insn->src[decoder->insn->src_count++];
    set_type(operand, type);
    return operand;
}

bool gs_take_literal(gs_decoder_t *decoder, uint32_t *out_value) {
    if (decoder->used >= decoder->available) return false;
    *out_value = decoder->words[decoder->used];
    return true;
}

bool gs_set_vector(gs_operand_t *operand, int reg, bool accumulator) {
    int count = (operand->bits + 31) / 32;
    if (reg + count > 256 || (count > 1 && reg % 2)) return false; /* tuples begin at an even register */
    operand->kind = GS_VREG;
    operand->reg = (uint16_t)(reg + (accumulator ? GS_FIRST_AGPR : 0));
    return true;
}

bool gs_set_scalar(gs_operand_t *operand, int code) {
    int count = (operand->bits + 31) / 32;
    int alignment = count > 2 ? 4 : count;
    if (code < SGPR_COUNT) {
        if (code % alignment || code + count > SGPR_COUNT) return false;
    } else if (code >= CODE_TTMP && code < CODE_TTMP + TTMP_COUNT) {
        if ((code - CODE_TTMP) % alignment || code + count > CODE_TTMP + TTMP_COUNT) return false;
    } else if (code < CODE_TTMP || code == GS_EXEC || code == GS_EXEC + 1) { /* flat_scratch, xnack_mask, vcc, exec */
        if (count > 2 || code % count) return false;
    } else if (code == GS_M0) {
        if (count > 1) return false;
    } else {
        bool aperture = code >= GS_SHARED_BASE && code <= 239;
        bool flag = code >= GS_VCCZ && code <= GS_SCC;
        if (count > 2 || !(aperture || flag)) return false;
    }
    operand->kind = GS_SREG;
    operand->reg = (uint16_t)code;
    return true;
}

void gs_set_vcc(gs_operand_t *operand) {
    operand->kind = GS_SREG;
    operand->reg = GS_VCC;
}

void gs_set_literal(gs_operand_t *operand, uint32_t value) {
    gs_constant_t kind = gs_type_info[operand->type].constants;
    operand->kind = GS_CONST;
    operand->literal = 1;
    operand->value = value;
    if (kind == GS_CONSTANT_F64) operand->value = (uint64_t)value << 32;
    if (kind == GS_CONSTANT_I64) operand->value = (uint64_t)(int32_t)value;
    if (operand->bits == 16) operand->value = (uint16_t)value;
}

/* Inline constants. */
static bool set_constant(gs_operand_t *operand, int code) {
    gs_constant_t kind = gs_type_info[operand->type].constants;
    if (kind == GS_CONSTANT_NONE) return false;
    if (code >= CODE_INTEGER && code <= CODE_INTEGER_LAST) {
        int value = code <= CODE_INTEGER_NEGATIVE ? code - CODE_INTEGER : CODE_INTEGER_NEGATIVE - code;
        operand->value = integer_constant(kind, value);
    } else if (code >= CODE_FLOAT && code <= CODE_FLOAT_LAST) {
        operand->value = gs_float_constant(kind, code - CODE_FLOAT);
    } else {
        return false;
    }
    operand->kind = GS_CONST;
    return true;
}

bool gs_decode_sdst(gs_decoder_t *decoder, int code, gs_type_t type) {
    return code < 128 && gs_set_scalar(gs_add_dst(decoder, type), code);
}

bool gs_decode_ssrc(gs_decoder_t *decoder, int code, gs_type_t type) {
    gs_operand_t *operand = gs_add_src(decoder, type);
    if (code == GS_CODE_LITERAL && gs_type_info[type].constants) {
        uint32_t value;
        if (!gs_take_literal(decoder, &value)) return false;
        gs_set_literal(operand, value);
        decoder->used++;
        return true;
    }
    return set_constant(operand, code) || gs_set_scalar(operand, code);
}

bool gs_decode_vdst(gs_decoder_t *decoder, int code, gs_type_t type) {
    gs_operand_t *operand = gs_add_dst(decoder, type);
    gs_place_t place = gs_type_info[type].place;
    if (place == GS_PLACE_SGPR) return code < 128 && code != GS_M0 && gs_set_scalar(operand, code);
    return gs_set_vector(operand, code, place == GS_PLACE_AGPR);
}

bool gs_decode_source_no_literal(gs_decoder_t *decoder, int code, gs_type_t type) {
    gs_operand_t *operand = gs_add_src(decoder, type);
    gs_place_t place = gs_type_info[type].place;
    if (code >= GS_CODE_VGPR) {
        if (place == GS_PLACE_SCALAR || place == GS_PLACE_SGPR) return false;
        return gs_set_vector(operand, code - GS_CODE_VGPR, place == GS_PLACE_AGPR);
    }
    if (place == GS_PLACE_VGPR || place == GS_PLACE_AGPR) return set_constant(operand, code);
    return set_constant(operand, code) || gs_set_scalar(operand, code);
}

bool gs_decode_source(gs_decoder_t *decoder, int code, gs_type_t type) {
    gs_place_t place = gs_type_info[type].place;
    if (code == GS_CODE_LITERAL && (place == GS_PLACE_ANY || place == GS_PLACE_SCALAR)) {
        return gs_decode_ssrc(decoder, code, type);
    }
    return gs_decode_source_no_literal(decoder, code, type);
}
