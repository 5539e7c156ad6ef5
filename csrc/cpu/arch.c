#include "cpu.h"

#include <string.h>

#include "kernels.h"

#if AC_CPU_X86
#include <cpuid.h>
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

/* An emulated AVX-512 runs wherever AVX2 does, but only when asked for. */
static int may_force(ac_arch_t wanted) {
#ifdef AC_EMULATE_AVX512
    if (wanted == AC_CPU_AVX512BF16) return has_arch(AC_CPU_AVX2);
#endif
    return has_arch(wanted);
}

int ac_cpu_choose_arch(const char *forced, const char **out_reason, ac_error_t *error) {
    static const char *const missing[] = {
        [AC_CPU_PORTABLE] = "this processor lacks AVX2, FMA or F16C",
        [AC_CPU_AVX2] = "this processor lacks AVX-512 with VBMI and BF16",
        [AC_CPU_AVX512BF16] = "the best that this processor has"};
    if (!forced || !*forced) {
#ifdef AC_EMULATE_AVX512
        arch = has_arch(AC_CPU_AVX2) ? AC_CPU_AVX2 : AC_CPU_PORTABLE;
#else
        arch = has_arch(AC_CPU_AVX512BF16) ? AC_CPU_AVX512BF16 : has_arch(AC_CPU_AVX2) ? AC_CPU_AVX2 : AC_CPU_PORTABLE;
#endif
        *out_reason = missing[arch];
        return 0;
    }
    for (int i = AC_CPU_PORTABLE; i <= AC_CPU_AVX512BF16; i++) {
        if (strcmp(forced, ac_arch_name((ac_arch_t)i)) != 0) continue;
        if (!may_force((ac_arch_t)i))
            return ac_fail(error, AC_ERROR_VALUE,
                           "AITER_C_CPU: expected an instruction set of this processor, got '%s', which it lacks",
                           forced);
        arch = (ac_arch_t)i;
        *out_reason = "AITER_C_CPU";
        return 0;
    }
    return ac_fail(error, AC_ERROR_VALUE, "AITER_C_CPU: expected 'avx512bf16', 'avx2' or 'portable', got '%.64s'",
                   forced);
}

ac_arch_t ac_cpu_arch(void) { return arch; }
