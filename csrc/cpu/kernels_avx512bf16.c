/* The CPU kernels of every op for AVX-512 with VBMI and BF16. */
#include "../core/cpu_kernel.h"

#if AC_CPU_X86
#define AC_ISA avx512bf16
#define AC_ISA_BF16_DOT 1
#include "simd_avx512.h"

#include "../ops/cpu_kernels.inc"
#endif
