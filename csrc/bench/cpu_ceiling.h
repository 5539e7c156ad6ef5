/* What this machine can do at best, measured on the pool's threads: the denominators of the benches. */
#ifndef AC_BENCH_CPU_CEILING_H
#define AC_BENCH_CPU_CEILING_H

#include "../core/error.h"

typedef struct ac_cpu_ceilings_t {
    double read_bytes_per_s; /* sum over a buffer far larger than the caches */
    double f32_flop_per_s;   /* fused multiply-add in registers */
    double bf16_flop_per_s;  /* bf16 dot in registers, used or not; 0 where the AVX-512 in use has none */
    double amx_flop_per_s;   /* bf16 products of tiles; 0 where AMX is not in use */
} ac_cpu_ceilings_t;

int ac_cpu_measure_ceilings(ac_cpu_ceilings_t *out_ceilings, ac_error_t *error);

#endif
