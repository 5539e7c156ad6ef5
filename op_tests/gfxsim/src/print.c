/* The text of an instruction, as llvm-objdump writes it. */
#include "print.h"

static void put_name(gs_text_t *text, const gs_insn_t *insn) {
    uint32_t flags = insn->row->flags;
    gs_put(text, "%s", insn->name);
    if (insn->row->format != GS_VOP1 && insn->row->format != GS_VOP2 && insn->row->format != GS_VOPC) return;
    if (!(flags & GS_E64) || (flags & GS_PLAIN)) return;
    gs_put(text, insn->is_sdwa ? "_sdwa" : insn->is_dpp ? "_dpp" : insn->format == GS_VOP3 ? "_e64" : "_e32");
}

/* A blank before the first operand, a comma before the others. */
static void put_separator(gs_text_t *text, bool *first) {
    gs_put(text, *first ? " " : ", ");
    *first = false;
}

static void put_next(gs_text_t *text, const gs_operand_t *operand, bool *first) {
    put_separator(text, first);
    gs_put_operand(text, operand);
}

static void put_source_with_sign(gs_text_t *text, const gs_insn_t *insn, int index) {
    const gs_operand_t *operand = &insn->src[index];
    bool neg = insn->neg >> index & 1, abs = insn->abs >> index & 1;
    if (insn->is_sdwa && (insn->sdwa_sext >> index & 1)) {
        gs_put(text, "sext(");
        gs_put_operand(text, operand);
        gs_put(text, ")");
        return;
    }
    bool word = neg && !abs && operand->kind == GS_CONST; /* -1 is a constant of its own, not the negation of 1 */
    if (neg) gs_put(text, word ? "neg(" : "-");
    if (abs) gs_put(text, "|");
    gs_put_operand(text, operand);
    if (abs) gs_put(text, "|");
    if (word) gs_put(text, ")");
}

static void put_vector_alu(gs_text_t *text, const gs_insn_t *insn) {
    bool first = true;
    bool signs = insn->format != GS_MFMA && (insn->format != GS_VOP3P || (insn->row->flags & GS_MIX));
    for (int i = 0; i < insn->dst_count; i++) put_next(text, &insn->dst[i], &first);
    for (int i = 0; i < insn->src_count; i++) {
        put_separator(text, &first);
        if (signs) {
            put_source_with_sign(text, insn, i);
        } else {
            gs_put_operand(text, &insn->src[i]);
        }
    }
    gs_put_modifiers(text, insn);
}

static void put_scalar_alu(gs_text_t *text, const gs_insn_t *insn) {
    bool first = true;
    bool immediate = insn->row->immediate != GS_IMM_NONE;
    if (insn->row->immediate == GS_IMM_OPTIONAL && insn->imm == 0) immediate = false;
    bool immediate_first = insn->row->immediate == GS_IMM_HWREG && insn->src_count; /* s_setreg */
    if (immediate && immediate_first) {
        put_separator(text, &first);
        gs_put_immediate(text, insn);
        immediate = false;
    }
    for (int i = 0; i < insn->dst_count; i++) put_next(text, &insn->dst[i], &first);
    for (int i = 0; i < insn->src_count; i++) put_next(text, &insn->src[i], &first);
    if (immediate) {
        put_separator(text, &first);
        gs_put_immediate(text, insn);
    }
}

static void put_signed_hex(gs_text_t *text, int value) {
    gs_put(text, value < 0 ? "-0x%x" : "0x%x", (unsigned)(value < 0 ? -value : value));
}

static void put_smem(gs_text_t *text, const gs_insn_t *insn) {
    bool first = true;
    if (insn->src_count > 2) { /* data of a store or an atomic */
        put_next(text, &insn->src[2], &first);
    } else if (insn->dst_count) {
        put_next(text, &insn->dst[0], &first);
    }
    if (insn->src_count) {
        put_next(text, &insn->src[0], &first);
        if (insn->src[1].kind != GS_NONE) {
            put_next(text, &insn->src[1], &first);
            if (insn->offen) {
                gs_put(text, " offset:");
                put_signed_hex(text, insn->offset);
            }
        } else {
            put_separator(text, &first);
            put_signed_hex(text, insn->offset);
        }
    }
    if (insn->sc0) gs_put(text, " glc");
}

static void put_ds(gs_text_t *text, const gs_insn_t *insn) {
    bool first = true;
    for (int i = 0; i < insn->dst_count; i++) put_next(text, &insn->dst[i], &first);
    for (int i = 0; i < insn->src_count; i++) put_next(text, &insn->src[i], &first);
    if (insn->row->flags & GS_SWIZZLE) {
        gs_put_swizzle(text, (unsigned)insn->offset);
    } else if (insn->row->flags & GS_TWO) {
        if (insn->offset) gs_put(text, " offset0:%d", insn->offset);
        if (insn->offset1) gs_put(text, " offset1:%d", insn->offset1);
    } else if (insn->offset) {
        gs_put(text, " offset:%d", insn->offset);
    }
}

static void put_cache_policy(gs_text_t *text, const gs_insn_t *insn) {
    if (insn->sc0) gs_put(text, " sc0");
    if (insn->nt) gs_put(text, " nt");
    if (insn->sc1) gs_put(text, " sc1");
}

static void put_flat(gs_text_t *text, const gs_insn_t *insn) {
    bool first = true;
    for (int i = 0; i < insn->dst_count; i++) put_next(text, &insn->dst[i], &first);
    put_next(text, &insn->src[0], &first);
    if (insn->src[1].kind != GS_NONE) put_next(text, &insn->src[1], &first);
    if (insn->format != GS_FLAT) put_next(text, &insn->src[2], &first);
    if (insn->offset) gs_put(text, " offset:%d", insn->offset);
    put_cache_policy(text, insn);
}

static void put_mubuf(gs_text_t *text, const gs_insn_t *insn) {
    bool first = true;
    bool data_in_src = insn->row->src[0];
    if (insn->dst_count && !data_in_src) put_next(text, &insn->dst[0], &first);
    for (int i = 0; i < insn->src_count; i++) put_next(text, &insn->src[i], &first);
    if (insn->idxen) gs_put(text, " idxen");
    if (insn->offen) gs_put(text, " offen");
    if (insn->offset) gs_put(text, " offset:%d", insn->offset);
    put_cache_policy(text, insn);
    if (insn->lds) gs_put(text, " lds");
}

int gs_print(gs_arch_t arch, const gs_insn_t *insn, uint64_t pc, char *text, int size) {
    (void)arch;
    (void)pc; /* LLVM writes branch targets as simm16, so the address does not matter */
    gs_text_t out = {.text = text, .size = size};
    if (!insn->row) {
        gs_put(&out, "(unknown instruction)");
        return out.length;
    }
    put_name(&out, insn);
    switch (insn->format) {
    case GS_SOP1:
    case GS_SOP2:
    case GS_SOPK:
    case GS_SOPC:
    case GS_SOPP: put_scalar_alu(&out, insn); break;
    case GS_SMEM: put_smem(&out, insn); break;
    case GS_DS: put_ds(&out, insn); break;
    case GS_FLAT:
    case GS_GLOBAL:
    case GS_SCRATCH: put_flat(&out, insn); break;
    case GS_MUBUF: put_mubuf(&out, insn); break;
    default: put_vector_alu(&out, insn);
    }
    return out.length;
}
