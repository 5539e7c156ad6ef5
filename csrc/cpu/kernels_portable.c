/* Kernels for any processor. */
#include "kernels.h"
#include "simd_portable.h"

#include "../ops/attention/cpu/common.inc"
#include "../ops/attention/cpu/engine_f32.inc"
#include "../ops/mla_merge/cpu/merge.inc"

AC_CPU_KERNEL(ac_cpu_mla_decode_f32_portable) { run_item_f32(params, index, local); }
AC_CPU_KERNEL(ac_cpu_mla_merge_portable) { ac_cpu_merge_row(params, index, local); }
