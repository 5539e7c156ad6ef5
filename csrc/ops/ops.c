/* The ops and the kinds of plans of ops.inc as arrays. */
#include "../core/op.h"

#define KERNELS(name)
#define PLAN(name) extern const ac_plan_kind_t ac_plan_kind_##name;
#define OP(name) extern const ac_op_t ac_op_##name;
#include "ops.inc"
#undef PLAN
#undef OP

#define OP(name)
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
