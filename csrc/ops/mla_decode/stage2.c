/* Stage 2 of MLA decode: merges the partials of stage 1 into the final rows. */
#include <inttypes.h>

#include "../../core/op.h"
#include "../../core/rules.h"
#include "../../device/device.h"
#include "../attention/work.h"
#include "../merge_states/sink.h"
#include "../mla_merge/kernel_params.h"
#include "stage2.h"
#include "variant.h"

static const char op_name[] = "mla_decode_fwd";

typedef struct {
    ac_view_t *logits, *attn_lse, *o, *lse, *qo_indptr, *sink;
} args_t;

#define ARG(field) ((ac_arg_t){op_name, #field, args->field})
#define RULE(field, dtypes, shape, flags) AC_RULE(args_t, field, dtypes, shape, flags)

/* H, S and B are the plan's. */
static const ac_tensor_rule_t rules[] = {
    RULE(o, AC_HALF, "T H 512", AC_DENSE_ROWS | AC_WRITTEN | AC_LEADS),
    RULE(lse, AC_SET(AC_FLOAT32), "T H", AC_CONTIGUOUS | AC_WRITTEN | AC_MAY_BE_NONE),
    RULE(logits, AC_SET(AC_FLOAT32), "T S H 512", AC_CONTIGUOUS),
    RULE(attn_lse, AC_SET(AC_FLOAT32), "T S H 1", AC_CONTIGUOUS),
    RULE(qo_indptr, AC_SET(AC_INT32), "B+1..", AC_DENSE_ROWS | AC_MAY_BE_NONE),
    RULE(sink, AC_SET(AC_FLOAT32), "H", AC_DENSE_ROWS | AC_MAY_BE_NONE),
};

int64_t ac_mla_merge_grid(const ac_mla_plan_t *plan, int64_t T) {
    const int64_t rows = plan->request.batch * ac_min64(plan->request.max_seqlen_q, T);
    const int64_t tiles = ac_kernel_tiles(plan->stage2, plan->request.num_heads);
    int64_t grid;
    return __builtin_mul_overflow(rows, tiles, &grid) ? INT64_MAX : grid;
}

static int run(void *arguments, const void *the_plan, intptr_t stream, ac_error_t *error) {
    args_t *args = arguments;
    const ac_mla_plan_t *plan = the_plan;
    const ac_mla_request_t *r = &plan->request;
    ac_target_t target;
    ac_sizes_t sizes;
    if (plan->writes_output)
        return ac_fail(error, AC_ERROR_VALUE,
                       "%s: plan.writes_output: expected a plan with partials to merge, got one whose stage 1 writes "
                       "the output",
                       op_name);
    if (ac_find_target(op_name, "o", args->o->device, &target, error) < 0) return -1;
    if ((int32_t)target.facts.arch != r->arch)
        return ac_fail(error, AC_ERROR_VALUE, "%s: plan.arch: expected a plan made for %s, got one made for %s",
                       op_name, ac_arch_name(target.facts.arch), ac_arch_name((ac_arch_t)r->arch));
    if (!args->qo_indptr && (ac_mla_join_rows(ARG(o), 3, args->o, error) < 0 ||
                             (args->lse && ac_mla_join_rows(ARG(lse), 2, args->lse, error) < 0)))
        return -1;
    ac_sizes_init(&sizes, op_name);
    if (!args->qo_indptr) ac_size_bind(&sizes, "T", (int64_t)r->batch * r->max_seqlen_q, "plan");
    ac_size_bind(&sizes, "H", r->num_heads, "plan");
    ac_size_bind(&sizes, "S", plan->num_kv_splits, "plan");
    ac_size_bind(&sizes, "B", r->batch, "plan");
    if (ac_check_tensors(args, rules, AC_COUNT(rules), &sizes, error) < 0) return -1;
    if (ac_check_own_memory(op_name, args, rules, AC_COUNT(rules), error) < 0) return -1;
    if (args->sink && ac_check_given(ARG(lse), error) < 0) return -1;

    const int64_t T = ac_size(&sizes, "T");
    const int64_t served = ac_min64(r->max_seqlen_q, T);
    const ac_mla_merge_params_t params = {
        .partial_o = ac_floats(args->logits),
        .partial_lse = ac_floats(args->attn_lse),
        .qo_indptr = ac_ints(args->qo_indptr),
        .o = args->o->data,
        .o_row_stride = ac_stride_bytes(args->o, 0),
        .o_head_stride = ac_stride_bytes(args->o, 1),
        .lse = ac_floats(args->lse),
        .num_rows = T,
        .num_partials = T * plan->num_kv_splits,
        .num_groups = r->batch,
        .num_heads = r->num_heads,
        .value_dim = AC_MLA_DV,
        .max_seqlen_q = (int32_t)served,
        .row_slots = (int32_t)served,
        .head_tiles = (int32_t)ac_kernel_tiles(plan->stage2, r->num_heads),
        .num_splits = plan->num_kv_splits,
        .o_dtype = (int32_t)args->o->dtype,
        .lists_are_complete = 1, /* stage 1 read them */
    };
    const int64_t items = ac_mla_merge_grid(plan, T);
    const ac_launch_t launch = {
        .kernel = plan->stage2,
        .params = &params,
        .params_bytes = sizeof params,
        .grid = items > 0 && plan->stage2->features & AC_TAKES_TURNS
                    ? AC_MERGE_TURNS_PER_UNIT * target.facts.compute_units
                    : items,
        .stream = stream,
        .writes = AC_WRITES_FINAL | (params.lse ? AC_WRITES_LSE : 0),
        .final_rows = params.o,
        .lse = params.lse,
    };
    if (ac_launch(&target, &launch, error) < 0) return -1;
    return args->sink ? ac_apply_sink(op_name, &target, args->o, args->lse, args->sink, stream, error) : 0;
}

#define AC_OP mla_decode_stage2
#define AC_OP_ARGS args_t
#define AC_OP_PARAMS "mla_decode/params_stage2.inc"
#define AC_OP_SUMMARY "Merge the partials of stage 1 by log-sum-exp. Refused when plan.writes_output."
#define AC_OP_NOTES                                                                                                    \
    "Raises TypeError, ValueError, BufferError, UnsupportedError, DeviceError; a refused call writes nothing."
#include "../define_op.inc"

const ac_op_t ac_op_mla_decode_stage2 = {
    .name = "mla_decode_stage2",
    .user_name = op_name,
    .doc = doc_mla_decode_stage2,
    .params = params_mla_decode_stage2,
    .param_count = AC_COUNT(params_mla_decode_stage2),
    .args_bytes = sizeof(args_t),
    .returns = AC_RETURNS_NONE,
    .plan_kind = &ac_plan_kind_mla_decode,
    .run = run,
};
