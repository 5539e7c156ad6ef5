#include "cpu.h"

#include <stdio.h>
#include <string.h>

#include "kernels.h"

#if AC_CPU_X86
#include <cpuid.h>
#endif

/* An emulated AVX-512 runs wherever AVX2 does, but only when asked for. */
#ifdef AC_EMULATE_AVX512
#define BEST_CHOICE AC_CPU_AVX2
#else
#define BEST_CHOICE AC_CPU_AVX512BF16
#endif

static ac_arch_t arch = AC_CPU_PORTABLE;

/* True when the processor has the instruction set and the system saves its registers. */
static int has_arch(ac_arch_t wanted) {
#if AC_CPU_X86
    unsigned eax, ebx, ecx, edx;
    __builtin_cpu_init();
    /* Not every compiler knows F16C by name; it needs no more of the system than AVX2 does. */
    int f16c = __get_cpuid(1, &eax, &ebx, &ecx, &edx) && (ecx & bit_F16C);
    int avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && f16c;
    if (wanted == AC_CPU_AVX2) return avx2;
    if (wanted == AC_CPU_AVX512BF16)
        return avx2 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
               __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl") &&
               __builtin_cpu_supports("avx512vbmi") && __builtin_cpu_supports("avx512bf16");
#endif
    return wanted == AC_CPU_PORTABLE;
}

static int may_force(ac_arch_t wanted) {
#ifdef AC_EMULATE_AVX512
    if (wanted == AC_CPU_AVX512BF16) return has_arch(AC_CPU_AVX2);
#endif
    return has_arch(wanted);
}

int ac_cpu_choose_arch(const char *forced, const char **out_reason, ac_error_t *error) {
    static const char *const reasons[] = {
        [AC_CPU_PORTABLE] = "the processor lacks AVX2, FMA or F16C",
        [AC_CPU_AVX2] = "the processor lacks AVX-512 with VBMI and BF16",
        [AC_CPU_AVX512BF16] = "the best that the processor has"};
    if (!forced || !*forced) {
        arch = AC_CPU_PORTABLE;
        for (int i = AC_CPU_PORTABLE; i <= BEST_CHOICE; i++)
            if (has_arch((ac_arch_t)i)) arch = (ac_arch_t)i;
        *out_reason = reasons[arch];
        return 0;
    }
    char expected[64] = "";
    for (int i = AC_CPU_PORTABLE; i <= AC_CPU_AVX512BF16; i++) {
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
