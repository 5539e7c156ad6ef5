/* Kernels for AMX with bf16, beside AVX-512 with VBMI and BF16. */
#include "kernels.h"

#if AC_CPU_X86
#include "simd_avx512.h"

#include "../ops/attention/cpu/common.inc"
#include "../ops/attention/cpu/bf16.inc"
#include "../ops/attention/cpu/engine_amx.inc"

AC_CPU_KERNEL(ac_cpu_mla_decode_amx) {
    ac_cpu_configure_tiles();
    run_item_amx(params, index, local);
    AC_TILE_RELEASE();
}
#endif
