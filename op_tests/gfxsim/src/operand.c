#include "operand.h"

#include "float_formats.h"

/* ---- scalar ----------------------------------------------------------------------------------------------------- */

enum { SHARED_APERTURE = 0x10000, PRIVATE_APERTURE = 0x20000 }; /* high halves that no host address has */

static uint64_t special_scalar(const gs_wave_t *wave, int reg) {
    switch (reg) {
    case GS_SHARED_BASE: return (uint64_t)SHARED_APERTURE << 32;
    case GS_SHARED_BASE + 1: return ((uint64_t)SHARED_APERTURE << 32) + 0xffffffff;
    case GS_PRIVATE_BASE: return (uint64_t)PRIVATE_APERTURE << 32;
    case GS_PRIVATE_BASE + 1: return ((uint64_t)PRIVATE_APERTURE << 32) + 0xffffffff;
    case GS_VCCZ: return gs_pair(wave->s, GS_VCC) == 0;
    case GS_EXECZ: return gs_exec(wave) == 0;
    case GS_SCC: return wave->scc;
    default: return 0;
    }
}

uint32_t gs_read_scalar32(gs_wave_t *wave, const gs_operand_t *operand) {
    if (operand->kind == GS_CONST) return (uint32_t)operand->value;
    if (operand->kind != GS_SREG) gs_report(wave, GS_REPORT_UNSUPPORTED, "a scalar operand was expected");
    if (operand->reg < GS_SREGS) return wave->s[operand->reg];
    uint64_t value = special_scalar(wave, operand->reg);
    bool aperture = operand->reg >= GS_SHARED_BASE && operand->reg <= GS_PRIVATE_BASE + 1;
    return (uint32_t)(aperture ? value >> 32 : value);
}

uint64_t gs_read_scalar64(gs_wave_t *wave, const gs_operand_t *operand) {
    if (operand->kind == GS_CONST) return operand->value;
    if (operand->kind != GS_SREG) gs_report(wave, GS_REPORT_UNSUPPORTED, "a scalar operand was expected");
    return operand->reg < GS_SREGS - 1 ? gs_pair(wave->s, operand->reg) : special_scalar(wave, operand->reg);
}

void gs_write_scalar32(gs_wave_t *wave, const gs_operand_t *operand, uint32_t value) {
    wave->s[operand->reg & (GS_SREGS - 1)] = value;
}

void gs_write_scalar64(gs_wave_t *wave, const gs_operand_t *operand, uint64_t value) {
    gs_set_pair(wave->s, operand->reg & (GS_SREGS - 2), value);
}

/* ---- vector sources --------------------------------------------------------------------------------------------- */

int gs_dpp_source(gs_wave_t *wave, const gs_insn_t *insn, int lane) {
    enum {
        ROW_SHL = 0x100,
        ROW_SHR = 0x110,
        ROW_ROR = 0x120,
        WAVE_SHL = 0x130,
        WAVE_ROL = 0x134,
        WAVE_SHR = 0x138,
        WAVE_ROR = 0x13c,
        ROW_MIRROR = 0x140,
        ROW_HALF_MIRROR = 0x141,
        ROW_BCAST15 = 0x142,
        ROW_BCAST31 = 0x143,
        ROW_NEWBCAST = 0x150
    };
    int control = insn->dpp_ctrl, amount = control & 15, in_row = lane & 15, row = lane & ~15;
    switch (control) {
    case WAVE_SHL: return lane + 1 < GS_LANES ? lane + 1 : -1;
    case WAVE_ROL: return (lane + 1) & 63;
    case WAVE_SHR: return lane - 1;
    case WAVE_ROR: return (lane - 1) & 63;
    case ROW_MIRROR: return row + 15 - in_row;
    case ROW_HALF_MIRROR: return (lane & ~7) + 7 - (lane & 7);
    case ROW_BCAST15: return row - 1;
    case ROW_BCAST31: return lane >= 32 ? 31 : -1;
    default: break;
    }
    if (control < ROW_SHL) /* quad_perm */
        return (lane & ~3) + (control >> 2 * (lane & 3) & 3);
    switch (control & ~15) {
    case ROW_SHL: return in_row + amount < 16 ? lane + amount : -1;
    case ROW_SHR: return in_row >= amount ? lane - amount : -1;
    case ROW_ROR: return row + ((in_row - amount) & 15);
    case ROW_NEWBCAST: return row + amount;
    default: gs_report(wave, GS_REPORT_UNSUPPORTED, "DPP control 0x%x", control);
    }
}

/* Moves the lanes of source 0 and takes the lanes that do not get a value out of wave->lanes. */
static const uint32_t *apply_dpp(gs_wave_t *wave, const gs_insn_t *insn, const uint32_t *source, uint32_t *buffer) {
    uint32_t moved[GS_LANES] = {0};
    uint64_t exec = gs_exec(wave), written = 0;
    for (int lane = 0; lane < GS_LANES; lane++) {
        if (!(insn->dpp_row_mask >> (lane >> 4) & 1) || !(insn->dpp_bank_mask >> (lane >> 2 & 3) & 1)) continue;
        int from = gs_dpp_source(wave, insn, lane);
        bool valid = from >= 0 && (exec >> from & 1);
        if (valid) moved[lane] = source[from];
        if (valid || insn->dpp_bound_ctrl) written |= UINT64_C(1) << lane;
    }
    wave->lanes = exec & written;
    memcpy(buffer, moved, sizeof moved);
    return buffer;
}

enum { SDWA_WORD_0 = 4, SDWA_WORD_1 = 5, SDWA_DWORD = 6 };

static void apply_sdwa(const gs_insn_t *insn, int k, const uint32_t *source, uint32_t *buffer) {
    int sel = insn->sdwa_sel[k], bits = sel < SDWA_WORD_0 ? 8 : sel < SDWA_DWORD ? 16 : 32;
    int shift = sel < SDWA_WORD_0 ? 8 * sel : sel == SDWA_WORD_1 ? 16 : 0;
    int up = 32 - bits - shift, down = 32 - bits;
    if (insn->sdwa_sext >> k & 1) {
        for (int lane = 0; lane < GS_LANES; lane++) buffer[lane] = (uint32_t)((int32_t)(source[lane] << up) >> down);
    } else {
        for (int lane = 0; lane < GS_LANES; lane++) buffer[lane] = source[lane] << up >> down;
    }
}

/* Source k as it stands in its register, after DPP. */
static const uint32_t *read_plain(gs_wave_t *wave, const gs_insn_t *insn, int k, uint32_t *buffer) {
    const gs_operand_t *operand = &insn->src[k];
    if (operand->kind != GS_VREG) {
        uint32_t value = gs_read_scalar32(wave, operand);
        for (int lane = 0; lane < GS_LANES; lane++) buffer[lane] = value;
        return buffer;
    }
    const uint32_t *source = wave->v[gs_vector_register(wave, operand, k)];
    return k == 0 && insn->is_dpp ? apply_dpp(wave, insn, source, buffer) : source;
}

const uint32_t *gs_read32_changed(gs_wave_t *wave, const gs_insn_t *insn, int k, uint32_t buffer[GS_LANES]) {
    const uint32_t *source = read_plain(wave, insn, k, buffer);
    bool sdwa = insn->is_sdwa && k < 2 && (insn->sdwa_sel[k] != SDWA_DWORD);
    bool abs = insn->abs >> k & 1, neg = insn->neg >> k & 1;
    if (sdwa) {
        apply_sdwa(insn, k, source, buffer);
        source = buffer;
    }
    if (abs || neg) {
        uint32_t keep = abs ? 0x7fffffff : 0xffffffff, flip = neg ? 0x80000000 : 0;
        for (int lane = 0; lane < GS_LANES; lane++) buffer[lane] = (source[lane] & keep) ^ flip;
        source = buffer;
    }
    return source;
}

const uint32_t *gs_read16(gs_wave_t *wave, const gs_insn_t *insn, int k, uint32_t buffer[GS_LANES]) {
    const uint32_t *source = read_plain(wave, insn, k, buffer);
    if (insn->is_sdwa && k < 2) {
        apply_sdwa(insn, k, source, buffer);
        source = buffer;
    }
    int shift = !insn->is_sdwa && (insn->op_sel >> k & 1) ? 16 : 0;
    uint32_t keep = insn->abs >> k & 1 ? 0x7fff : 0xffff, flip = insn->neg >> k & 1 ? 0x8000 : 0;
    for (int lane = 0; lane < GS_LANES; lane++) buffer[lane] = (source[lane] >> shift & keep) ^ flip;
    return buffer;
}

const uint64_t *gs_read64(gs_wave_t *wave, const gs_insn_t *insn, int k, uint64_t buffer[GS_LANES]) {
    const gs_operand_t *operand = &insn->src[k];
    uint64_t keep = insn->abs >> k & 1 ? INT64_MAX : UINT64_MAX, flip = (uint64_t)(insn->neg >> k & 1) << 63;
    if (operand->kind != GS_VREG) {
        uint64_t value = (gs_read_scalar64(wave, operand) & keep) ^ flip;
        for (int lane = 0; lane < GS_LANES; lane++) buffer[lane] = value;
        return buffer;
    }
    int reg = gs_vector_register(wave, operand, k);
    const uint32_t *low = wave->v[reg], *high = wave->v[(reg + 1) & (GS_VREGS - 1)];
    uint32_t low_moved[GS_LANES], high_moved[GS_LANES];
    if (k == 0 && insn->is_dpp) {
        low = apply_dpp(wave, insn, low, low_moved);
        high = apply_dpp(wave, insn, high, high_moved);
    }
    for (int lane = 0; lane < GS_LANES; lane++) buffer[lane] = ((low[lane] | (uint64_t)high[lane] << 32) & keep) ^ flip;
    return buffer;
}

uint32_t gs_source_bits(const gs_insn_t *insn, int k) {
    if (insn->is_sdwa && k < 2) {
        int sel = insn->sdwa_sel[k];
        return sel < SDWA_WORD_0    ? 0xffu << 8 * sel
               : sel == SDWA_WORD_0 ? 0xffff
               : sel == SDWA_WORD_1 ? 0xffff0000
                                    : 0xffffffff;
    }
    if (insn->src[k].bits != 16) return 0xffffffff;
    return insn->op_sel >> k & 1 ? 0xffff0000 : 0xffff;
}

/* ---- vector destinations ---------------------------------------------------------------------------------------- */

void gs_blend(gs_wave_t *wave, int reg, const uint32_t values[GS_LANES], uint64_t mask) {
    uint32_t *restrict dst = wave->v[reg & (GS_VREGS - 1)];
    if (mask == UINT64_MAX) {
        for (int lane = 0; lane < GS_LANES; lane++) dst[lane] = values[lane]; /* faster than a call of memcpy */
        return;
    }
    for (int first = 0; first < GS_LANES; first += 32) {
        uint32_t half = (uint32_t)(mask >> first);
        for (int i = 0; i < 32; i++) dst[first + i] = half & 1u << i ? values[first + i] : dst[first + i];
    }
}

/* Puts the results into the selected part of the destination. */
static void insert_sdwa(const gs_insn_t *insn, const uint32_t *old, const uint32_t *values, uint32_t *out) {
    enum { PAD, SEXT, PRESERVE };
    int sel = insn->sdwa_dst_sel, bits = sel < SDWA_WORD_0 ? 8 : 16;
    int shift = sel < SDWA_WORD_0 ? 8 * sel : 16 * (sel - SDWA_WORD_0);
    uint32_t part = ((1u << bits) - 1) << shift, above = ~(part | (part - 1));
    for (int lane = 0; lane < GS_LANES; lane++) {
        uint32_t value = values[lane] << shift & part;
        if (insn->sdwa_dst_unused == PRESERVE) value |= old[lane] & ~part;
        else if (insn->sdwa_dst_unused == SEXT && (values[lane] >> (bits - 1) & 1)) value |= above;
        out[lane] = value;
    }
}

void gs_write32(gs_wave_t *wave, const gs_insn_t *insn, int k, const uint32_t values[GS_LANES]) {
    int reg = gs_vector_register(wave, &insn->dst[k], 3);
    uint32_t inserted[GS_LANES];
    if (insn->is_sdwa && insn->sdwa_dst_sel != SDWA_DWORD) {
        insert_sdwa(insn, wave->v[reg], values, inserted);
        values = inserted;
    }
    gs_blend(wave, reg, values, wave->lanes);
}

static const float OMOD[] = {1, 2, 4, 0.5f};

void gs_write_f32(gs_wave_t *wave, const gs_insn_t *insn, float values[GS_LANES]) {
    if (insn->omod)
        for (int lane = 0; lane < GS_LANES; lane++) values[lane] *= OMOD[insn->omod];
    if (insn->clamp)
        for (int lane = 0; lane < GS_LANES; lane++) values[lane] = gs_clamp_f32(values[lane]);
    uint32_t bits[GS_LANES];
    memcpy(bits, values, sizeof bits);
    gs_write32(wave, insn, 0, bits);
}

void gs_write64(gs_wave_t *wave, const gs_insn_t *insn, const uint64_t values[GS_LANES]) {
    uint32_t low[GS_LANES], high[GS_LANES];
    for (int lane = 0; lane < GS_LANES; lane++) {
        low[lane] = (uint32_t)values[lane];
        high[lane] = (uint32_t)(values[lane] >> 32);
    }
    int reg = gs_vector_register(wave, &insn->dst[0], 3);
    gs_blend(wave, reg, low, wave->lanes);
    gs_blend(wave, reg + 1, high, wave->lanes);
}

void gs_write_f64(gs_wave_t *wave, const gs_insn_t *insn, double values[GS_LANES]) {
    uint64_t bits[GS_LANES];
    for (int lane = 0; lane < GS_LANES; lane++) {
        double value = values[lane] * (insn->omod ? OMOD[insn->omod] : 1);
        if (insn->clamp) value = value > 0 ? value < 1 ? value : 1 : 0;
        bits[lane] = gs_u64(value);
    }
    gs_write64(wave, insn, bits);
}

void gs_write16(gs_wave_t *wave, const gs_insn_t *insn, const uint32_t values[GS_LANES]) {
    if (insn->is_sdwa) {
        gs_write32(wave, insn, 0, values);
        return;
    }
    int reg = gs_vector_register(wave, &insn->dst[0], 3);
    const uint32_t *old = wave->v[reg];
    uint32_t halves[GS_LANES];
    if (insn->op_sel >> 3 & 1) {
        for (int lane = 0; lane < GS_LANES; lane++) halves[lane] = (old[lane] & 0xffff) | values[lane] << 16;
    } else {
        for (int lane = 0; lane < GS_LANES; lane++) halves[lane] = values[lane] & 0xffff;
    }
    gs_blend(wave, reg, halves, wave->lanes);
}

void gs_write_f16(gs_wave_t *wave, const gs_insn_t *insn, float values[GS_LANES]) {
    uint32_t bits[GS_LANES];
    for (int lane = 0; lane < GS_LANES; lane++) {
        float value = insn->omod ? values[lane] * OMOD[insn->omod] : values[lane];
        bits[lane] = gs_f16_bits(insn->clamp ? gs_clamp_f32(value) : value);
    }
    gs_write16(wave, insn, bits);
}

void gs_write_mask(gs_wave_t *wave, const gs_insn_t *insn, int k, uint64_t mask) {
    gs_write_scalar64(wave, &insn->dst[k], mask & wave->lanes);
}
