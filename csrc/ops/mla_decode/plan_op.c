/* Plans and split counts from plain numbers, without a tensor: aiter_c.mla_plan and _C.choose_kv_splits. */
#include <inttypes.h>

#include "../../core/op.h"
#include "../../core/rules.h"
#include "../../device/device.h"
#include "stage2.h"

typedef struct {
    int64_t batch, num_heads, max_seqlen_q, page_size, num_kv_splits, max_kv_len, kv_lora_rank, qk_rope_head_dim;
    int64_t num_workers;
    ac_dtype_t q_dtype;
    int kv_dtype; /* an ac_dtype_t, or AC_DTYPE_CHOICE + an ac_kv_format_t */
    int return_lse, deterministic;
    ac_device_t device;
} plan_args_t;

static const char plan_name[] = "mla_plan";

/* What an int32 field of the plan takes; the planner knows the ranges that make sense. */
static int check_int32(const char *op, const char *name, int64_t value, int64_t low, ac_error_t *error) {
    return ac_check_int(op, name, value, low, INT32_MAX, error);
}

static int check_plan(void *arguments, const void *plan, ac_error_t *error) {
    const plan_args_t *args = arguments;
    (void)plan;
    const struct {
        const char *name;
        int64_t value, low;
    } numbers[] = {{"batch", args->batch, 0},
                   {"num_heads", args->num_heads, 1},
                   {"max_seqlen_q", args->max_seqlen_q, 1},
                   {"page_size", args->page_size, 1},
                   {"num_workers", args->num_workers == AC_NO_INT ? 0 : args->num_workers, 0},
                   {"kv_lora_rank", args->kv_lora_rank, INT32_MIN},
                   {"qk_rope_head_dim", args->qk_rope_head_dim, INT32_MIN}};
    for (int i = 0; i < AC_COUNT(numbers); i++)
        if (check_int32(plan_name, numbers[i].name, numbers[i].value, numbers[i].low, error) < 0) return -1;
    const int64_t splits = args->num_kv_splits;
    if (splits == AC_NO_INT || splits == AC_MLA_AUTO_SPLITS || (splits >= 1 && splits <= INT32_MAX)) return 0;
    return ac_fail(error, AC_ERROR_VALUE,
                   "%s: num_kv_splits: expected None or -1 (automatic) or 1 to 2147483647, got %" PRId64, plan_name,
                   splits);
}

/* The upper bound of all KV lengths together, or -1 where max_kv_len is None. */
static int find_total_kv(const plan_args_t *args, int64_t *out_total_kv, ac_error_t *error) {
    *out_total_kv = -1;
    if (args->max_kv_len == AC_NO_INT) return 0;
    if (args->max_kv_len >= 0 && !__builtin_mul_overflow(args->max_kv_len, args->batch, out_total_kv)) return 0;
    return ac_fail(error, AC_ERROR_VALUE,
                   "%s: max_kv_len: expected 0 or more and batch * max_kv_len below 2**63, got %" PRId64, plan_name,
                   args->max_kv_len);
}

static int make_plan(const void *arguments, void *out_plan, ac_error_t *error) {
    const plan_args_t *args = arguments;
    const int format = args->kv_dtype - AC_DTYPE_CHOICE;
    const bool records = format > AC_KV_PLAIN; /* "plain" names no dtype, and is refused as one */
    ac_target_t target;
    int64_t total_kv;
    if (format == AC_KV_PLAIN)
        return ac_fail(error, AC_ERROR_TYPE, "%s: kv_dtype: expected a dtype with a plain cache, got 'plain'",
                       plan_name);
    if (find_total_kv(args, &total_kv, error) < 0) return -1;
    if (ac_find_target(plan_name, "device", args->device, &target, error) < 0) return -1;
    const ac_mla_request_t request = {
        .batch = (int32_t)args->batch,
        .num_heads = (int32_t)args->num_heads,
        .max_seqlen_q = (int32_t)args->max_seqlen_q,
        .page_size = (int32_t)args->page_size,
        .q_dtype = args->q_dtype,
        .kv_dtype = records ? AC_UINT8 : (ac_dtype_t)args->kv_dtype,
        .o_dtype = AC_DTYPE_NONE,
        .kv_format = records ? format : AC_KV_PLAIN,
        .kv_lora_rank = (int32_t)args->kv_lora_rank,
        .rope_dim = (int32_t)args->qk_rope_head_dim,
        .num_kv_splits = args->num_kv_splits == AC_NO_INT ? AC_MLA_AUTO_SPLITS : (int32_t)args->num_kv_splits,
        .num_workers = args->num_workers == AC_NO_INT ? 0 : (int32_t)args->num_workers,
        .total_kv = total_kv,
        .return_lse = args->return_lse,
        .deterministic = args->deterministic,
        .device = args->device,
        .arch = (int32_t)target.facts.arch,
        .compute_units = target.facts.compute_units,
    };
    return ac_mla_plan(plan_name, &request, out_plan, error);
}

#define AC_OP mla_plan
#define AC_OP_ARGS plan_args_t
#define AC_OP_PARAMS "mla_decode/params_plan.inc"
#define AC_OP_SUMMARY "Plan MLA decode from plain numbers: kernels, splits, grid and workspace, without a tensor."
#define AC_OP_NOTES                                                                                                    \
    "Raises TypeError (wrong type, unknown dtype), ValueError (range), UnsupportedError (no kernel, no runtime)."
#include "../define_op.inc"

const ac_op_t ac_op_mla_plan = {
    .name = plan_name,
    .user_name = plan_name,
    .doc = doc_mla_plan,
    .params = params_mla_plan,
    .param_count = AC_COUNT(params_mla_plan),
    .args_bytes = sizeof(plan_args_t),
    .returns = AC_RETURNS_PLAN,
    .plan_kind = &ac_plan_kind_mla_decode,
    .check = check_plan,
    .make_plan = make_plan,
};

typedef struct {
    int64_t result; /* first: AC_RETURNS_INT */
    int64_t num_kv_splits, batch, total_kv, num_heads, max_seqlen_q, groups, compute_units;
    int is_fp8, ignore_total_kv;
} splits_args_t;

static const char splits_name[] = "choose_kv_splits";

static int choose_splits(void *arguments, const void *plan, intptr_t stream, ac_error_t *error) {
    splits_args_t *args = arguments;
    const int64_t asked = args->num_kv_splits == AC_NO_INT ? AC_MLA_AUTO_SPLITS : args->num_kv_splits;
    (void)plan, (void)stream;
    const struct {
        const char *name;
        int64_t value;
    } numbers[] = {{"num_kv_splits", asked},
                   {"num_heads", args->num_heads},
                   {"max_seqlen_q", args->max_seqlen_q},
                   {"groups", args->groups},
                   {"compute_units", args->compute_units}};
    for (int i = 0; i < AC_COUNT(numbers); i++)
        if (check_int32(splits_name, numbers[i].name, numbers[i].value, INT32_MIN, error) < 0) return -1;
    args->result = ac_mla_choose_splits((int32_t)asked, args->batch, args->total_kv, (int32_t)args->num_heads,
                                        (int32_t)args->max_seqlen_q, args->is_fp8, (int32_t)args->groups,
                                        args->ignore_total_kv, (int32_t)args->compute_units);
    return 0;
}

#define AC_OP choose_kv_splits
#define AC_OP_ARGS splits_args_t
#define AC_OP_PARAMS "mla_decode/params_splits.inc"
#define AC_OP_SUMMARY "AITER's split heuristic: the number of KV splits for so many requests and KV rows."
#define AC_OP_NOTES "Raises TypeError (wrong type), ValueError (range)."
#include "../define_op.inc"

const ac_op_t ac_op_choose_kv_splits = {
    .name = splits_name,
    .user_name = splits_name,
    .doc = doc_choose_kv_splits,
    .params = params_choose_kv_splits,
    .param_count = AC_COUNT(params_choose_kv_splits),
    .args_bytes = sizeof(splits_args_t),
    .returns = AC_RETURNS_INT,
    .run = choose_splits,
};
