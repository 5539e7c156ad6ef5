/* The CPU kernels of every op for AVX-512 (F, BW, DQ, VL). */
#include "../core/cpu_kernel.h"

#if AC_CPU_X86
#define AC_ISA avx512
#define AC_ISA_F32 1
#include "simd_avx512.h"

#include "../ops/cpu_kernels.inc"
#endif
