/* The CPU kernels of every op for AMX with bf16, beside AVX-512 with VBMI and BF16. */
#include "../core/cpu_kernel.h"

#if AC_CPU_X86
#define AC_ISA amx
#define AC_ISA_AMX 1
#include "simd_avx512.h"

#include "../ops/cpu_kernels.inc"
#endif
