/* Operands in LLVM's text, and how anything is added to it. */
#include "print.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>

void gs_put(gs_text_t *text, const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    int room = text->length < text->size ? text->size - text->length : 0;
    text->length += vsnprintf(room ? text->text + text->length : NULL, (size_t)room, format, arguments);
    va_end(arguments);
}

static const char *special_name(int reg, bool pair) {
    switch (reg) {
    case GS_FLAT_SCRATCH: return pair ? "flat_scratch" : "flat_scratch_lo";
    case GS_FLAT_SCRATCH + 1: return "flat_scratch_hi";
    case GS_XNACK_MASK: return pair ? "xnack_mask" : "xnack_mask_lo";
    case GS_XNACK_MASK + 1: return "xnack_mask_hi";
    case GS_VCC: return pair ? "vcc" : "vcc_lo";
    case GS_VCC + 1: return "vcc_hi";
    case GS_M0: return "m0";
    case GS_EXEC: return pair ? "exec" : "exec_lo";
    case GS_EXEC + 1: return "exec_hi";
    case GS_SHARED_BASE: return "src_shared_base";
    case GS_SHARED_BASE + 1: return "src_shared_limit";
    case GS_PRIVATE_BASE: return "src_private_base";
    case GS_PRIVATE_BASE + 1: return "src_private_limit";
    case GS_PRIVATE_BASE + 2: return "src_pops_exiting_wave_id";
    case GS_VCCZ: return "src_vccz";
    case GS_EXECZ: return "src_execz";
    case GS_SCC: return "src_scc";
    default: return NULL;
    }
}

static void put_registers(gs_text_t *text, const char *prefix, int first, int bits) {
    if (bits <= 32) {
        gs_put(text, "%s%d", prefix, first);
    } else {
        gs_put(text, "%s[%d:%d]", prefix, first, first + bits / 32 - 1);
    }
}

/* The name of a float that the hardware has as an inline constant, or NULL. */
static const char *float_name(gs_constant_t kind, uint64_t value) {
    static const char *const names[] = {"0.5", "-0.5", "1.0", "-1.0", "2.0", "-2.0", "4.0", "-4.0", "0.15915494"};
    if (kind == GS_CONSTANT_I16) return NULL; /* LLVM prints these as integers */
    for (int i = 0; i < GS_FLOAT_CONSTANTS; i++) {
        if (value != gs_float_constant(kind, i)) continue;
        bool last_f64 = i == GS_FLOAT_CONSTANTS - 1 && gs_float_constant(kind, i) > UINT32_MAX;
        return last_f64 ? "0.15915494309189532" : names[i];
    }
    return NULL;
}

static void put_constant(gs_text_t *text, const gs_operand_t *operand) {
    gs_constant_t kind = gs_type_info[operand->type].constants;
    uint64_t value = kind == GS_CONSTANT_I64 && operand->literal ? (uint32_t)operand->value : operand->value;
    bool high_half = kind == GS_CONSTANT_F64 && operand->literal;
    int64_t integer = (int64_t)value;
    if (operand->bits == 16 && !(operand->literal && kind == GS_CONSTANT_I16)) integer = (int16_t)value;
    if (operand->bits == 32 || kind == GS_CONSTANT_32 || kind == GS_CONSTANT_PK_F32) integer = (int32_t)value;
    bool small = integer >= -16 && integer <= 64 && !high_half;
    const char *name = float_name(kind, value);
    if (operand->literal == 2) {
        gs_put(text, "0x%" PRIx64, value);
    } else if (operand->literal && !high_half && (small || name)) { /* a literal that need not be one */
        gs_put(text, "lit(0x%" PRIx64 ")", value);
    } else if (small) {
        gs_put(text, "%d", (int)integer);
    } else if (name) {
        gs_put(text, "%s", name);
    } else {
        gs_put(text, "0x%" PRIx64, high_half ? value >> 32 : value);
    }
}

void gs_put_operand(gs_text_t *text, const gs_operand_t *operand) {
    int reg = operand->reg, bits = operand->bits;
    switch (operand->kind) {
    case GS_NONE: gs_put(text, "off"); break;
    case GS_CONST: put_constant(text, operand); break;
    case GS_VREG: put_registers(text, reg < GS_FIRST_AGPR ? "v" : "a", reg % GS_FIRST_AGPR, bits); break;
    default: {
        const char *name = special_name(reg, bits > 32);
        if (name) {
            gs_put(text, "%s", name);
        } else if (reg >= 108) {
            put_registers(text, "ttmp", reg - 108, bits);
        } else {
            put_registers(text, "s", reg, bits);
        }
    }
    }
}
