/* The order of one workgroup's waves, written down and played again: to find the few turns on which a failure hangs. */
#ifndef GFXSIM_SCRIPT_H
#define GFXSIM_SCRIPT_H

#include "schedule.h"

typedef struct gs_turn_t {
    uint32_t wave, instructions; /* 0: until it waits at a barrier or ends */
} gs_turn_t;

/* Of the launch that runs; the controls change it between launches. */
typedef struct gs_script_t {
    uint64_t workgroup; /* 1 + its index; 0: none */
    bool plays;
    gs_turn_t *played, *written;
    uint32_t played_count, next, written_count, written_capacity;
} gs_script_t;

extern gs_script_t gs_script;

/* The workgroup begins again. */
void gs_script_begin(void);

/* The next turn of the script; behind its end, the first wave that can run, until it waits or ends. */
gs_turn_t gs_script_next(const gs_run_t *run);

/* Notes a turn that was taken; forgets it when memory is short. */
void gs_script_note(uint32_t wave, uint64_t instructions);

#endif
