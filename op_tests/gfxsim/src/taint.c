#include "taint.h"

#include "exec.h"

void gs_taint_start(gs_wave_t *wave, const gs_program_t *program) {
    size_t row = sizeof *wave->taint.bits;
    memset(wave->taint.lanes, 0xff, sizeof wave->taint.lanes);
    memset(wave->taint.bits, 0xff, (size_t)program->vgprs * row);
    memset(wave->taint.bits[GS_FIRST_AGPR], 0xff, (size_t)program->agprs * row);
    memset(wave->taint.sreg, 0xff, sizeof wave->taint.sreg);
    wave->taint.scc = true;
}

void gs_taint_clear(gs_wave_t *wave, int reg, int count, uint64_t lanes) {
    for (int i = 0; i < count; i++) wave->taint.lanes[(reg + i) & (GS_VREGS - 1)] &= ~lanes;
}

void gs_taint_spoil(gs_wave_t *wave, int reg, int count, uint64_t lanes) {
    for (int i = 0; i < count; i++) {
        int r = (reg + i) & (GS_VREGS - 1);
        wave->taint.lanes[r] |= lanes;
        GS_FOR_LANES if (lanes >> lane & 1) wave->taint.bits[r][lane] = UINT32_MAX;
    }
}

uint64_t gs_taint_lanes(const gs_wave_t *wave, int reg, int count, uint32_t bits) {
    uint64_t lanes = 0;
    for (int i = 0; i < count; i++) {
        int r = (reg + i) & (GS_VREGS - 1);
        if (bits == UINT32_MAX) {
            lanes |= wave->taint.lanes[r];
        } else if (wave->taint.lanes[r]) {
            GS_FOR_LANES lanes |= (uint64_t)((gs_taint_bits(wave, r, lane) & bits) != 0) << lane;
        }
    }
    return lanes;
}

/* ---- reports ---------------------------------------------------------------------------------------------------- */

void gs_require_vector(gs_wave_t *wave, int reg, int count, uint32_t bits, uint64_t lanes, const char *role) {
    if (!gs_taint_on(wave)) return;
    for (int r = reg; r < reg + count; r++) {
        uint64_t bad = gs_taint_lanes(wave, r, 1, bits) & lanes;
        if (!bad) continue;
        int lane = __builtin_ctzll(bad);
        gs_report(wave, GS_REPORT_UNINITIALIZED, "%s is undefined: %c%d, lane %d, bits 0x%08x", role,
                  r < GS_FIRST_AGPR ? 'v' : 'a', r % GS_FIRST_AGPR, lane, gs_taint_bits(wave, r, lane) & bits);
    }
}

void gs_require_scalar(gs_wave_t *wave, int reg, int count, const char *role) {
    if (!gs_taint_on(wave)) return;
    for (int r = reg; r < reg + count && r < GS_SREGS; r++)
        if (wave->taint.sreg[r])
            gs_report(wave, GS_REPORT_UNINITIALIZED, "%s is undefined: s%d, bits 0x%08x", role, r, wave->taint.sreg[r]);
}

void gs_require_defined(gs_wave_t *wave, const gs_operand_t *operand, uint64_t lanes, const char *role) {
    if (operand->kind == GS_VREG)
        gs_require_vector(wave, operand->reg, gs_operand_registers(operand), UINT32_MAX, lanes, role);
    else if (operand->kind == GS_SREG) gs_require_scalar(wave, operand->reg, gs_operand_registers(operand), role);
}

/* ---- what is undefined of an operand ---------------------------------------------------------------------------- */

static bool is_scalar_insn(const gs_insn_t *insn) { return insn->format <= GS_SMEM; }

static bool scalar_undefined(const gs_wave_t *wave, const gs_operand_t *operand) {
    uint32_t bits = 0;
    for (int r = operand->reg; r < operand->reg + gs_operand_registers(operand) && r < GS_SREGS; r++) {
        bits |= wave->taint.sreg[r];
    }
    if (operand->reg == GS_SCC) bits |= wave->taint.scc;
    return bits != 0;
}

static bool keeps_destination(const gs_insn_t *insn) {
    bool sdwa_part = insn->is_sdwa && insn->sdwa_dst_unused == 2 && insn->sdwa_dst_sel != 6;
    bool high_half = insn->format <= GS_VOP3 && insn->op_sel & 8;
    return (insn->traits & GS_KEEPS_DST) || sdwa_part || high_half;
}

static uint64_t vector_undefined(const gs_wave_t *wave, const gs_operand_t *operand, int k) {
    return gs_taint_lanes(wave, gs_vector_register(wave, operand, k), gs_operand_registers(operand), UINT32_MAX);
}

static bool source_undefined(const gs_wave_t *wave, const gs_operand_t *operand, int k, uint64_t exec) {
    if (operand->kind == GS_VREG) return (vector_undefined(wave, operand, k) & exec) != 0;
    return operand->kind == GS_SREG && scalar_undefined(wave, operand);
}

static bool reads_destination(const gs_insn_t *insn) { return insn->traits & GS_READS_DST || keeps_destination(insn); }

static bool any_source_undefined(const gs_wave_t *wave, const gs_insn_t *insn, uint64_t exec) {
    for (int k = 0; k < insn->src_count; k++)
        if (source_undefined(wave, &insn->src[k], k, exec)) return true;
    if (reads_destination(insn) && source_undefined(wave, &insn->dst[0], 3, exec)) return true;
    return insn->traits & GS_READS_SCC && wave->taint.scc;
}

/* ---- the common case: everything is defined --------------------------------------------------------------------- */

static bool add_registers(gs_register_list_t *list, const gs_operand_t *operand) {
    int count = gs_operand_registers(operand);
    for (int reg = operand->reg; reg < operand->reg + count; reg++) {
        if (operand->kind == GS_VREG) {
            if (list->vector_count == sizeof list->vector / sizeof *list->vector) return false;
            list->vector[list->vector_count++] = (uint16_t)(reg & (GS_VREGS - 1));
        } else if (operand->kind == GS_SREG && reg < GS_SREGS) {
            if (list->scalar_count == sizeof list->scalar / sizeof *list->scalar) return false;
            list->scalar[list->scalar_count++] = (uint8_t)reg;
        } else if (operand->kind == GS_SREG && reg == GS_SCC) {
            return false;
        }
    }
    return true;
}

static bool is_move(const gs_insn_t *insn) {
    bool named = strncmp(insn->name, "v_mov_b", 7) == 0 || strncmp(insn->name, "v_accvgpr_", 10) == 0;
    return named && insn->plain && insn->src_count == 1 && insn->src[0].kind == GS_VREG && insn->dst[0].kind == GS_VREG;
}

void gs_taint_list_registers(gs_insn_t *insn) {
    memset(&insn->reads, 0, sizeof insn->reads);
    memset(&insn->writes, 0, sizeof insn->writes);
    insn->listed = !(insn->traits & GS_OWN_TAINT);
    insn->moves = is_move(insn);
    for (int k = 0; k < insn->src_count; k++) insn->listed = insn->listed && add_registers(&insn->reads, &insn->src[k]);
    if (insn->listed && reads_destination(insn)) insn->listed = add_registers(&insn->reads, &insn->dst[0]);
    for (int k = 0; k < insn->dst_count; k++) {
        insn->listed = insn->listed && add_registers(&insn->writes, &insn->dst[k]);
    }
}

static bool all_listed_defined(const gs_wave_t *wave, const gs_insn_t *insn) {
    uint64_t lanes = 0;
    uint32_t bits = insn->traits & GS_READS_SCC ? wave->taint.scc : 0;
    for (int i = 0; i < insn->reads.vector_count; i++) lanes |= wave->taint.lanes[insn->reads.vector[i]];
    for (int i = 0; i < insn->reads.scalar_count; i++) bits |= wave->taint.sreg[insn->reads.scalar[i]];
    return !(lanes & gs_exec(wave)) && !bits;
}

static void clear_listed(gs_wave_t *wave, const gs_insn_t *insn) {
    for (int i = 0; i < insn->writes.vector_count; i++) {
        wave->taint.lanes[insn->writes.vector[i]] &= ~wave->lanes;
    }
    for (int i = 0; i < insn->writes.scalar_count; i++) wave->taint.sreg[insn->writes.scalar[i]] = 0;
    if (insn->traits & GS_WRITES_SCC) wave->taint.scc = false;
}

/* The lanes of the result that source k spoils. */
static uint64_t spoiled_by(gs_wave_t *wave, const gs_insn_t *insn, int k) {
    const gs_operand_t *operand = &insn->src[k];
    if (operand->kind == GS_SREG && insn->traits & GS_LANE_MASK_SRC2 && k == 2) {
        return gs_pair(wave->taint.sreg, operand->reg);
    }
    if (operand->kind == GS_SREG) return scalar_undefined(wave, operand) ? UINT64_MAX : 0;
    if (operand->kind != GS_VREG) return 0;
    int reg = gs_vector_register(wave, operand, k);
    uint64_t lanes = gs_taint_lanes(wave, reg, gs_operand_registers(operand), gs_source_bits(insn, k)), moved = 0;
    if (!insn->is_dpp || k) return lanes;
    GS_FOR_LANES {
        int from = gs_dpp_source(wave, insn, lane);
        if (from >= 0 && gs_exec(wave) >> from & 1) moved |= (lanes >> from & 1) << lane;
    }
    return moved;
}

/* ---- results ---------------------------------------------------------------------------------------------------- */

static void clear_results(gs_wave_t *wave, const gs_insn_t *insn) {
    for (int k = 0; k < insn->dst_count; k++) {
        const gs_operand_t *dst = &insn->dst[k];
        int count = gs_operand_registers(dst);
        if (dst->kind == GS_VREG) gs_taint_clear(wave, gs_vector_register(wave, dst, 3), count, wave->lanes);
        else if (dst->kind == GS_SREG)
            for (int r = dst->reg; r < dst->reg + count && r < GS_SREGS; r++) wave->taint.sreg[r] = 0;
    }
    if (insn->traits & GS_WRITES_SCC) wave->taint.scc = false;
}

static void run(gs_wave_t *wave, const gs_insn_t *insn) {
    wave->lanes = gs_exec(wave);
    insn->execute(wave, insn);
}

/* The bits of dst[0] that the instruction leaves alone: they follow the old destination. */
static void find_kept_bits(gs_wave_t *wave, const gs_insn_t *insn, int reg, uint32_t kept[GS_LANES]) {
    uint32_t old[GS_LANES];
    memcpy(old, wave->v[reg], sizeof old);
    for (int fill = 0; fill < 2; fill++) {
        GS_FOR_LANES wave->v[reg][lane] = fill ? UINT32_MAX : 0;
        run(wave, insn);
        GS_FOR_LANES kept[lane] = fill ? kept[lane] ^ wave->v[reg][lane] : wave->v[reg][lane];
    }
    memcpy(wave->v[reg], old, sizeof old);
}

/* The place of the first undefined bit of an operand in a lane; 64: none. */
static int first_undefined_bit(const gs_wave_t *wave, const gs_operand_t *operand, int k, int lane) {
    for (int i = 0; i < gs_operand_registers(operand) && i < 2; i++) {
        uint32_t bits = 0;
        if (operand->kind == GS_VREG)
            bits = gs_taint_bits(wave, (gs_vector_register(wave, operand, k) + i) & (GS_VREGS - 1), lane);
        else if (operand->kind == GS_SREG && operand->reg + i < GS_SREGS) bits = wave->taint.sreg[operand->reg + i];
        if (bits) return 32 * i + __builtin_ctz(bits);
    }
    return 64;
}

/* v_pk_*_f32: two results, each from one word of every source, which op_sel and op_sel_hi name. */
static bool is_pair_of_words(const gs_insn_t *insn) { return insn->format == GS_VOP3P && insn->dst[0].bits == 64; }

static uint64_t reached_words(const gs_wave_t *wave, const gs_insn_t *insn, int lane) {
    uint64_t reached = 0;
    for (int word = 0; word < 2; word++)
        for (int k = 0; k < insn->src_count; k++) {
            const gs_operand_t *operand = &insn->src[k];
            int reg = operand->reg + ((word ? insn->op_sel_hi : insn->op_sel) >> k & 1);
            bool undefined = operand->kind == GS_VREG   ? gs_taint_bits(wave, reg & (GS_VREGS - 1), lane) != 0
                             : operand->kind == GS_SREG ? reg < GS_SREGS && wave->taint.sreg[reg] != 0
                                                        : false;
            if (undefined) reached |= (uint64_t)UINT32_MAX << 32 * word;
        }
    return reached;
}

/* The bits of the result that undefined bits of the sources reach, for a lane in which there are some. */
static uint64_t reached_bits(gs_wave_t *wave, const gs_insn_t *insn, int lane) {
    if (is_pair_of_words(insn)) return reached_words(wave, insn, lane);
    if (!(insn->traits & GS_CARRIES) || insn->is_dpp || insn->is_sdwa) return UINT64_MAX;
    int first = insn->traits & GS_READS_DST ? first_undefined_bit(wave, &insn->dst[0], 3, lane) : 64;
    for (int k = 0; k < insn->src_count; k++) {
        bool carry_in = insn->traits & GS_LANE_MASK_SRC2 && k == 2;
        int bit = carry_in ? (spoiled_by(wave, insn, 2) >> lane & 1 ? 0 : 64)
                           : first_undefined_bit(wave, &insn->src[k], k, lane);
        first = bit < first ? bit : first;
    }
    if (insn->traits & GS_READS_SCC && wave->taint.scc) first = 0;
    return first < 64 ? UINT64_MAX << first : 0;
}

static void spoil_vector(gs_wave_t *wave, const gs_operand_t *dst, uint64_t lanes, const uint64_t reached[GS_LANES]) {
    int reg = gs_vector_register(wave, dst, 3), count = gs_operand_registers(dst);
    for (int i = 0; i < count; i++)
        GS_FOR_LANES if (lanes >> lane & 1)
            gs_taint_set_bits(wave, reg + i, lane, count > 2 ? UINT32_MAX : (uint32_t)(reached[lane] >> 32 * i));
}

/* Any undefined source bit spoils the lane. */
static void execute_spoiling(gs_wave_t *wave, const gs_insn_t *insn) {
    uint64_t spoiled = 0;
    for (int k = 0; k < insn->src_count; k++) spoiled |= spoiled_by(wave, insn, k);
    if (insn->traits & GS_READS_DST) spoiled |= vector_undefined(wave, &insn->dst[0], 3);
    if (insn->traits & GS_READS_SCC && wave->taint.scc) spoiled = UINT64_MAX;

    bool keeps = keeps_destination(insn) && insn->dst[0].kind == GS_VREG;
    int first = keeps ? gs_vector_register(wave, &insn->dst[0], 3) : 0;
    uint32_t kept[GS_LANES], old[GS_LANES];
    if (keeps) {
        find_kept_bits(wave, insn, first, kept);
        GS_FOR_LANES old[lane] = gs_taint_bits(wave, first, lane);
    }
    uint64_t reached[GS_LANES];
    GS_FOR_LANES reached[lane] = spoiled >> lane & 1 ? reached_bits(wave, insn, lane) : 0;
    run(wave, insn);
    clear_results(wave, insn);
    for (int k = 0; k < insn->dst_count; k++) {
        const gs_operand_t *dst = &insn->dst[k];
        if (dst->kind == GS_VREG) spoil_vector(wave, dst, spoiled & wave->lanes, reached);
        else if (dst->kind == GS_SREG && is_scalar_insn(insn))
            for (int i = 0; i < gs_operand_registers(dst); i++)
                wave->taint.sreg[dst->reg + i] = (uint32_t)(reached[0] >> 32 * (i & 1));
        else if (dst->kind == GS_SREG) gs_set_pair(wave->taint.sreg, dst->reg, spoiled & wave->lanes);
    }
    if (insn->traits & GS_WRITES_SCC) wave->taint.scc = spoiled != 0;
    if (keeps) GS_FOR_LANES if (wave->lanes >> lane & 1) {
            uint32_t written = spoiled >> lane & 1 ? ~kept[lane] : 0;
            gs_taint_set_bits(wave, first, lane, written | (old[lane] & kept[lane]));
        }
}

/* ---- bit by bit ------------------------------------------------------------------------------------------------- */

enum { MAX_INPUTS = 7, MAX_REGISTERS = 4 };

/* One source with undefined bits. */
typedef struct input_t {
    bool vector, scc;
    int reg, count;
} input_t;

/* The registers that are changed while trying values, so that they can be put back. */
typedef struct snapshot_t {
    uint32_t vector[MAX_INPUTS][MAX_REGISTERS][GS_LANES];
    uint32_t scalar[GS_SREGS], scc;
} snapshot_t;

static void save(const gs_wave_t *wave, const input_t *inputs, int count, snapshot_t *out_snapshot) {
    memcpy(out_snapshot->scalar, wave->s, sizeof wave->s);
    out_snapshot->scc = wave->scc;
    for (int i = 0; i < count; i++)
        if (inputs[i].vector) {
            memcpy(out_snapshot->vector[i], wave->v[inputs[i].reg], (size_t)inputs[i].count * sizeof wave->v[0]);
        }
}

static void restore(gs_wave_t *wave, const input_t *inputs, int count, const snapshot_t *snapshot) {
    memcpy(wave->s, snapshot->scalar, sizeof wave->s);
    wave->scc = snapshot->scc;
    for (int i = 0; i < count; i++)
        if (inputs[i].vector) {
            memcpy(wave->v[inputs[i].reg], snapshot->vector[i], (size_t)inputs[i].count * sizeof wave->v[0]);
        }
}

static void fill_undefined(gs_wave_t *wave, const input_t *input, bool ones) {
    if (input->scc) wave->scc = ones;
    else if (input->vector)
        for (int r = input->reg; r < input->reg + input->count; r++) GS_FOR_LANES {
                uint32_t bits = gs_taint_bits(wave, r, lane);
                wave->v[r][lane] = ones ? wave->v[r][lane] | bits : wave->v[r][lane] & ~bits;
            }
    else
        for (int r = input->reg; r < input->reg + input->count && r < GS_SREGS; r++) {
            uint32_t bits = wave->taint.sreg[r];
            wave->s[r] = ones ? wave->s[r] | bits : wave->s[r] & ~bits;
        }
}

static input_t input_of(const gs_wave_t *wave, const gs_operand_t *operand, int k) {
    bool vector = operand->kind == GS_VREG;
    int count = gs_operand_registers(operand);
    if (count > MAX_REGISTERS) count = MAX_REGISTERS;
    return (input_t){vector, operand->kind == GS_SREG && operand->reg == GS_SCC,
                     vector ? gs_vector_register(wave, operand, k) : operand->reg, count};
}

/* Inputs with undefined bits come first; the destinations follow, only to be saved. */
static int collect_inputs(const gs_wave_t *wave, const gs_insn_t *insn, uint64_t exec, input_t *out_inputs,
                          int *out_undefined) {
    int count = 0;
    for (int k = 0; k < insn->src_count; k++)
        if (source_undefined(wave, &insn->src[k], k, exec)) out_inputs[count++] = input_of(wave, &insn->src[k], k);
    if (insn->traits & GS_READS_SCC && wave->taint.scc) out_inputs[count++] = (input_t){false, true, 0, 0};
    if (reads_destination(insn) && source_undefined(wave, &insn->dst[0], 3, exec)) {
        out_inputs[count++] = input_of(wave, &insn->dst[0], 3);
    }
    *out_undefined = count;
    for (int k = 0; k < insn->dst_count; k++)
        if (insn->dst[k].kind == GS_VREG) out_inputs[count++] = input_of(wave, &insn->dst[k], 3);
    return count;
}

/* What differs between the results under all fillings of the undefined inputs with zeros and ones. */
typedef struct spread_t {
    uint32_t any[2][MAX_REGISTERS][GS_LANES], all[2][MAX_REGISTERS][GS_LANES];
    uint32_t any_scalar[2][MAX_REGISTERS], all_scalar[2][MAX_REGISTERS];
    uint32_t any_scc, all_scc;
} spread_t;

static void add_results(const gs_wave_t *wave, const gs_insn_t *insn, spread_t *spread) {
    for (int k = 0; k < insn->dst_count; k++) {
        input_t dst = input_of(wave, &insn->dst[k], 3);
        for (int i = 0; i < dst.count; i++) {
            if (dst.vector) {
                GS_FOR_LANES {
                    spread->any[k][i][lane] |= wave->v[dst.reg + i][lane];
                    spread->all[k][i][lane] &= wave->v[dst.reg + i][lane];
                }
            } else if (dst.reg + i < GS_SREGS) {
                spread->any_scalar[k][i] |= wave->s[dst.reg + i];
                spread->all_scalar[k][i] &= wave->s[dst.reg + i];
            }
        }
    }
    spread->any_scc |= wave->scc;
    spread->all_scc &= wave->scc;
}

static void store_spread(gs_wave_t *wave, const gs_insn_t *insn, const spread_t *spread) {
    for (int k = 0; k < insn->dst_count; k++) {
        input_t dst = input_of(wave, &insn->dst[k], 3);
        for (int i = 0; i < dst.count; i++) {
            if (dst.vector) {
                GS_FOR_LANES if (wave->lanes >> lane & 1)
                    gs_taint_set_bits(wave, dst.reg + i, lane, spread->any[k][i][lane] & ~spread->all[k][i][lane]);
            } else if (dst.reg + i < GS_SREGS) {
                wave->taint.sreg[dst.reg + i] = spread->any_scalar[k][i] & ~spread->all_scalar[k][i];
            }
        }
    }
    if (insn->traits & GS_WRITES_SCC) wave->taint.scc = spread->any_scc != spread->all_scc;
}

static void execute_bitwise(gs_wave_t *wave, const gs_insn_t *insn) {
    input_t inputs[MAX_INPUTS];
    snapshot_t snapshot;
    spread_t spread;
    int undefined, count = collect_inputs(wave, insn, gs_exec(wave), inputs, &undefined);
    save(wave, inputs, count, &snapshot);
    memset(&spread, 0, sizeof spread);
    memset(spread.all, 0xff, sizeof spread.all);
    memset(spread.all_scalar, 0xff, sizeof spread.all_scalar);
    spread.all_scc = 1;
    for (int filling = 0; filling < 1 << undefined; filling++) {
        for (int i = 0; i < undefined; i++) fill_undefined(wave, &inputs[i], filling >> i & 1);
        run(wave, insn);
        add_results(wave, insn, &spread);
        restore(wave, inputs, count, &snapshot);
    }
    run(wave, insn);
    store_spread(wave, insn, &spread);
}

/* Compilers move what nobody has written yet; often enough for a way of its own. */
static void execute_move(gs_wave_t *wave, const gs_insn_t *insn) {
    int from = insn->src[0].reg, to = insn->dst[0].reg, count = gs_operand_registers(&insn->dst[0]);
    uint64_t lanes = wave->lanes, undefined[2];
    uint32_t bits[2][GS_LANES];
    memcpy(undefined, &wave->taint.lanes[from], (size_t)count * sizeof *undefined);
    memcpy(bits, wave->taint.bits[from], (size_t)count * sizeof *bits);
    insn->execute(wave, insn);
    for (int i = 0; i < count; i++) {
        uint32_t *to_bits = wave->taint.bits[to + i];
        GS_FOR_LANES to_bits[lane] = lanes >> lane & 1 ? bits[i][lane] : to_bits[lane];
        wave->taint.lanes[to + i] = (wave->taint.lanes[to + i] & ~lanes) | (undefined[i] & lanes);
    }
}

void gs_taint_execute(gs_wave_t *wave, const gs_insn_t *insn) {
    if (insn->traits & GS_OWN_TAINT) {
        insn->execute(wave, insn);
        return;
    }
    if (insn->listed && !wave->gpr_index_on && all_listed_defined(wave, insn)) {
        insn->execute(wave, insn);
        clear_listed(wave, insn);
        return;
    }
    if (!any_source_undefined(wave, insn, gs_exec(wave))) {
        insn->execute(wave, insn);
        clear_results(wave, insn);
        return;
    }
    if (insn->moves && !wave->gpr_index_on) execute_move(wave, insn);
    else if (insn->traits & GS_BITWISE) execute_bitwise(wave, insn);
    else execute_spoiling(wave, insn);
    if (wave->taint.sreg[GS_EXEC] | wave->taint.sreg[GS_EXEC + 1])
        gs_report(wave, GS_REPORT_UNINITIALIZED, "EXEC becomes undefined: bits 0x%08x%08x",
                  wave->taint.sreg[GS_EXEC + 1], wave->taint.sreg[GS_EXEC]);
}
