/* The C functions of the CPU kernels: how they are declared, and which of them this build has. */
#ifndef AC_CORE_CPU_KERNEL_H
#define AC_CORE_CPU_KERNEL_H

#include <stddef.h>
#include <stdint.h>

/* The processor families of which the kernels exist; elsewhere their files are empty. */
#if defined(__x86_64__)
#define AC_CPU_X86 1
#else
#define AC_CPU_X86 0
#endif

#define AC_CPU_KERNEL(name) void name(const void *params, int64_t index, void *local)

/* AC_TABLE_ONLY: the rows alone, for scripts that list them without the code. */
#if defined(AC_TABLE_ONLY)
#define AC_CPU_RUN_PORTABLE(function) NULL
#else
#define AC_CPU_RUN_PORTABLE(function) function
#endif
#if AC_CPU_X86 && !defined(AC_TABLE_ONLY)
#define AC_CPU_RUN_X86(function) function
#else
#define AC_CPU_RUN_X86(function) NULL
#endif
#define AC_CPU_RUN_AVX2(function) AC_CPU_RUN_X86(function)
#define AC_CPU_RUN_AVX512(function) AC_CPU_RUN_X86(function)
#define AC_CPU_RUN_AVX512BF16(function) AC_CPU_RUN_X86(function)
#define AC_CPU_RUN_AMX(function) AC_CPU_RUN_X86(function)

#endif
