/* Kernels for AVX2 with FMA and F16C. */
#include "kernels.h"

#if AC_CPU_X86
#include "simd_avx2.h"

#include "../ops/attention/cpu/common.inc"
#include "../ops/attention/cpu/engine_f32.inc"
#include "../ops/mla_merge/cpu/merge.inc"

AC_CPU_KERNEL(ac_cpu_mla_decode_f32_avx2) { run_item_f32(params, index, local); }
AC_CPU_KERNEL(ac_cpu_mla_merge_avx2) { ac_cpu_merge_row(params, index, local); }
#endif
