/* The lines of ops.inc as arrays. */
#include "../core/op.h"

#define KERNELS(name) extern const ac_kernel_family_t ac_kernels_##name;
#define PLAN(name) extern const ac_plan_kind_t ac_plan_kind_##name;
#define OP(name) extern const ac_op_t ac_op_##name;
#include "ops.inc"
#undef KERNELS
#undef PLAN
#undef OP

#define PLAN(name)
#define OP(name)
#define KERNELS(name) &ac_kernels_##name,
const ac_kernel_family_t *const ac_kernel_families[] = {
#include "ops.inc"
};
#undef KERNELS
const int ac_kernel_family_count = sizeof ac_kernel_families / sizeof ac_kernel_families[0];

#define KERNELS(name)
#undef PLAN
#define PLAN(name) &ac_plan_kind_##name,
const ac_plan_kind_t *const ac_plan_kinds[] = {
#include "ops.inc"
};
#undef PLAN
const int ac_plan_kind_count = sizeof ac_plan_kinds / sizeof ac_plan_kinds[0];

#define PLAN(name)
#undef OP
#define OP(name) &ac_op_##name,
const ac_op_t *const ac_ops[] = {
#include "ops.inc"
};
const int ac_op_count = sizeof ac_ops / sizeof ac_ops[0];
