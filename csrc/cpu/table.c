/* The code of the kernel table's rows. */
#include "cpu.h"

#include <stddef.h>

#include "kernels.h"
#include "local.h"

static const ac_cpu_kernel_t kernels[AC_KERNEL_COUNT] = {
#if AC_CPU_X86
    [AC_KERNEL_MLA_DECODE_DOT_AVX512BF16] = ac_cpu_mla_decode_dot_avx512bf16,
    [AC_KERNEL_MLA_DECODE_F32_AVX512BF16] = ac_cpu_mla_decode_f32_avx512bf16,
    [AC_KERNEL_MLA_MERGE_AVX512BF16] = ac_cpu_mla_merge_avx512bf16,
    [AC_KERNEL_MLA_DECODE_F32_AVX2] = ac_cpu_mla_decode_f32_avx2,
    [AC_KERNEL_MLA_MERGE_AVX2] = ac_cpu_mla_merge_avx2,
#endif
    [AC_KERNEL_MLA_DECODE_F32_PORTABLE] = ac_cpu_mla_decode_f32_portable,
    [AC_KERNEL_MLA_MERGE_PORTABLE] = ac_cpu_mla_merge_portable,
};

/* VDPBF16PS doubles the rate of FMA on AMD and halves it on Intel (measured on Emerald Rapids: one in 2 cycles, against
 * two FMA per cycle). There the fp32 kernel stands in for the bf16 one: it serves all that the other does, rounds less
 * and needs less scratch. */
static int prefers_fma(void) {
#if AC_CPU_X86 && !defined(AC_EMULATE_AVX512)
    return __builtin_cpu_is("intel");
#else
    return 0;
#endif
}

_Static_assert(AC_LOCAL_F32 <= AC_LOCAL_DOT, "the fp32 kernel could not stand in for the bf16 one");

ac_cpu_kernel_t ac_cpu_kernel(ac_kernel_id_t id) {
    if (ac_kernel(id)->arch > ac_cpu_arch()) return NULL;
    if (id == AC_KERNEL_MLA_DECODE_DOT_AVX512BF16 && prefers_fma()) id = AC_KERNEL_MLA_DECODE_F32_AVX512BF16;
    return kernels[id];
}

int64_t ac_cpu_local_bytes(void) {
    int64_t most = 0;
    for (int i = 0; i < AC_KERNEL_COUNT; i++) {
        int64_t bytes = ac_kernel((ac_kernel_id_t)i)->local_bytes;
        if (kernels[i] && bytes > most) most = bytes;
    }
    return most;
}
