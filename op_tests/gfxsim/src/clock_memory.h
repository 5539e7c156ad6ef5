/* The clock's LDS banks and caches. */
#ifndef GFXSIM_CLOCK_MEMORY_H
#define GFXSIM_CLOCK_MEMORY_H

#include "trace.h"

typedef struct gs_cache_t {
    uintptr_t *tags; /* [sets][ways]; the newest first; 0: none */
    int sets, ways;
} gs_cache_t;

bool gs_cache_open(gs_cache_t *cache, int64_t lines, int ways);
void gs_cache_close(gs_cache_t *cache);
bool gs_cache_touch(gs_cache_t *cache, uintptr_t line); /* whether it was there; it is from now on */

/* Clocks of an LDS access, and in *out_least those that it would take without bank conflicts. */
int64_t gs_lds_clocks(gs_arch_t arch, const gs_trace_lds_t *access, int64_t *out_least);

#endif
