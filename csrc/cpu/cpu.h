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
/* The pool: the calling thread and num_threads - 1 workers, started at the first use, restarted after a fork. An
 * automatic number is that of the CPUs the calling thread may use, as of now (`fresh`) or of some milliseconds ago. */
int ac_cpu_num_threads(bool fresh);
int ac_cpu_set_num_threads(int num_threads, ac_error_t *error); /* 0: automatic; takes effect with the next op */
/* Runs items 0 .. grid-1, each once, on all threads; returns when all are done. Calls from several threads queue.
 * The calling thread has entered the float environment of core/float_env.h, in which the workers compute as well. */
int ac_cpu_run(ac_cpu_kernel_t kernel, int local_bytes, const void *params, int64_t grid, ac_error_t *error);
/* A long run calls `check` from time to time, on the calling thread; true ends it with AC_ERROR_INTERRUPTED, its
 * outputs undefined. `check` may run ops itself. Set before the first run. */
void ac_cpu_set_interrupt_check(bool (*check)(void));
/* For kernels, in every block of an item that may take long: true when the run was given up and the rest of the item
 * is not wanted. Costs some nanoseconds. */
bool ac_cpu_cancelled(void);
/* Bytes of scratch per thread: the largest local_bytes of all kernels. */
int64_t ac_cpu_local_bytes(void);

#endif
