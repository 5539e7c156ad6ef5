/* Kernels for AVX-512 with VBMI and BF16. */
#include "kernels.h"

#if AC_CPU_X86
#include "simd_avx512.h"

#include "../ops/attention/cpu/common.inc"
#include "../ops/attention/cpu/bf16.inc"
#include "../ops/attention/cpu/engine_dot.inc"

AC_CPU_KERNEL(ac_cpu_mla_decode_dot_avx512bf16) { run_item_dot(params, index, local); }
#endif
