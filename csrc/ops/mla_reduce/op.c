/* mla_reduce_v1: merges partials by log-sum-exp in groups that a list names, with the kernels of stage 2 of MLA
 * decode. */
#include <inttypes.h>

#include "../../core/op.h"
#include "../../core/rules.h"
#include "../../device/device.h"
#include "../attention/work.h"
#include "../merge_states/sink.h"
#include "../mla_merge/kernel_params.h"

extern const ac_kernel_family_t ac_kernels_mla_merge;

static const char op_name[] = "mla_reduce_v1";

typedef struct {
    ac_view_t *partial_output, *partial_lse, *reduce_indptr, *reduce_final_map, *reduce_partial_map;
    ac_view_t *final_output, *final_lse, *sink;
    int64_t max_seqlen_q, num_kv_splits;
    int lists_are_complete;
    /* What the check found. */
    ac_sizes_t sizes;
    ac_target_t target;
    const ac_kernel_t *kernel;
} args_t;

#define RULE(field, dtypes, shape, flags) AC_RULE(args_t, field, dtypes, shape, flags)
#define OUTPUTS (AC_HALF | AC_SET(AC_FLOAT32))

static const ac_tensor_rule_t rules[] = {
    RULE(partial_output, AC_SET(AC_FLOAT32), "P H Dv|P 1 H Dv", AC_CONTIGUOUS | AC_LEADS),
    RULE(partial_lse, AC_SET(AC_FLOAT32), "P H|P H 1|P 1 H|P 1 H 1", AC_CONTIGUOUS),
    RULE(reduce_indptr, AC_SET(AC_INT32), "G+1", AC_DENSE_ROWS),
    RULE(reduce_final_map, AC_SET(AC_INT32), "G.. 2", AC_CONTIGUOUS | AC_MAY_BE_NONE),
    RULE(reduce_partial_map, AC_SET(AC_INT32), "n", AC_DENSE_ROWS),
    RULE(final_output, OUTPUTS, "N H Dv", AC_DENSE_ROWS | AC_WRITTEN),
    RULE(final_lse, AC_SET(AC_FLOAT32), "N H", AC_CONTIGUOUS | AC_WRITTEN | AC_MAY_BE_NONE),
    RULE(sink, AC_SET(AC_FLOAT32), "H", AC_DENSE_ROWS | AC_MAY_BE_NONE),
};
_Static_assert(AC_COUNT(rules) <= AC_MAX_TENSORS, "AC_MAX_TENSORS");

static int check_numbers(const args_t *args, ac_error_t *error) {
    const int64_t splits = args->num_kv_splits;
    if (ac_check_int(op_name, "max_seqlen_q", args->max_seqlen_q, 1, INT32_MAX, error) < 0) return -1;
    if (splits == AC_NO_INT || (splits >= -1 && splits <= INT32_MAX)) return 0;
    return ac_fail(error, AC_ERROR_VALUE,
                   "%s: num_kv_splits: expected None, -1 or 0 (automatic) or 1 to 2147483647, got %" PRId64, op_name,
                   splits);
}

static int check_sizes(const ac_sizes_t *sizes, ac_error_t *error) {
    if (ac_check_int(op_name, "partial_output.shape[-2]", ac_size(sizes, "H"), 1, INT32_MAX, error) < 0) return -1;
    return ac_check_int(op_name, "partial_output.shape[-1]", ac_size(sizes, "Dv"), 1, INT32_MAX, error);
}

static const ac_kernel_t *choose(const args_t *args, ac_error_t *error) {
    const ac_kernel_request_t request = {
        .op = op_name,
        .family = &ac_kernels_mla_merge,
        .keys = {args->final_output->dtype, ac_size(&args->sizes, "Dv")},
        .features = AC_WRITES_FINAL | AC_WRITES_LSE | AC_WORK_LIST,
        .rows = ac_size(&args->sizes, "H"),
    };
    return ac_choose_kernel(&request, args->target.facts.arch, error);
}

/* Work items with one row slot per group; INT64_MAX: too many to count. */
static int64_t slot_items(const args_t *args) {
    int64_t items;
    const int64_t tiles = ac_kernel_tiles(args->kernel, ac_size(&args->sizes, "H"));
    return __builtin_mul_overflow(ac_size(&args->sizes, "G"), tiles, &items) ? INT64_MAX : items;
}

static int check(void *arguments, const void *plan, ac_error_t *error) {
    args_t *args = arguments;
    (void)plan;
    if (check_numbers(args, error) < 0) return -1;
    if (args->sink && ac_check_given((ac_arg_t){op_name, "final_lse", args->final_lse}, error) < 0) return -1;
    if (ac_find_target(op_name, "partial_output", args->partial_output->device, &args->target, error) < 0) return -1;
    ac_sizes_init(&args->sizes, op_name);
    if (ac_check_tensors(args, rules, AC_COUNT(rules), &args->sizes, error) < 0) return -1;
    if (ac_check_own_memory(op_name, args, rules, AC_COUNT(rules), error) < 0) return -1;
    if (check_sizes(&args->sizes, error) < 0) return -1;
    args->kernel = choose(args, error);
    if (!args->kernel) return -1;
    return ac_check_launch(op_name, "reduce_indptr", args->kernel, slot_items(args), &args->target.facts, error);
}

/* Rows of a group that have work items of their own: no more than a launch holds. Later rows follow in the same items,
 * so that max_seqlen_q may be any number. */
static int64_t row_slots(const args_t *args) {
    const int64_t wanted = ac_min64(args->max_seqlen_q, ac_size(&args->sizes, "N"));
    const int64_t held = ac_max_grid(args->kernel, &args->target.facts) / ac_max64(slot_items(args), 1);
    return ac_max64(ac_min64(wanted, held), 1);
}

static void fill_params(const args_t *args, ac_mla_merge_params_t *p) {
    const int64_t H = ac_size(&args->sizes, "H");
    p->partial_o = ac_floats(args->partial_output);
    p->partial_lse = ac_floats(args->partial_lse);
    p->reduce_indptr = ac_ints(args->reduce_indptr);
    p->final_map = ac_ints(args->reduce_final_map);
    p->partial_map = ac_ints(args->reduce_partial_map);
    p->o = args->final_output->data;
    p->o_row_stride = ac_stride_bytes(args->final_output, 0);
    p->o_head_stride = ac_stride_bytes(args->final_output, 1);
    p->lse = ac_floats(args->final_lse);
    p->num_rows = ac_size(&args->sizes, "N");
    p->num_partials = ac_size(&args->sizes, "P");
    p->num_entries = ac_size(&args->sizes, "n");
    p->num_groups = ac_size(&args->sizes, "G");
    p->num_heads = (int32_t)H;
    p->value_dim = (int32_t)ac_size(&args->sizes, "Dv");
    p->max_seqlen_q = (int32_t)args->max_seqlen_q;
    p->row_slots = (int32_t)row_slots(args);
    p->head_tiles = (int32_t)ac_kernel_tiles(args->kernel, H);
    p->o_dtype = (int32_t)args->final_output->dtype;
    p->lists_are_complete = args->lists_are_complete;
}

static int64_t find_grid(const args_t *args, const ac_mla_merge_params_t *params) {
    const int64_t items = params->num_rows ? slot_items(args) * params->row_slots : 0;
    return items > 0 && args->kernel->features & AC_TAKES_TURNS
               ? AC_MERGE_TURNS_PER_UNIT * args->target.facts.compute_units
               : items;
}

static int run(void *arguments, const void *plan, intptr_t stream, ac_error_t *error) {
    const args_t *args = arguments;
    ac_mla_merge_params_t params = {0};
    (void)plan;
    fill_params(args, &params);
    const ac_launch_t launch = {
        .kernel = args->kernel,
        .params = &params,
        .params_bytes = sizeof params,
        .grid = find_grid(args, &params),
        .stream = stream,
        .writes = AC_WRITES_FINAL | (params.lse ? AC_WRITES_LSE : 0),
        .final_rows = params.o,
        .lse = params.lse,
    };
    if (ac_launch(&args->target, &launch, error) < 0) return -1;
    if (!args->sink) return 0;
    return ac_apply_sink(op_name, &args->target, args->final_output, args->final_lse, args->sink, stream, error);
}

#define AC_OP mla_reduce_v1
#define AC_OP_ARGS args_t
#define AC_OP_PARAMS "mla_reduce/params.inc"
#define AC_OP_SUMMARY "Merge the partials of split attention by log-sum-exp, group by group."
#define AC_OP_NOTES                                                                                                    \
    "G groups, N final rows, P rows of partials, H heads, Dv values; any H and Dv. For final row r of group i,\n"      \
    "with s over the partials of the group (r counts from the group's first final row):\n\n"                           \
    "    final_lse = ln(sum_s exp(partial_lse[s, r]))\n"                                                               \
    "    final_output = sum_s exp(partial_lse[s, r] - final_lse) * partial_output[s, r]\n\n"                           \
    "in the order of the list: the same call gives the same bits. A group of one partial is a copy. Rows whose\n"      \
    "partials all hold nothing are 0, and their LSE is -inf. Rows of a group without entries, and rows of no group,\n" \
    "are not written; rows of two groups hold what either gives. No value in an index tensor is an error, and none\n"  \
    "makes the op touch memory outside its arguments.\n\n"                                                             \
    "Returns None. Raises TypeError, ValueError, BufferError, UnsupportedError, DeviceError; a refused call writes\n"  \
    "nothing."
#include "../define_op.inc"

const ac_op_t ac_op_mla_reduce_v1 = {
    .name = "mla_reduce_v1",
    .user_name = op_name,
    .doc = doc_mla_reduce_v1,
    .params = params_mla_reduce_v1,
    .param_count = AC_COUNT(params_mla_reduce_v1),
    .args_bytes = sizeof(args_t),
    .returns = AC_RETURNS_NONE,
    .check = check,
    .run = run,
};
