/* merge_states and merge_attn_states: attention over several sets of keys, each with its own o and LSE, merged by
 * log-sum-exp into attention over all of them. Two ops that differ in how they are told the states. */
#include <inttypes.h>
#include <stdio.h>

#include "../../core/op.h"
#include "../../core/rules.h"
#include "../../device/device.h"
#include "kernel_params.h"
#include "vectors.h"

extern const ac_kernel_family_t ac_kernels_merge_states;

/* Layouts of an LSE, as the Python names count. */
enum { LSE_TH, LSE_HT };
static const char *const lse_layouts[] = {"th", "ht", NULL};

/* The arguments of both by their Python names. Those of merge_attn_states are copied to the others. */
typedef struct {
    ac_tensors_arg_t o, lse;
    ac_view_t *out, *lse_out, *sink;
    int lse_layout;
    ac_view_t *output, *prefix_output, *prefix_lse, *suffix_output, *suffix_lse, *output_lse;
    /* What the check found. */
    const ac_tensor_rule_t *rules; /* RULES of them */
    bool is_fresh;                 /* an output is to be allocated */
    ac_sizes_t sizes;
    ac_target_t target;
    const ac_kernel_t *kernel;
} args_t;
_Static_assert(AC_MERGE_STATES_TENSORS == AC_MAX_SEQUENCE, "as many sources as a sequence may have");

#define RULE(field, dtypes, shape, flags) AC_RULE(args_t, field, dtypes, shape, flags)
#define VALUES (AC_HALF | AC_SET(AC_FLOAT32))
#define FLOATS AC_SET(AC_FLOAT32)
#define STATES (AC_DENSE_ROWS | AC_EACH | AC_LEADS)
#define OUTPUT (AC_WRITTEN | AC_IN_PLACE | AC_MAY_BE_NONE)
#define RULES_OF(o_shape, lse_shape, out_lse_shape)                                                                    \
    {                                                                                                                  \
        RULE(o, VALUES, o_shape, STATES),                                                                              \
        RULE(lse, FLOATS, lse_shape, AC_EACH),                                                                         \
        RULE(out, VALUES, "T H D", AC_DENSE_ROWS | OUTPUT),                                                            \
        RULE(lse_out, FLOATS, out_lse_shape, OUTPUT),                                                                  \
        RULE(sink, FLOATS, "H", AC_DENSE_ROWS | AC_MAY_BE_NONE),                                                       \
    }
#define RULES 5
enum { OUT_RULE = 2, OUTPUTS = 2 };

/* [one tensor or a sequence][layout of the LSE] */
static const ac_tensor_rule_t rules[2][2][RULES] = {
    {RULES_OF("N T H D", "N T H", "T H"), RULES_OF("N T H D", "N H T", "H T")},
    {RULES_OF("T H D", "T H", "T H"), RULES_OF("T H D", "H T", "H T")},
};

static const ac_tensor_rule_t two_rules[] = {
    RULE(output, VALUES, "T H D", AC_DENSE_ROWS | AC_WRITTEN | AC_IN_PLACE | AC_LEADS),
    RULE(prefix_output, VALUES, "T H D", AC_DENSE_ROWS),
    RULE(prefix_lse, FLOATS, "H T", 0),
    RULE(suffix_output, VALUES, "T H D", AC_DENSE_ROWS),
    RULE(suffix_lse, FLOATS, "H T", 0),
    RULE(output_lse, FLOATS, "H T", OUTPUT),
    RULE(sink, FLOATS, "H", AC_DENSE_ROWS | AC_MAY_BE_NONE),
};

/* o and lse are both one tensor, or as many tensors. */
static int check_states(const char *op, const args_t *args, ac_error_t *error) {
    if (args->o.is_sequence != args->lse.is_sequence)
        return ac_fail(error, AC_ERROR_TYPE, "%s: lse: expected %s as o is, got %s", op,
                       args->o.is_sequence ? "a list or tuple of tensors" : "one tensor",
                       args->o.is_sequence ? "one tensor" : "a list or tuple of tensors");
    if (args->o.count == args->lse.count) return 0;
    return ac_fail(error, AC_ERROR_VALUE, "%s: lse: expected as many tensors as o has (%d), got %d", op, args->o.count,
                   args->lse.count);
}

/* One dtype for all states; `name` has a place for the number of one. */
static int check_dtypes(const char *op, const args_t *args, const char *name, ac_error_t *error) {
    const ac_dtype_t first = args->o.views[0]->dtype;
    char text[AC_MAX_NAME];
    for (int i = 1; i < args->o.count; i++) {
        if (args->o.views[i]->dtype == first) continue;
        snprintf(text, sizeof text, name, i);
        return ac_fail(error, AC_ERROR_TYPE, "%s: %s: expected dtype %s, as the first state has, got %s", op, text,
                       ac_dtype_name(first), ac_dtype_name(args->o.views[i]->dtype));
    }
    return 0;
}

static int check_sizes(const char *op, const char *name, const args_t *args, ac_error_t *error) {
    static const struct {
        const char *symbol, *end;
    } sizes[] = {{"N", ".shape[0]"}, {"H", ".shape[-2]"}, {"D", ".shape[-1]"}};
    char text[AC_MAX_NAME];
    for (int i = 0; i < AC_COUNT(sizes); i++) {
        const int64_t size = ac_size(&args->sizes, sizes[i].symbol);
        snprintf(text, sizeof text, "%s%s", name, sizes[i].end);
        if (i == 0 && args->o.is_sequence) continue; /* N is the number of tensors */
        if (ac_check_int(op, text, size, 1, INT32_MAX, error) < 0) return -1;
    }
    return 0;
}

/* (row, head) pairs; INT64_MAX: too many to count. */
static int64_t pair_count(const args_t *args) {
    int64_t pairs;
    return __builtin_mul_overflow(ac_size(&args->sizes, "T"), ac_size(&args->sizes, "H"), &pairs) ? INT64_MAX : pairs;
}

/* Work items; 0 pairs are none. */
static int64_t grid_of(const args_t *args) {
    const int64_t pairs = pair_count(args), tile = args->kernel->tile_rows;
    return pairs / tile + (pairs % tile != 0);
}

/* `name`: the argument that the sizes come from. */
static int find_kernel(const char *op, const char *name, args_t *args, ac_error_t *error) {
    const ac_dtype_t dtype = args->o.views[0]->dtype;
    const ac_kernel_request_t request = {
        .op = op,
        .family = &ac_kernels_merge_states,
        .keys = {dtype, args->out ? args->out->dtype : dtype, ac_size(&args->sizes, "D")},
        .features = AC_WRITES_FINAL | AC_WRITES_LSE | (args->sink ? AC_SINK : 0),
        .rows = pair_count(args),
    };
    args->kernel = ac_choose_kernel(&request, args->target.facts.arch, error);
    if (!args->kernel) return -1;
    return ac_check_launch(op, name, args->kernel, grid_of(args), &args->target.facts, error);
}

static const char one_name[] = "merge_states", two_name[] = "merge_attn_states";

static int check_one(void *arguments, const void *plan, ac_error_t *error) {
    args_t *args = arguments;
    (void)plan;
    if (check_states(one_name, args, error) < 0) return -1;
    if (ac_find_target(one_name, "o", args->o.views[0]->device, &args->target, error) < 0) return -1;
    args->rules = rules[args->o.is_sequence][args->lse_layout];
    args->is_fresh = !args->out || !args->lse_out;
    ac_sizes_init(&args->sizes, one_name);
    if (ac_check_tensors(args, args->rules, RULES, &args->sizes, error) < 0) return -1;
    if (check_dtypes(one_name, args, "o[%d]", error) < 0) return -1;
    if (check_sizes(one_name, args->o.is_sequence ? "o[0]" : "o", args, error) < 0) return -1;
    if (ac_check_own_memory(one_name, args, args->rules, RULES, error) < 0) return -1;
    return find_kernel(one_name, "o", args, error);
}

static int find_workspaces(const void *arguments, const void *plan, ac_workspace_t *out, ac_error_t *error) {
    const args_t *args = arguments;
    const int64_t T = ac_size(&args->sizes, "T"), H = ac_size(&args->sizes, "H"), D = ac_size(&args->sizes, "D");
    const bool heads_first = args->lse_layout == LSE_HT;
    (void)plan, (void)error;
    out[0] = (ac_workspace_t){!args->out, args->o.views[0]->dtype, 3, {T, H, D}};
    out[1] = (ac_workspace_t){!args->lse_out, AC_FLOAT32, 2, {heads_first ? H : T, heads_first ? T : H}};
    return 0;
}

static int check_two(void *arguments, const void *plan, ac_error_t *error) {
    args_t *args = arguments;
    (void)plan;
    if (ac_find_target(two_name, "output", args->output->device, &args->target, error) < 0) return -1;
    ac_sizes_init(&args->sizes, two_name);
    if (ac_check_tensors(args, two_rules, AC_COUNT(two_rules), &args->sizes, error) < 0) return -1;
    if (ac_check_own_memory(two_name, args, two_rules, AC_COUNT(two_rules), error) < 0) return -1;
    args->o = (ac_tensors_arg_t){2, true, {args->prefix_output, args->suffix_output}};
    args->lse = (ac_tensors_arg_t){2, true, {args->prefix_lse, args->suffix_lse}};
    args->out = args->output;
    args->lse_out = args->output_lse;
    args->lse_layout = LSE_HT;
    if (check_dtypes(two_name, args, "suffix_output", error) < 0) return -1;
    if (check_sizes(two_name, "output", args, error) < 0) return -1;
    return find_kernel(two_name, "output", args, error);
}

/* Strides of an LSE: from row to row, and from head to head. */
static void lse_strides(const args_t *args, const ac_view_t *lse, int64_t *out_row, int64_t *out_head) {
    const int last = lse->ndim - 1, row = args->lse_layout == LSE_HT ? last : last - 1;
    *out_row = ac_stride_bytes(lse, row);
    *out_head = ac_stride_bytes(lse, row == last ? last - 1 : last);
}

/* Whether every row of the sources is whole vectors, and all rows, the output's as well, begin at aligned addresses. */
static bool are_whole_vectors(const args_t *args) {
    bool whole = ac_is_whole_vectors(ac_size(&args->sizes, "D") * ac_dtype_bytes(args->o.views[0]->dtype));
    for (int i = 0; i < args->o.count; i++) whole &= ac_rows_are_aligned(args->o.views[i]);
    return whole && ac_rows_are_aligned(args->out);
}

static void fill_params(const args_t *args, ac_merge_states_params_t *p) {
    const ac_view_t *out = args->out, *lse_out = args->lse_out;
    const bool together = !args->o.is_sequence;
    for (int i = 0; i < args->o.count; i++) {
        const ac_view_t *o = args->o.views[i], *lse = args->lse.views[i];
        ac_state_source_t *source = &p->sources[i];
        source->o = o->data;
        source->lse = lse->data;
        source->o_row_stride = ac_stride_bytes(o, o->ndim - 3);
        source->o_head_stride = ac_stride_bytes(o, o->ndim - 2);
        lse_strides(args, lse, &source->lse_row_stride, &source->lse_head_stride);
    }
    if (together) {
        p->o_stride = ac_stride_bytes(args->o.views[0], 0);
        p->lse_stride = ac_stride_bytes(args->lse.views[0], 0);
    }
    p->sink = ac_floats(args->sink);
    p->out = out->data;
    p->out_row_stride = ac_stride_bytes(out, 0);
    p->out_head_stride = ac_stride_bytes(out, 1);
    if (lse_out) {
        p->out_lse = lse_out->data;
        lse_strides(args, lse_out, &p->out_lse_row_stride, &p->out_lse_head_stride);
    }
    p->num_rows = ac_size(&args->sizes, "T");
    p->num_states = together ? ac_size(&args->sizes, "N") : args->o.count;
    p->num_heads = (int32_t)ac_size(&args->sizes, "H");
    p->value_dim = (int32_t)ac_size(&args->sizes, "D");
    p->o_dtype = (int32_t)args->o.views[0]->dtype;
    p->out_dtype = (int32_t)out->dtype;
    p->together = together ? p->num_states : 0;
    p->whole_vectors = are_whole_vectors(args);
}

static int run(void *arguments, const void *plan, intptr_t stream, ac_error_t *error) {
    args_t *args = arguments;
    ac_merge_states_params_t params = {0};
    (void)plan;
    if (args->is_fresh) { /* a test's allocator gives anything */
        if (ac_check_tensors(args, args->rules + OUT_RULE, OUTPUTS, &args->sizes, error) < 0) return -1;
        if (ac_check_own_memory(one_name, args, args->rules, RULES, error) < 0) return -1;
    }
    fill_params(args, &params);
    const ac_launch_t launch = {
        .kernel = args->kernel,
        .params = &params,
        .params_bytes = sizeof params,
        .grid = grid_of(args),
        .stream = stream,
        .writes = AC_WRITES_FINAL | (params.out_lse ? AC_WRITES_LSE : 0),
        .final_rows = params.out,
        .lse = params.out_lse,
    };
    return ac_launch(&args->target, &launch, error);
}

#define NOTES                                                                                                          \
    "in the order of the states, in fp32: the same inputs give the same bits, whatever runs beside, in place or "      \
    "not.\n"                                                                                                           \
    "With a sink the weights of the output are exp(lse[n] - ln(exp(lse) + exp(sink))); the LSE leaves it out. A row\n" \
    "whose states hold nothing gives 0 and -inf, with or without a sink. One state alone is a copy, rounded once.\n"   \
    "An output may be an input itself (the same addresses, sizes and strides); other shared memory is refused.\n\n"

#define AC_OP merge_states
#define AC_OP_ARGS args_t
#define AC_OP_PARAMS "merge_states/params.inc"
#define AC_OP_SUMMARY "Merge N attention states, each over keys of its own, into the state over all keys."
#define AC_OP_NOTES                                                                                                    \
    "T rows, H heads, D values; any of them, and any N in one tensor. For every row and head:\n\n"                     \
    "    lse_out = ln(sum_n exp(lse[n]))\n"                                                                            \
    "    out = sum_n exp(lse[n] - lse_out) * o[n]\n\n" NOTES "Returns (out, lse_out). Raises TypeError, ValueError, "  \
    "BufferError, UnsupportedError, DeviceError; a refused\n"                                                          \
    "call writes nothing."
#include "../define_op.inc"

#define AC_OP merge_attn_states
#define AC_OP_ARGS args_t
#define AC_OP_PARAMS "merge_states/params_two.inc"
#define AC_OP_SUMMARY "Merge the attention states of a prefix and a suffix of the keys, in vLLM's form."
#define AC_OP_NOTES                                                                                                    \
    "T rows, H heads, D values. For every row and head, with n over prefix and suffix:\n\n"                            \
    "    output_lse = ln(sum_n exp(lse[n]))\n"                                                                         \
    "    output = sum_n exp(lse[n] - output_lse) * o[n]\n\n" NOTES "Returns None. Raises TypeError, ValueError, "      \
    "BufferError, UnsupportedError, DeviceError; a "                                                                   \
    "refused call writes\n"                                                                                            \
    "nothing."
#include "../define_op.inc"

const ac_op_t ac_op_merge_states = {
    .name = one_name,
    .user_name = one_name,
    .doc = doc_merge_states,
    .params = params_merge_states,
    .param_count = AC_COUNT(params_merge_states),
    .args_bytes = sizeof(args_t),
    .returns = AC_RETURNS_WORKSPACES,
    .check = check_one,
    .workspaces = find_workspaces,
    .run = run,
};

const ac_op_t ac_op_merge_attn_states = {
    .name = two_name,
    .user_name = two_name,
    .doc = doc_merge_attn_states,
    .params = params_merge_attn_states,
    .param_count = AC_COUNT(params_merge_attn_states),
    .args_bytes = sizeof(args_t),
    .returns = AC_RETURNS_NONE,
    .check = check_two,
    .run = run,
};
