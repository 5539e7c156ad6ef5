/* Reading and writing operands with everything that the encodings put around them: DPP, SDWA, op_sel, abs, neg, clamp
 * and omod. Vector sources come as 64 lanes; a function returns the register itself where nothing has to be changed,
 * else `buffer`. Writes honour EXEC, DPP's masks and SDWA's destination. */
#ifndef GFXSIM_OPERAND_H
#define GFXSIM_OPERAND_H

#include "wave.h"

/* Scalar sources. */
uint32_t gs_read_scalar32(gs_wave_t *wave, const gs_operand_t *operand);
uint64_t gs_read_scalar64(gs_wave_t *wave, const gs_operand_t *operand);
void gs_write_scalar32(gs_wave_t *wave, const gs_operand_t *operand, uint32_t value);
void gs_write_scalar64(gs_wave_t *wave, const gs_operand_t *operand, uint64_t value);

/* The number of the vector register of source k (3: the destination), with the GPR index mode applied. */
static inline int gs_vector_register(const gs_wave_t *wave, const gs_operand_t *operand, int k) {
    bool indexed = wave->gpr_index_on && wave->s[GS_M0] >> (12 + k) & 1;
    return (operand->reg + (indexed ? wave->s[GS_M0] & 0xff : 0)) & (GS_VREGS - 1);
}

/* Source k as 32-bit, as 16-bit (in the low half) and as 64-bit values. */
const uint32_t *gs_read32_changed(gs_wave_t *wave, const gs_insn_t *insn, int k, uint32_t buffer[GS_LANES]);
static inline const uint32_t *gs_read32(gs_wave_t *wave, const gs_insn_t *insn, int k, uint32_t buffer[GS_LANES]) {
    const gs_operand_t *operand = &insn->src[k];
    bool as_it_stands = insn->plain && operand->kind == GS_VREG && !wave->gpr_index_on;
    return as_it_stands ? wave->v[operand->reg] : gs_read32_changed(wave, insn, k, buffer);
}
const uint32_t *gs_read16(gs_wave_t *wave, const gs_insn_t *insn, int k, uint32_t buffer[GS_LANES]);
const uint64_t *gs_read64(gs_wave_t *wave, const gs_insn_t *insn, int k, uint64_t buffer[GS_LANES]);

/* Destination k. `values` of the float forms are changed by omod and clamp. */
void gs_write32(gs_wave_t *wave, const gs_insn_t *insn, int k, const uint32_t values[GS_LANES]);
void gs_write_f32(gs_wave_t *wave, const gs_insn_t *insn, float values[GS_LANES]);
void gs_write64(gs_wave_t *wave, const gs_insn_t *insn, const uint64_t values[GS_LANES]);
void gs_write_f64(gs_wave_t *wave, const gs_insn_t *insn, double values[GS_LANES]);

/* A 16-bit result: the low half, the high one cleared; with op_sel's destination bit the high half alone. */
void gs_write16(gs_wave_t *wave, const gs_insn_t *insn, const uint32_t values[GS_LANES]);
void gs_write_f16(gs_wave_t *wave, const gs_insn_t *insn, float values[GS_LANES]);

/* A lane mask (compares, carries): bits of lanes that are off become 0. */
void gs_write_mask(gs_wave_t *wave, const gs_insn_t *insn, int k, uint64_t mask);

/* The lane that `lane` reads under DPP control; -1: none, it keeps its destination, or reads 0 with bound_ctrl. */
int gs_dpp_source(gs_wave_t *wave, const gs_insn_t *insn, int lane);

/* The bits of a 32-bit register that SDWA or op_sel let source k read; everything else counts as not read. */
uint32_t gs_source_bits(const gs_insn_t *insn, int k);

/* registers[reg] = values in the lanes of `mask`. */
void gs_blend(gs_wave_t *wave, int reg, const uint32_t values[GS_LANES], uint64_t mask);

static inline float gs_clamp_f32(float value) { return value > 0 ? value < 1 ? value : 1 : 0; }

#endif
