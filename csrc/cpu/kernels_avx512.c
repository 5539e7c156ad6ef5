/* Kernels for AVX-512 (F, BW, DQ, VL). */
#include "kernels.h"

#if AC_CPU_X86
#include "simd_avx512.h"

#include "../ops/attention/cpu/common.inc"
#include "../ops/attention/cpu/engine_f32.inc"
#include "../ops/mla_merge/cpu/merge.inc"

AC_CPU_KERNEL(ac_cpu_mla_decode_f32_avx512) { run_item_f32(params, index, local); }
AC_CPU_KERNEL(ac_cpu_mla_merge_avx512) { ac_cpu_merge_row(params, index, local); }
#endif
