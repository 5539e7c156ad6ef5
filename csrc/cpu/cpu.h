/* The CPU device: which instruction set it uses, its threads, its kernels. */
#ifndef AC_CPU_CPU_H
#define AC_CPU_CPU_H

#include <stdint.h>

#include "../core/error.h"
#include "../core/kernel.h"

/* The best architecture of this processor, or the one that `forced` names ("amx", "avx512bf16", "avx512", "avx2",
 * "portable"; NULL or "": none). Called once, before any other call. *out_reason says why it was chosen. */
int ac_cpu_choose_arch(const char *forced, const char **out_reason, ac_error_t *error);
ac_arch_t ac_cpu_arch(void);
/* True when the processor has the instruction set and the system saves its registers. */
bool ac_cpu_has_arch(ac_arch_t wanted);

#define AC_CPU_MAX_THREADS 1024
/* The pool: the calling thread and num_threads - 1 workers, started at the first use, restarted after a fork. */
int ac_cpu_num_threads(void);
int ac_cpu_set_num_threads(int num_threads, ac_error_t *error); /* 0: as many as the process may run on */
/* Runs items 0 .. grid-1, each once, on all threads; returns when all are done. Calls from several threads queue. */
int ac_cpu_run(ac_cpu_kernel_t kernel, int local_bytes, const void *params, int64_t grid, ac_error_t *error);
/* Bytes of scratch per thread: the largest local_bytes of all kernels. */
int64_t ac_cpu_local_bytes(void);

#endif
