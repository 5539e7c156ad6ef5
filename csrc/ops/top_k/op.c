/* Top-k of every row of a matrix, within a window of its columns: check -> launch. Two ops that differ in how they are
 * told the windows. Where there are fewer rows than threads or compute units, and no kernel has several workgroups for
 * a row, long rows are cut into parts: see kernel_params.h. */
#include <inttypes.h>

#include "../../core/op.h"
#include "../../core/rules.h"
#include "../../device/device.h"
#include "gpu_local.h"
#include "kernel_params.h"

extern const ac_kernel_family_t ac_kernels_top_k;

/* The arguments of both by their Python names; those that the other op has are NULL. */
typedef struct {
    ac_view_t *logits, *rowStarts, *rowEnds, *seqLens, *indices, *values, *candidate_indices, *candidate_values;
    int64_t next_n, numRows, stride0, stride1, k;
    int stable;
    /* What the check found. */
    int64_t num_rows, columns, part_k;
    int32_t parts;
    ac_sizes_t sizes;
    ac_target_t target;
    const ac_kernel_t *kernel;
} args_t;

#define RULE(field, dtypes, shape, flags) AC_RULE(args_t, field, dtypes, shape, flags)
#define INTS AC_SET(AC_INT32)
#define FLOATS AC_SET(AC_FLOAT32)

static const ac_tensor_rule_t prefill_rules[] = {
    RULE(logits, FLOATS, "numRows.. columns", AC_DENSE_ROWS | AC_LEADS),
    RULE(rowStarts, INTS, "numRows..", AC_DENSE_ROWS),
    RULE(rowEnds, INTS, "numRows..", AC_DENSE_ROWS),
    RULE(indices, INTS, "numRows.. k..", AC_DENSE_ROWS | AC_WRITTEN),
    RULE(values, FLOATS, "numRows.. k..", AC_DENSE_ROWS | AC_WRITTEN | AC_MAY_BE_NONE),
};
static const ac_tensor_rule_t decode_rules[] = {
    RULE(logits, FLOATS, "numRows.. columns", AC_DENSE_ROWS | AC_LEADS),
    RULE(seqLens, INTS, "requests..", AC_DENSE_ROWS),
    RULE(indices, INTS, "numRows.. k..", AC_DENSE_ROWS | AC_WRITTEN),
};
static const ac_tensor_rule_t candidate_rules[] = {
    RULE(candidate_indices, INTS, "numRows parts part_k", AC_CONTIGUOUS | AC_WRITTEN),
    RULE(candidate_values, FLOATS, "numRows parts part_k", AC_CONTIGUOUS | AC_WRITTEN),
    RULE(logits, 0, NULL, 0),
    RULE(rowStarts, 0, NULL, AC_MAY_BE_NONE),
    RULE(rowEnds, 0, NULL, AC_MAY_BE_NONE),
    RULE(seqLens, 0, NULL, AC_MAY_BE_NONE),
    RULE(indices, 0, NULL, 0),
    RULE(values, 0, NULL, AC_MAY_BE_NONE),
};

/* stride0 and stride1 repeat what the tensor says; where the tensor's own stride has a meaning, they have to agree. */
static int check_stride(const char *op, const char *name, const ac_view_t *logits, int dim, int64_t got,
                        ac_error_t *error) {
    if (logits->shape[dim] <= 1 || ac_view_numel(logits) == 0 || got == logits->stride[dim]) return 0;
    return ac_fail(error, AC_ERROR_VALUE, "%s: %s: expected %" PRId64 " (logits.stride(%d)), got %" PRId64, op, name,
                   logits->stride[dim], dim, got);
}

/* Into how many parts rows are cut: as many as keep every thread, or compute unit, busy, while a part is much longer
 * than what it hands on, and long enough to be worth a second launch. On a GPU one workgroup then has to be done with
 * all that the parts of a row hand on, so that more parts do not always pay. */
static int32_t choose_parts(const args_t *args) {
    const bool on_cpu = args->target.device.type == AC_DEVICE_CPU;
    const int64_t least_columns = args->part_k * 4 > 16384 ? args->part_k * 4 : 16384;
    const int64_t by_units = args->target.facts.compute_units / (args->num_rows > 0 ? args->num_rows : 1);
    const int64_t by_columns = args->columns / least_columns;
    int64_t parts = by_units < by_columns ? by_units : by_columns;
    if (!on_cpu && args->columns <= AC_TOP_K_WHOLE_COLUMNS) parts = 1;
    while (!on_cpu && parts > 1 && parts * parts * args->part_k > args->columns) parts--;
    return parts > 1 ? (int32_t)parts : 1;
}

#define WORKGROUPS 4 /* the kernel's fact */

/* The kernel for the rows, and on a GPU for how many of them each compute unit has. */
static int find_kernel(args_t *args, const char *op, ac_error_t *error) {
    const int64_t units = args->target.facts.compute_units, items = args->num_rows * args->parts;
    const ac_kernel_request_t request = {
        .op = op,
        .family = &ac_kernels_top_k,
        .keys = {args->logits->dtype, args->columns, items / units + (items % units != 0), args->num_rows},
        .features = AC_WRITES_FINAL | (args->parts > 1 ? AC_WRITES_PARTIALS : 0),
        .rows = 1,
    };
    args->kernel = ac_choose_kernel(&request, args->target.facts.arch, error);
    if (!args->kernel) return -1;
    return ac_check_launch(op, "numRows", args->kernel, items * args->kernel->keys[WORKGROUPS], &args->target.facts,
                           error);
}

static int check(args_t *args, const char *op, const ac_tensor_rule_t *rules, int rule_count, ac_error_t *error) {
    ac_sizes_t *sizes = &args->sizes;
    if (ac_check_int(op, "k", args->k, 0, INT32_MAX, error) < 0) return -1;
    if (ac_find_target(op, "logits", args->logits->device, &args->target, error) < 0) return -1;
    args->num_rows = args->numRows > 0 ? args->numRows : 0;
    ac_sizes_init(sizes, op);
    ac_size_bind(sizes, "numRows", args->num_rows, "numRows");
    ac_size_bind(sizes, "k", args->k, "k");
    if (args->seqLens) {
        if (ac_check_int(op, "next_n", args->next_n, 1, INT32_MAX, error) < 0) return -1;
        const int64_t rest = args->num_rows % args->next_n != 0;
        ac_size_bind(sizes, "requests", args->num_rows / args->next_n + rest, "numRows / next_n");
    }
    if (ac_check_tensors(args, rules, rule_count, sizes, error) < 0) return -1;
    args->columns = ac_size(sizes, "columns");
    if (ac_check_int(op, "logits.shape[1]", args->columns, 0, INT32_MAX, error) < 0) return -1;
    if (check_stride(op, "stride0", args->logits, 0, args->stride0, error) < 0) return -1;
    if (check_stride(op, "stride1", args->logits, 1, args->stride1, error) < 0) return -1;
    if (ac_check_own_memory(op, args, rules, rule_count, error) < 0) return -1;

    args->part_k = args->k < args->columns ? args->k : args->columns;
    args->parts = 1;
    if (find_kernel(args, op, error) < 0) return -1;
    if (args->kernel->keys[WORKGROUPS] == 1) args->parts = choose_parts(args);
    return args->parts > 1 ? find_kernel(args, op, error) : 0;
}

static int find_workspaces(const void *arguments, const void *plan, ac_workspace_t *out, ac_error_t *error) {
    const args_t *args = arguments;
    const bool needed = args->parts > 1;
    (void)plan, (void)error;
    out[0] = (ac_workspace_t){needed, AC_INT32, 3, {args->num_rows, args->parts, args->part_k}};
    out[1] = (ac_workspace_t){needed, AC_FLOAT32, 3, {args->num_rows, args->parts, args->part_k}};
    return 0;
}

static int check_candidates(args_t *args, ac_error_t *error) {
    const bool on_cpu = args->target.device.type == AC_DEVICE_CPU;
    ac_size_bind(&args->sizes, "parts", args->parts, on_cpu ? "the number of threads" : "the compute units");
    ac_size_bind(&args->sizes, "part_k", args->part_k, args->k < args->columns ? "k" : "logits");
    if (ac_check_tensors(args, candidate_rules, 2, &args->sizes, error) < 0) return -1;
    return ac_check_own_memory(args->sizes.op, args, candidate_rules, AC_COUNT(candidate_rules), error);
}

static int launch(const args_t *args, ac_top_k_params_t *params, ac_top_k_stage_t stage, intptr_t stream,
                  ac_error_t *error) {
    const bool partial = stage == AC_TOP_K_PARTS;
    params->stage = (int32_t)stage;
    const ac_launch_t launch = {
        .kernel = args->kernel,
        .params = params,
        .params_bytes = sizeof *params,
        .grid = args->num_rows * (partial ? args->parts : args->kernel->keys[WORKGROUPS]),
        .stream = stream,
        .writes = partial ? AC_WRITES_PARTIALS : AC_WRITES_FINAL,
        .final_rows = params->indices,
        .partial_rows = params->candidate_indices,
    };
    return ac_launch(&args->target, &launch, error);
}

static int run(void *arguments, const void *plan, intptr_t stream, ac_error_t *error) {
    args_t *args = arguments;
    (void)plan;
    if (args->num_rows == 0 || args->k == 0) return 0;
    if (args->parts > 1 && check_candidates(args, error) < 0) return -1;
    ac_top_k_params_t params = {
        .logits = args->logits->data,
        .logits_stride = ac_stride_bytes(args->logits, 0),
        .begins = ac_ints(args->rowStarts),
        .ends = ac_ints(args->seqLens ? args->seqLens : args->rowEnds),
        .next_n = args->seqLens ? args->next_n : 1,
        .indices = args->indices->data,
        .indices_stride = ac_stride_bytes(args->indices, 0),
        .values = args->values ? args->values->data : NULL,
        .values_stride = args->values ? ac_stride_bytes(args->values, 0) : 0,
        .candidate_indices = args->parts > 1 ? (int32_t *)(void *)args->candidate_indices->data : NULL,
        .candidate_values = args->parts > 1 ? ac_floats(args->candidate_values) : NULL,
        .num_rows = args->num_rows,
        .columns = args->columns,
        .k = args->k,
        .part_k = args->part_k,
        .parts = args->parts,
    };
    if (args->parts == 1) return launch(args, &params, AC_TOP_K_ROWS, stream, error);
    if (launch(args, &params, AC_TOP_K_PARTS, stream, error) < 0) return -1;
    return launch(args, &params, AC_TOP_K_MERGE, stream, error);
}

static int check_prefill(void *args, const void *plan, ac_error_t *error) {
    (void)plan;
    return check(args, "top_k_per_row_prefill", prefill_rules, AC_COUNT(prefill_rules), error);
}

static int check_decode(void *args, const void *plan, ac_error_t *error) {
    (void)plan;
    return check(args, "top_k_per_row_decode", decode_rules, AC_COUNT(decode_rules), error);
}

#define NOTES                                                                                                          \
    "Logits rank from +inf down to -inf, +0 above -0, NaN of either sign last; of equal ones the lowest column\n"      \
    "first. A row holds the indices of its best k columns in ascending order, and the values at them; where the\n"     \
    "window has fewer columns, -1 and 0 follow. Columns past k are left alone. Windows are clamped to the columns.\n"  \
    "Raises TypeError, ValueError, BufferError (DLPack refusal, read-only output), UnsupportedError, DeviceError;\n"   \
    "a refused call writes nothing."

#define AC_OP top_k_per_row_prefill
#define AC_OP_ARGS args_t
#define AC_OP_PARAMS "top_k/params_prefill.inc"
#define AC_OP_SUMMARY "Select the k best logits in a window of every row: [rowStarts[r], rowEnds[r])."
#define AC_OP_NOTES NOTES
#include "../define_op.inc"

#define AC_OP top_k_per_row_decode
#define AC_OP_ARGS args_t
#define AC_OP_PARAMS "top_k/params_decode.inc"
#define AC_OP_SUMMARY                                                                                                  \
    "Select the k best logits that a token sees: [0, seqLens[r // next_n] - next_n + r % next_n + 1) of row r."
#define AC_OP_NOTES NOTES
#include "../define_op.inc"

#define OP(op, check_function)                                                                                         \
    const ac_op_t ac_op_##op = {                                                                                       \
        .name = #op,                                                                                                   \
        .user_name = #op,                                                                                              \
        .doc = doc_##op,                                                                                               \
        .params = params_##op,                                                                                         \
        .param_count = AC_COUNT(params_##op),                                                                          \
        .args_bytes = sizeof(args_t),                                                                                  \
        .returns = AC_RETURNS_NONE,                                                                                    \
        .check = check_function,                                                                                       \
        .workspaces = find_workspaces,                                                                                 \
        .run = run,                                                                                                    \
    }
OP(top_k_per_row_prefill, check_prefill);
OP(top_k_per_row_decode, check_decode);
