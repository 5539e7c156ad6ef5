/* The code of the kernel table's rows. */
#include "cpu.h"

#include <stddef.h>

#include "kernels.h"

static const ac_cpu_kernel_t kernels[AC_KERNEL_COUNT] = {
#if AC_CPU_X86
    [AC_KERNEL_MLA_DECODE_AMX] = ac_cpu_mla_decode_amx,
    [AC_KERNEL_MLA_DECODE_DOT_AVX512BF16] = ac_cpu_mla_decode_dot_avx512bf16,
    [AC_KERNEL_MLA_DECODE_F32_AVX512] = ac_cpu_mla_decode_f32_avx512,
    [AC_KERNEL_MLA_MERGE_AVX512] = ac_cpu_mla_merge_avx512,
    [AC_KERNEL_MLA_DECODE_F32_AVX2] = ac_cpu_mla_decode_f32_avx2,
    [AC_KERNEL_MLA_MERGE_AVX2] = ac_cpu_mla_merge_avx2,
#endif
    [AC_KERNEL_MLA_DECODE_F32_PORTABLE] = ac_cpu_mla_decode_f32_portable,
    [AC_KERNEL_MLA_MERGE_PORTABLE] = ac_cpu_mla_merge_portable,
};

ac_cpu_kernel_t ac_cpu_kernel(ac_kernel_id_t id) {
    return ac_kernel(id)->arch <= ac_cpu_arch() ? kernels[id] : NULL;
}

int64_t ac_cpu_local_bytes(void) {
    int64_t most = 0;
    for (int i = 0; i < AC_KERNEL_COUNT; i++) {
        int64_t bytes = ac_kernel((ac_kernel_id_t)i)->local_bytes;
        if (kernels[i] && bytes > most) most = bytes;
    }
    return most;
}
