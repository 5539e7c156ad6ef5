/* Which instruction set the CPU device uses: the best one of the processor, or the one that the user asked for. */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE /* syscall */
#endif

#include "cpu.h"

#include <stdio.h>
#include <string.h>

#include "../core/cpu_kernel.h"

#if AC_CPU_X86
#include <cpuid.h>
#if defined(__linux__)
#include <sys/syscall.h>
#include <unistd.h>
#endif
#endif

static ac_arch_t arch = AC_CPU_PORTABLE;

#if AC_CPU_X86
/* AMX's tiles are saved by the system only for a process that asked; threads started later inherit the permission. */
static int may_use_amx(void) {
#if defined(__linux__)
    enum { ARCH_REQ_XCOMP_PERM = 0x1023, XFEATURE_XTILEDATA = 18, AMX_BF16 = 1 << 22, AMX_TILE = 1 << 24 };
    unsigned eax, ebx, ecx, edx;
    if (!__get_cpuid_count(7, 0, &eax, &ebx, &ecx, &edx) || !(edx & AMX_BF16) || !(edx & AMX_TILE)) return 0;
    return syscall(SYS_arch_prctl, ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA) == 0;
#else
    return 0;
#endif
}
#endif

bool ac_cpu_has_arch(ac_arch_t wanted) {
#if AC_CPU_X86
    unsigned eax, ebx, ecx, edx;
    __builtin_cpu_init();
    /* Not every compiler knows F16C by name; it needs no more of the system than AVX2 does. */
    int f16c = __get_cpuid(1, &eax, &ebx, &ecx, &edx) && (ecx & bit_F16C);
    int avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && f16c;
    if (wanted == AC_CPU_AVX2) return avx2;
    int avx512 = avx2 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                 __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl");
    if (wanted == AC_CPU_AVX512) return avx512;
    int avx512bf16 = avx512 && __builtin_cpu_supports("avx512vbmi") && __builtin_cpu_supports("avx512bf16");
    if (wanted == AC_CPU_AVX512BF16) return avx512bf16;
    if (wanted == AC_CPU_AMX) return avx512bf16 && may_use_amx();
#endif
    return wanted == AC_CPU_PORTABLE;
}

/* An emulated AVX-512 runs wherever AVX2 does, but only when asked for. */
static int may_force(ac_arch_t wanted) {
#ifdef AC_EMULATE_AVX512
    if (wanted >= AC_CPU_AVX512) return ac_cpu_has_arch(AC_CPU_AVX2);
#endif
    return ac_cpu_has_arch(wanted);
}

#ifdef AC_EMULATE_AVX512
static ac_arch_t best_avx512(const char **out_reason) {
    *out_reason = "AVX-512 is emulated in this build and only taken when asked for";
    return AC_CPU_AVX2;
}
#else
/* VDPBF16PS doubles the rate of fp32 multiply-add on AMD and halves it on Intel (measured on Emerald Rapids: one in two
 * cycles, against two multiply-adds per cycle). */
static ac_arch_t best_avx512(const char **out_reason) {
    *out_reason = "the processor lacks AVX-512 (F, BW, DQ, VL)";
    if (!ac_cpu_has_arch(AC_CPU_AVX512)) return AC_CPU_AVX2;
    *out_reason = "the processor lacks the VBMI or BF16 part of AVX-512";
    if (!ac_cpu_has_arch(AC_CPU_AVX512BF16)) return AC_CPU_AVX512;
    *out_reason = "the processor has AMX";
    if (ac_cpu_has_arch(AC_CPU_AMX)) return AC_CPU_AMX;
#if AC_CPU_X86
    *out_reason = "the processor's bf16 dot is slower than its fp32 multiply-add";
    if (__builtin_cpu_is("intel")) return AC_CPU_AVX512;
#endif
    *out_reason = "the processor has all that this package can use";
    return AC_CPU_AVX512BF16;
}
#endif

static ac_arch_t best_arch(const char **out_reason) {
    if (ac_cpu_has_arch(AC_CPU_AVX2)) return best_avx512(out_reason);
    *out_reason = "the processor lacks AVX2, FMA or F16C";
    return AC_CPU_PORTABLE;
}

int ac_cpu_choose_arch(const char *forced, const char **out_reason, ac_error_t *error) {
    if (!forced || !*forced) {
        arch = best_arch(out_reason);
        return 0;
    }
    char expected[96] = "";
    for (int i = AC_CPU_PORTABLE; i <= AC_CPU_AMX; i++) {
        const char *name = ac_arch_name((ac_arch_t)i);
        if (!may_force((ac_arch_t)i)) continue;
        if (strcmp(forced, name) == 0) {
            arch = (ac_arch_t)i;
            *out_reason = "AITER_C_CPU";
            return 0;
        }
        size_t used = strlen(expected);
        snprintf(expected + used, sizeof expected - used, "%s'%s'", used ? ", " : "", name);
    }
    return ac_fail(error, AC_ERROR_VALUE, "AITER_C_CPU: expected what this processor runs (%s), got '%.64s'", expected,
                   forced);
}

ac_arch_t ac_cpu_arch(void) { return arch; }
