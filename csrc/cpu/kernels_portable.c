/* Kernels for any processor. */
#include "kernels.h"
#include "simd_portable.h"

#include "mla_common.inc.h"
#include "mla_f32.inc.h"
#include "mla_merge.inc.h"

AC_CPU_KERNEL(ac_cpu_mla_decode_f32_portable) { run_item_f32(params, index, local); }
AC_CPU_KERNEL(ac_cpu_mla_merge_portable) { ac_cpu_merge_row(params, index, local); }
