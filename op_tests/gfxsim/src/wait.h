/* s_waitcnt: which results may still be under way. Values land at once in the simulator; what is checked is that the
 * program does not use, or overwrite, them before a wait that covers them. */
#ifndef GFXSIM_WAIT_H
#define GFXSIM_WAIT_H

#include "lds.h"

void gs_wait_start(gs_wave_t *wave); /* nothing is under way */

/* Whether the operation of that number has landed. */
static inline bool gs_wait_is_over(const gs_stream_t *stream, uint32_t sequence) {
    return (int32_t)(sequence - stream->retired) <= 0;
}

static inline bool gs_wait_any(const gs_wave_t *wave) { return wave->waits.any_pending; }

/* Reports if the instruction touches a register that a load may still write. Only needed if gs_wait_any(). */
void gs_wait_check(gs_wave_t *wave, const gs_insn_t *insn);

/* The current instruction issues a memory operation that writes `count` registers from `reg` on (a scalar register:
 * GS_VREGS + its number; none: a store). */
void gs_wait_issue(gs_wave_t *wave, gs_stream_id_t stream, int reg, int count);

/* It loads memory to LDS; sequence and epoch are filled in. */
void gs_wait_issue_direct(gs_wave_t *wave, gs_direct_load_t load);

/* A barrier has opened: what the wave has not waited for counts in the new interval, too. */
void gs_wait_carry_lds(const gs_wave_t *wave);

/* Reports if a load to LDS would overwrite bytes that an earlier LDS access of the wave may still read or write. */
void gs_wait_check_direct(gs_wave_t *wave, const gs_direct_load_t *load);

/* s_waitcnt: at most so many operations are under way from here on. */
void gs_wait_for(gs_wave_t *wave, int vmcnt, int lgkmcnt);

/* ---- wait_lds.c: what lds.c notes and asks
 * ---------------------------------------------------------------------------- */

/* The current instruction, of LDS or flat, accesses `size` bytes of LDS at address[lane] of each of `lanes`. */
void gs_wait_use_lds(gs_wave_t *wave, const uint32_t address[GS_LANES], uint64_t lanes, uint32_t size,
                     gs_lds_access_t access);

/* The pc of the load to LDS that may still write this byte. */
uintptr_t gs_wait_direct_pc(const gs_wave_t *wave, uint32_t address);

#endif
