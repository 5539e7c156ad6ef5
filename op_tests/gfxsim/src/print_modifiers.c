/* Modifiers behind the operands of the vector formats, and the swizzle patterns of ds_swizzle_b32. */
#include "print.h"

static void put_list(gs_text_t *text, const char *name, unsigned bits, int count) {
    gs_put(text, " %s:[", name);
    for (int i = 0; i < count; i++) gs_put(text, i ? ",%u" : "%u", bits >> i & 1);
    gs_put(text, "]");
}

static void put_clamp_and_omod(gs_text_t *text, const gs_insn_t *insn) {
    static const char *const omods[] = {"", " mul:2", " mul:4", " div:2"};
    if (insn->clamp) gs_put(text, " clamp");
    gs_put(text, "%s", omods[insn->omod & 3]);
}

static void put_dpp(gs_text_t *text, const gs_insn_t *insn) {
    static const char *const shifts[] = {"shl", "shr", "ror"};
    static const char *const waves[] = {"wave_shl:1", "wave_rol:1", "wave_shr:1", "wave_ror:1"};
    static const char *const others[] = {"row_mirror", "row_half_mirror", "row_bcast:15", "row_bcast:31"};
    unsigned ctrl = insn->dpp_ctrl, low = ctrl & 15;
    if (ctrl < 0x100) {
        gs_put(text, " quad_perm:[%u,%u,%u,%u]", ctrl & 3, ctrl >> 2 & 3, ctrl >> 4 & 3, ctrl >> 6 & 3);
    } else if (ctrl < 0x130) {
        gs_put(text, " row_%s:%u", shifts[ctrl >> 4 & 3], low);
    } else if (ctrl < 0x140) {
        gs_put(text, " %s", waves[low / 4]);
    } else if (ctrl < 0x150) {
        gs_put(text, " %s", others[low & 3]);
    } else {
        gs_put(text, " row_newbcast:%u", low);
    }
    gs_put(text, " row_mask:0x%x bank_mask:0x%x", insn->dpp_row_mask, insn->dpp_bank_mask);
    if (insn->dpp_bound_ctrl) gs_put(text, " bound_ctrl:1");
}

static void put_sdwa(gs_text_t *text, const gs_insn_t *insn) {
    static const char *const selections[] = {"BYTE_0", "BYTE_1", "BYTE_2", "BYTE_3", "WORD_0", "WORD_1", "DWORD"};
    static const char *const unused[] = {"UNUSED_PAD", "UNUSED_SEXT", "UNUSED_PRESERVE"};
    put_clamp_and_omod(text, insn);
    if (insn->format != GS_VOPC && !(insn->row->flags & GS_SDWA_NO_DST)) {
        gs_put(text, " dst_sel:%s dst_unused:%s", selections[insn->sdwa_dst_sel], unused[insn->sdwa_dst_unused]);
    }
    gs_put(text, " src0_sel:%s", selections[insn->sdwa_sel[0]]);
    if (insn->row->src[1]) gs_put(text, " src1_sel:%s", selections[insn->sdwa_sel[1]]);
}

static void put_vop3(gs_text_t *text, const gs_insn_t *insn) {
    if (insn->bitop3) gs_put(text, insn->bitop3 < 10 ? " bitop3:%u" : " bitop3:0x%x", insn->bitop3);
    if (insn->row->flags & GS_PERMLANE) {
        if (insn->op_sel & 2) gs_put(text, " bound_ctrl:1");
        if (insn->op_sel & 1) gs_put(text, " fi:1");
    } else if (insn->op_sel) { /* the destination's bit stands behind those of the sources */
        int count = insn->row->flags & GS_OPSEL4 ? 3 : insn->src_count;
        put_list(text, "op_sel", (insn->op_sel & 7) | (unsigned)(insn->op_sel >> 3) << count, count + 1);
    }
    put_clamp_and_omod(text, insn);
}

static void put_vop3p(gs_text_t *text, const gs_insn_t *insn) {
    int count = insn->src_count;
    unsigned all = (1u << count) - 1, flags = insn->row->flags;
    if (flags & GS_PLAIN) return;
    if (!(flags & GS_NO_OPSEL)) {
        unsigned default_hi = flags & GS_MIX ? 0 : all;
        if (insn->op_sel & all) put_list(text, "op_sel", insn->op_sel, count);
        if ((insn->op_sel_hi & all) != default_hi) put_list(text, "op_sel_hi", insn->op_sel_hi, count);
    }
    if (!(flags & GS_MIX)) {
        if (insn->neg & all) put_list(text, "neg_lo", insn->neg, count);
        if (insn->neg_hi & all) put_list(text, "neg_hi", insn->neg_hi, count);
    }
    if (insn->clamp) gs_put(text, " clamp");
}

static void put_mfma(gs_text_t *text, const gs_insn_t *insn) {
    if (insn->row->flags & GS_SCALED) { /* lists of three although only a and b have scales */
        if (insn->op_sel) put_list(text, "op_sel", insn->op_sel, 3);
        if (insn->op_sel_hi != 7) put_list(text, "op_sel_hi", insn->op_sel_hi, 3);
    }
    if (insn->cbsz) gs_put(text, " cbsz:%u", insn->cbsz);
    if (insn->abid) gs_put(text, " abid:%u", insn->abid);
    if (!insn->blgp) return;
    if (insn->src[0].bits == 64 && gs_type_info[insn->row->dst[0]].constants == GS_CONSTANT_F64) {
        put_list(text, "neg", insn->blgp, 3);
    } else {
        gs_put(text, " blgp:%u", insn->blgp);
    }
}

void gs_put_modifiers(gs_text_t *text, const gs_insn_t *insn) {
    if (insn->is_dpp) {
        put_dpp(text, insn);
    } else if (insn->is_sdwa) {
        put_sdwa(text, insn);
    } else if (insn->format == GS_VOP3) {
        put_vop3(text, insn);
    } else if (insn->format == GS_VOP3P) {
        put_vop3p(text, insn);
    } else if (insn->format == GS_MFMA) {
        put_mfma(text, insn);
    }
}

/* ---- ds_swizzle_b32 ---------------------------------------------------------------------------------------------- */

/* Each lane reads from ((lane & and) | or) ^ xor within its 32: one character per bit, from the highest. */
static void put_bitmask(gs_text_t *text, unsigned and_mask, unsigned or_mask, unsigned xor_mask) {
    gs_put(text, "BITMASK_PERM,\"");
    for (int bit = 4; bit >= 0; bit--) {
        unsigned keep = and_mask >> bit & 1, set = or_mask >> bit & 1, flip = xor_mask >> bit & 1;
        if (set) {
            gs_put(text, flip ? "0" : "1");
        } else if (keep) {
            gs_put(text, flip ? "i" : "p");
        } else {
            gs_put(text, flip ? "1" : "0");
        }
    }
    gs_put(text, "\"");
}

static bool is_power_of_two(unsigned value) { return value && !(value & (value - 1)); }

void gs_put_swizzle(gs_text_t *text, unsigned offset) {
    if (!offset) return;
    gs_put(text, " offset:");
    unsigned and_mask = offset & 31, or_mask = offset >> 5 & 31, xor_mask = offset >> 10 & 31;
    if (offset >= 0xe000) {
        gs_put(text, "swizzle(FFT,%u)", and_mask);
    } else if (offset >= 0xc000) {
        gs_put(text, "swizzle(ROTATE,%u,%u)", offset >> 10 & 1, or_mask);
    } else if ((offset & 0xff00) == 0x8000) {
        gs_put(text, "swizzle(QUAD_PERM,%u,%u,%u,%u)", offset & 3, offset >> 2 & 3, offset >> 4 & 3, offset >> 6 & 3);
    } else if (offset & 0x8000) {
        gs_put(text, "%u", offset);
    } else if (and_mask == 31 && or_mask == 0 && is_power_of_two(xor_mask)) {
        gs_put(text, "swizzle(SWAP,%u)", xor_mask);
    } else if (and_mask == 31 && or_mask == 0 && xor_mask && is_power_of_two(xor_mask + 1)) {
        gs_put(text, "swizzle(REVERSE,%u)", xor_mask + 1);
    } else {
        unsigned group = 32 - and_mask;
        gs_put(text, "swizzle(");
        if (group > 1 && is_power_of_two(group) && or_mask < group && xor_mask == 0) {
            gs_put(text, "BROADCAST,%u,%u", group, or_mask);
        } else {
            put_bitmask(text, and_mask, or_mask, xor_mask);
        }
        gs_put(text, ")");
    }
}
