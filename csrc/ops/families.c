/* The families of kernels of ops.inc as an array; apart from the ops, for scripts that list the kernels alone. */
#include "../core/kernel.h"

#define PLAN(name)
#define OP(name)
#define KERNELS(name) extern const ac_kernel_family_t ac_kernels_##name;
#include "ops.inc"
#undef KERNELS

#define KERNELS(name) &ac_kernels_##name,
const ac_kernel_family_t *const ac_kernel_families[] = {
#include "ops.inc"
};
const int ac_kernel_family_count = sizeof ac_kernel_families / sizeof ac_kernel_families[0];
