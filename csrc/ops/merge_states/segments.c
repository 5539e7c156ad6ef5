/* merge_segments: what decode has left of every row, a state per run of its keys, becomes the row. Up to two tensors of
 * states: of the keys of one list, and of another. The kernel is that of merge_states. */
#include "../../core/op.h"
#include "../../core/rules.h"
#include "../../device/device.h"
#include "kernel_params.h"
#include "vectors.h"

extern const ac_kernel_family_t ac_kernels_merge_states;

typedef struct {
    ac_view_t *segments, *lse, *more_segments, *more_lse, *out, *sink, *lse_out;
    int return_lse;
    ac_sizes_t sizes;
    ac_target_t target;
    const ac_kernel_t *kernel;
} args_t;

static const char op_name[] = "merge_segments";

#define ARG(field) ((ac_arg_t){op_name, #field, args->field})
#define RULE(field, dtypes, shape, flags) AC_RULE(args_t, field, dtypes, shape, flags)
#define FLOATS AC_SET(AC_FLOAT32)

static const ac_tensor_rule_t rules[] = {
    RULE(segments, FLOATS, "T H S D", AC_CONTIGUOUS | AC_LEADS),
    RULE(lse, FLOATS, "T H S", AC_CONTIGUOUS),
    RULE(more_segments, FLOATS, "T H R D", AC_CONTIGUOUS | AC_MAY_BE_NONE),
    RULE(more_lse, FLOATS, "T H R", AC_CONTIGUOUS | AC_MAY_BE_NONE),
    RULE(out, AC_HALF | FLOATS, "T H D", AC_DENSE_ROWS | AC_WRITTEN),
    RULE(sink, FLOATS, "H", AC_DENSE_ROWS | AC_MAY_BE_NONE),
    RULE(lse_out, FLOATS, "T H", AC_CONTIGUOUS | AC_WRITTEN | AC_MAY_BE_NONE),
};
enum { RULES = AC_COUNT(rules), INPUTS = RULES - 1 };

/* (row, head) pairs; a contiguous lse has so many elements at least, so the product is a number. */
static int64_t pair_count(const args_t *args) { return ac_size(&args->sizes, "T") * ac_size(&args->sizes, "H"); }

static int64_t grid_of(const args_t *args) {
    const int64_t pairs = pair_count(args), tile = args->kernel->tile_rows;
    return pairs / tile + (pairs % tile != 0);
}

static int check(void *arguments, const void *plan, ac_error_t *error) {
    args_t *args = arguments;
    (void)plan;
    if (args->more_segments && ac_check_given(ARG(more_lse), error) < 0) return -1;
    if (ac_find_target(op_name, "segments", args->segments->device, &args->target, error) < 0) return -1;
    if (args->segments->ndim == 4) ac_view_narrow(args->out, args->segments->shape[3]);
    ac_sizes_init(&args->sizes, op_name);
    if (ac_check_tensors(args, rules, INPUTS, &args->sizes, error) < 0) return -1;
    const ac_view_t *segments = args->segments;
    for (int dim = 1; dim < segments->ndim; dim++)
        if (ac_check_int(op_name, "segments.shape", segments->shape[dim], 1, INT32_MAX, error) < 0) return -1;
    const ac_kernel_request_t request = {
        .op = op_name,
        .family = &ac_kernels_merge_states,
        .keys = {AC_FLOAT32, args->out->dtype, ac_size(&args->sizes, "D")},
        .features = AC_WRITES_FINAL | AC_WRITES_LSE | (args->sink ? AC_SINK : 0),
        .rows = pair_count(args),
    };
    args->kernel = ac_choose_kernel(&request, args->target.facts.arch, error);
    if (!args->kernel) return -1;
    return ac_check_launch(op_name, "segments", args->kernel, grid_of(args), &args->target.facts, error);
}

static int find_workspaces(const void *arguments, const void *plan, ac_workspace_t *out, ac_error_t *error) {
    const args_t *args = arguments;
    (void)plan, (void)error;
    out[0] =
        (ac_workspace_t){args->return_lse, AC_FLOAT32, 2, {ac_size(&args->sizes, "T"), ac_size(&args->sizes, "H")}};
    return 0;
}

/* `count` states of every row; `before`: those of the other source, after which they are counted. Strides are computed:
 * those of a dimension of 1 may be anything. */
static ac_state_source_t source_of(const args_t *args, const ac_view_t *segments, const ac_view_t *lse, int64_t count,
                                   int64_t before) {
    const int64_t H = ac_size(&args->sizes, "H"), state = ac_size(&args->sizes, "D") * 4;
    return (ac_state_source_t){
        .o = (const char *)((intptr_t)segments->data - before * state),
        .lse = (const char *)((intptr_t)lse->data - before * 4),
        .o_row_stride = H * count * state,
        .o_head_stride = count * state,
        .lse_row_stride = H * count * 4,
        .lse_head_stride = count * 4,
    };
}

static bool are_whole_vectors(const args_t *args) {
    intptr_t addresses = (intptr_t)args->segments->data;
    if (args->more_segments) addresses |= (intptr_t)args->more_segments->data;
    return ac_is_whole_vectors(addresses) && ac_is_whole_vectors(ac_size(&args->sizes, "D") * 4) &&
           ac_rows_are_aligned(args->out);
}

static int run(void *arguments, const void *plan, intptr_t stream, ac_error_t *error) {
    args_t *args = arguments;
    (void)plan;
    if (ac_check_tensors(args, rules + INPUTS, 1, &args->sizes, error) < 0) return -1;
    if (ac_check_own_memory(op_name, args, rules, RULES, error) < 0) return -1;
    const int64_t S = ac_size(&args->sizes, "S"), R = args->more_segments ? ac_size(&args->sizes, "R") : 0;
    ac_merge_states_params_t p = {
        .o_stride = ac_size(&args->sizes, "D") * 4,
        .lse_stride = 4,
        .sink = ac_floats(args->sink),
        .out = args->out->data,
        .out_row_stride = ac_stride_bytes(args->out, 0),
        .out_head_stride = ac_stride_bytes(args->out, 1),
        .num_rows = ac_size(&args->sizes, "T"),
        .num_states = S + R,
        .num_heads = (int32_t)ac_size(&args->sizes, "H"),
        .value_dim = (int32_t)ac_size(&args->sizes, "D"),
        .o_dtype = AC_FLOAT32,
        .out_dtype = (int32_t)args->out->dtype,
        .together = S,
        .whole_vectors = are_whole_vectors(args),
        .sink_in_lse = 1,
        .spreads_nan = 1,
    };
    p.sources[0] = source_of(args, args->segments, args->lse, S, 0);
    if (R > 0) p.sources[1] = source_of(args, args->more_segments, args->more_lse, R, S);
    if (args->lse_out) {
        p.out_lse = args->lse_out->data;
        p.out_lse_row_stride = ac_stride_bytes(args->lse_out, 0);
        p.out_lse_head_stride = ac_stride_bytes(args->lse_out, 1);
    }
    const ac_launch_t launch = {
        .kernel = args->kernel,
        .params = &p,
        .params_bytes = sizeof p,
        .grid = grid_of(args),
        .stream = stream,
        .writes = AC_WRITES_FINAL | (p.out_lse ? AC_WRITES_LSE : 0),
        .final_rows = p.out,
        .lse = p.out_lse,
    };
    return ac_launch(&args->target, &launch, error);
}

#define AC_OP merge_segments
#define AC_OP_ARGS args_t
#define AC_OP_PARAMS "merge_states/params_segments.inc"
#define AC_OP_SUMMARY "Merge the segments that mla_decode_variant(segmented=True, natural=True) has left of every row."
#define AC_OP_NOTES                                                                                                    \
    "lse_out = ln(exp(sink) + sum_n exp(lse[n])), out = sum_n exp(lse[n] - lse_out) * segments[n], over the states "   \
    "of\n"                                                                                                             \
    "both tensors; a row that no state holds gives 0 and -inf, one with an LSE of NaN or +inf NaN. Sums as those of "  \
    "merge_states.\n"                                                                                                  \
    "Returns (lse_out,). Raises TypeError, ValueError, BufferError, UnsupportedError, DeviceError; a refused call\n"   \
    "writes nothing."
#include "../define_op.inc"

const ac_op_t ac_op_merge_segments = {
    .name = op_name,
    .user_name = op_name,
    .doc = doc_merge_segments,
    .params = params_merge_segments,
    .param_count = AC_COUNT(params_merge_segments),
    .args_bytes = sizeof(args_t),
    .returns = AC_RETURNS_WORKSPACES,
    .check = check,
    .workspaces = find_workspaces,
    .run = run,
};
