/* Software-visible hazards: pairs of instructions that the hardware does not keep apart, so that the program must, by
 * other instructions or s_nop. Looks at code, not at runs: every path through it counts. */
#ifndef GFXSIM_HAZARDS_H
#define GFXSIM_HAZARDS_H

#include "encoding.h"

typedef struct gs_hazard_t {
    uint32_t first, second; /* words of the two instructions */
    int needed, found;      /* wait states between them: instructions, s_nop N as N + 1 of them */
    const char *rule;
} gs_hazard_t;

/* Those of insns[low, high), one per instruction in a word that begins one, of which each second instruction has at
 * most one, the worst. Up to `limit` are written to `out`; returns how many there are; -1: out of memory. */
int gs_hazards_find(gs_arch_t arch, const gs_insn_t *insns, uint32_t low, uint32_t high, gs_hazard_t *out, int limit);

/* The rules' texts, for tests; NULL behind the last. */
const char *gs_hazard_rule(int index);

#endif
