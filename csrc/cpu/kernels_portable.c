/* The CPU kernels of every op for any processor. */
#include "../core/cpu_kernel.h"

#define AC_ISA portable
#define AC_ISA_F32 1
#include "simd_portable.h"

#include "../ops/cpu_kernels.inc"
