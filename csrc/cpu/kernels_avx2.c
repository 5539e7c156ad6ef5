/* The CPU kernels of every op for AVX2 with FMA and F16C. */
#include "../core/cpu_kernel.h"

#if AC_CPU_X86
#define AC_ISA avx2
#define AC_ISA_F32 1
#include "simd_avx2.h"

#include "../ops/cpu_kernels.inc"
#endif
