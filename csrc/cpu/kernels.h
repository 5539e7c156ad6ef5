/* The kernels, by the names that table.c gives them. Each file of kernels is compiled for its instruction set. */
#ifndef AC_CPU_KERNELS_H
#define AC_CPU_KERNELS_H

#include <stdint.h>

/* The processor families of which the kernels exist; elsewhere their files are empty. */
#if defined(__x86_64__)
#define AC_CPU_X86 1
#else
#define AC_CPU_X86 0
#endif

#define AC_CPU_KERNEL(name) void name(const void *params, int64_t index, void *local)

AC_CPU_KERNEL(ac_cpu_mla_decode_amx);
AC_CPU_KERNEL(ac_cpu_mla_decode_dot_avx512bf16);
AC_CPU_KERNEL(ac_cpu_mla_decode_f32_avx512);
AC_CPU_KERNEL(ac_cpu_mla_merge_avx512);
AC_CPU_KERNEL(ac_cpu_mla_decode_f32_avx2);
AC_CPU_KERNEL(ac_cpu_mla_merge_avx2);
AC_CPU_KERNEL(ac_cpu_mla_decode_f32_portable);
AC_CPU_KERNEL(ac_cpu_mla_merge_portable);

#endif
