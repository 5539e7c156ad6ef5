#include "kernel_table.h"

#include <string.h>

#include "../cpu/local.h"

static const ac_kernel_t kernels[AC_KERNEL_COUNT] = {
#define KERNEL(id, ...) [AC_KERNEL_##id] = {AC_KERNEL_##id, __VA_ARGS__},
#include "kernel_table.inc"
#undef KERNEL
};

static const char *const arch_names[AC_ARCH_COUNT] = {
    [AC_CPU_PORTABLE] = "portable", [AC_CPU_AVX2] = "avx2", [AC_CPU_AVX512] = "avx512",
    [AC_CPU_AVX512BF16] = "avx512bf16", [AC_CPU_AMX] = "amx",   [AC_GFX942] = "gfx942", [AC_GFX950] = "gfx950",
    [AC_SM90A] = "sm_90a"};

static const char *const format_names[AC_KV_FORMAT_COUNT] = {
    [AC_KV_PLAIN] = "plain", [AC_KV_FP8_DS_MLA] = "fp8_ds_mla", [AC_KV_3BUFFER] = "3buffer"};

const ac_kernel_t *ac_kernel(ac_kernel_id_t id) { return &kernels[id]; }

const char *ac_arch_name(ac_arch_t arch) { return arch < AC_ARCH_COUNT ? arch_names[arch] : "?"; }

const char *ac_kv_format_name(ac_kv_format_t format) {
    return format < AC_KV_FORMAT_COUNT ? format_names[format] : "?";
}

ac_kv_format_t ac_kv_format_from_name(const char *name) {
    int i = 0;
    while (i < AC_KV_FORMAT_COUNT && strcmp(format_names[i], name) != 0) i++;
    return (ac_kv_format_t)i;
}
