/* Undefined data: which bits of the registers depend on something that was never written.
 * Vector registers have a mask of lanes that hold undefined bits, and for those lanes the bits; scalar registers have
 * their bits; LDS has workgroup->lds_written. Undefined bits may be moved and computed with; they are reported where
 * they decide something: an address, a store to memory, EXEC, a branch. */
#ifndef GFXSIM_TAINT_H
#define GFXSIM_TAINT_H

#include "wave.h"

/* Fills in the register lists of an instruction; gs_bind does it. */
void gs_taint_list_registers(gs_insn_t *insn);

/* Runs the instruction and works out what of its results is undefined. */
void gs_taint_execute(gs_wave_t *wave, const gs_insn_t *insn);

void gs_taint_start(gs_wave_t *wave, const gs_program_t *program); /* everything is undefined */

static inline bool gs_taint_on(const gs_wave_t *wave) { return wave->program->check_uninitialized; }

static inline uint32_t gs_taint_bits(const gs_wave_t *wave, int reg, int lane) {
    return wave->taint.lanes[reg] >> lane & 1 ? wave->taint.bits[reg][lane] : 0;
}

static inline void gs_taint_set_bits(gs_wave_t *wave, int reg, int lane, uint32_t bits) {
    uint64_t lane_bit = UINT64_C(1) << lane;
    wave->taint.bits[reg][lane] = bits;
    wave->taint.lanes[reg] = bits ? wave->taint.lanes[reg] | lane_bit : wave->taint.lanes[reg] & ~lane_bit;
}

static inline void gs_taint_define_scalars(gs_wave_t *wave, int reg, int count) {
    memset(&wave->taint.sreg[reg], 0, (size_t)count * sizeof *wave->taint.sreg);
}

/* The registers are now defined in these lanes; or wholly undefined. */
void gs_taint_clear(gs_wave_t *wave, int reg, int count, uint64_t lanes);
void gs_taint_spoil(gs_wave_t *wave, int reg, int count, uint64_t lanes);

/* The lanes in which any of the registers has an undefined bit among `bits`. */
uint64_t gs_taint_lanes(const gs_wave_t *wave, int reg, int count, uint32_t bits);

/* Reports if a vector operand is undefined in one of the lanes, or a scalar one at all. `role`: "the address". */
void gs_require_defined(gs_wave_t *wave, const gs_operand_t *operand, uint64_t lanes, const char *role);

/* Of `count` registers from `reg` on, the low `bits`. */
void gs_require_vector(gs_wave_t *wave, int reg, int count, uint32_t bits, uint64_t lanes, const char *role);

/* `count` scalar registers. */
void gs_require_scalar(gs_wave_t *wave, int reg, int count, const char *role);

/* The registers that an operand covers. */
static inline int gs_operand_registers(const gs_operand_t *operand) { return (operand->bits + 31) / 32; }

#endif
