/* What both stages of MLA decode need to know of stage 2. */
#ifndef AC_OPS_MLA_DECODE_STAGE2_H
#define AC_OPS_MLA_DECODE_STAGE2_H

#include "../../core/op.h"
#include "plan.h"

extern const ac_plan_kind_t ac_plan_kind_mla_decode;

/* Work items of the merge of T query rows; INT64_MAX: too many to count. */
int64_t ac_mla_merge_grid(const ac_mla_plan_t *plan, int64_t T);

#endif
