/* Instructions that move data between lanes. */
#include "valu.h"

/* The lane's undefined bits go with its value. */
static uint32_t undefined_of(const gs_wave_t *wave, const gs_operand_t *operand, int lane) {
    if (operand->kind == GS_VREG) return gs_taint_bits(wave, operand->reg, lane);
    return operand->kind == GS_SREG && operand->reg < GS_SREGS ? wave->taint.sreg[operand->reg] : 0;
}

static void v_readfirstlane_b32(gs_wave_t *wave, const gs_insn_t *insn) {
    const gs_operand_t *source = &insn->src[0];
    uint64_t exec = gs_exec(wave);
    int lane = exec ? __builtin_ctzll(exec) : 0;
    uint32_t value = source->kind == GS_VREG ? wave->v[gs_vector_register(wave, source, 0)][lane]
                                             : gs_read_scalar32(wave, source);
    gs_write_scalar32(wave, &insn->dst[0], value);
    wave->taint.sreg[insn->dst[0].reg] = undefined_of(wave, source, lane);
}

static void v_readlane_b32(gs_wave_t *wave, const gs_insn_t *insn) {
    gs_require_defined(wave, &insn->src[1], 0, "the lane number");
    int lane = (int)(gs_read_scalar32(wave, &insn->src[1]) & 63);
    gs_write_scalar32(wave, &insn->dst[0], wave->v[insn->src[0].reg][lane]);
    wave->taint.sreg[insn->dst[0].reg] = undefined_of(wave, &insn->src[0], lane);
}

static void v_writelane_b32(gs_wave_t *wave, const gs_insn_t *insn) {
    gs_require_defined(wave, &insn->src[1], 0, "the lane number");
    int lane = (int)(gs_read_scalar32(wave, &insn->src[1]) & 63);
    wave->v[insn->dst[0].reg][lane] = gs_read_scalar32(wave, &insn->src[0]);
    gs_taint_set_bits(wave, insn->dst[0].reg, lane, undefined_of(wave, &insn->src[0], lane));
}

static void swap_lanes(gs_wave_t *wave, int a, int lane_a, int b, int lane_b) {
    uint32_t value = wave->v[a][lane_a], undefined = gs_taint_bits(wave, a, lane_a);
    wave->v[a][lane_a] = wave->v[b][lane_b];
    gs_taint_set_bits(wave, a, lane_a, gs_taint_bits(wave, b, lane_b));
    wave->v[b][lane_b] = value;
    gs_taint_set_bits(wave, b, lane_b, undefined);
}

static void v_swap_b32(gs_wave_t *wave, const gs_insn_t *insn) {
    GS_FOR_LANES if (wave->lanes >> lane & 1) swap_lanes(wave, insn->dst[0].reg, lane, insn->src[0].reg, lane);
}

/* Row pairs change places: the odd rows of the destination with the even rows of the source. insn->a: lanes of a row.
 * The hardware ignores EXEC here. */
static void permlane_swap(gs_wave_t *wave, const gs_insn_t *insn) {
    GS_FOR_LANES if (!(lane & insn->a)) swap_lanes(wave, insn->src[0].reg, lane, insn->dst[0].reg, lane + insn->a);
}

const gs_semantics_t gs_lane_list[] = {
    GS_ENTRY(v_readfirstlane_b32, GS_OWN_TAINT), GS_ENTRY(v_readlane_b32, GS_OWN_TAINT),
    GS_ENTRY(v_writelane_b32, GS_OWN_TAINT), GS_ENTRY(v_swap_b32, GS_OWN_TAINT),
    {"v_permlane16_swap_b32", permlane_swap, 16, 0, GS_OWN_TAINT, 0},
    {"v_permlane32_swap_b32", permlane_swap, 32, 0, GS_OWN_TAINT, 0},
    {0},
};
