/* Prefill over keys and values of their own: check -> launch, on whatever device the tensors are. Tiles of work lists
 * leave final rows or partials, which mla_reduce_v1 merges; without lists all rows are final. */
#include <inttypes.h>
#include <math.h>
#include <stdio.h>

#include "../../core/fault.h"
#include "../attention/scale_arg.h"
#include "../attention/work.h"
#include "../attention/work_list.h"
#include "args.h"
#include "dims.h"

extern const ac_kernel_family_t ac_kernels_mla_prefill;

typedef ac_mla_prefill_args_t args_t;

#define ARG(field) ((ac_arg_t){args->op, #field, args->field})
#define RULE(field, dtypes, shape, flags) AC_RULE(args_t, field, dtypes, shape, flags)
#define SCALE_RULE(field)                                                                                              \
    {#field, offsetof(args_t, field) + offsetof(ac_scale_arg_t, view), AC_SET(AC_FLOAT32), NULL,                       \
     AC_MAY_BE_NONE | AC_HOST_TOO | AC_ONE_ELEMENT}
#define INDICES AC_SET(AC_INT32)
#define FLOATS AC_SET(AC_FLOAT32)
#define OPERANDS (AC_HALF | AC_FP8)
#define BUFFER (AC_CONTIGUOUS | AC_WRITTEN | AC_MAY_BE_NONE)

/* W workers, i items, G groups and P entries of the lists, R partial rows. */
static const ac_tensor_rule_t rules[] = {
    RULE(Q, OPERANDS, "T H D", AC_DENSE_ROWS | AC_LEADS),
    RULE(K, OPERANDS, "N Hkv D", AC_DENSE_ROWS),
    RULE(V, OPERANDS, "N Hkv Dv", AC_DENSE_ROWS),
    RULE(qo_indptr, INDICES, "B+1", AC_DENSE_ROWS),
    RULE(kv_indptr, INDICES, "B+1..", AC_DENSE_ROWS),
    RULE(kv_page_indices, INDICES, "n", AC_DENSE_ROWS | AC_MAY_BE_NONE),
    RULE(work_indptr, INDICES, "W+1", AC_DENSE_ROWS | AC_MAY_BE_NONE),
    RULE(work_info_set, INDICES, "i 8", AC_CONTIGUOUS | AC_MAY_BE_NONE),
    RULE(reduce_indptr, INDICES, "G+1", AC_DENSE_ROWS | AC_MAY_BE_NONE),
    RULE(reduce_final_map, INDICES, "G.. 2", AC_CONTIGUOUS | AC_MAY_BE_NONE),
    RULE(reduce_partial_map, INDICES, "P", AC_DENSE_ROWS | AC_MAY_BE_NONE),
    SCALE_RULE(q_scale),
    SCALE_RULE(k_scale),
    SCALE_RULE(v_scale),
    RULE(output, AC_HALF, "T H Dv", AC_DENSE_ROWS | AC_WRITTEN),
    RULE(splitData, FLOATS, "R H Dv|R 1 H Dv", BUFFER),
    RULE(splitLse, FLOATS, "R H|R H 1|R 1 H|R 1 H 1", BUFFER),
    RULE(final_lse, FLOATS, "T H", BUFFER),
};
enum { RULES = AC_COUNT(rules), BUFFERS = 3, INPUTS = RULES - BUFFERS };
_Static_assert(RULES <= AC_MAX_TENSORS, "AC_MAX_TENSORS");

/* Entries of kv_page_indices and slots that they may name at most: a key's number and a tile's rows stay in int32. */
#define MOST_KEYS (INT32_MAX - 4096)

static int64_t greatest_divisor(int64_t a, int64_t b) {
    while (b != 0) {
        const int64_t rest = a % b;
        a = b;
        b = rest;
    }
    return a;
}

int64_t ac_prefill_partial_rows(int64_t rows, int64_t requests, int64_t workers, int64_t kv_heads, int64_t entries) {
    if (rows == 0 || requests == 0) return 0;
    /* Each tile is a partial, and each cut one more; the heads are dealt to clusters of workers that cut alike. One
     * more for tiles of fewer rows, of which more are half full. */
    const int64_t cluster = workers / greatest_divisor(kv_heads, workers);
    const int64_t tiles = ac_ceil_div64(rows, AC_PREFILL_ITEM_ROWS) + requests + cluster - 1;
    int64_t out;
    return __builtin_mul_overflow(ac_min64(tiles, entries), AC_PREFILL_ITEM_ROWS, &out) ? -1 : out;
}

static bool has_lists(const args_t *args) { return args->work_indptr != NULL; }

static int check_lists_given(const args_t *args, bool reduces, ac_error_t *error) {
    const ac_arg_t lists[] = {ARG(work_indptr), ARG(work_info_set), ARG(reduce_indptr), ARG(reduce_partial_map),
                              ARG(reduce_final_map)};
    const int needed = reduces ? 4 : 2;
    const ac_arg_t *given = NULL;
    for (int i = 0; i < AC_COUNT(lists); i++)
        if (lists[i].view && !given) given = &lists[i];
    for (int i = 0; given && i < needed; i++)
        if (!lists[i].view)
            return ac_fail(error, AC_ERROR_VALUE, "%s: %s: expected a tensor with %s (lists come together), got None",
                           args->op, lists[i].name, given->name);
    return 0;
}

static int check_sizes(args_t *args, ac_error_t *error) {
    const int64_t H = ac_size(&args->sizes, "H"), Hkv = ac_size(&args->sizes, "Hkv");
    if (ac_check_int(args->op, "Q.shape[1]", H, 1, UINT16_MAX, error) < 0) return -1;
    if (ac_check_int(args->op, "K.shape[1]", Hkv, 1, H, error) < 0) return -1;
    if (H % Hkv)
        return ac_fail(error, AC_ERROR_VALUE,
                       "%s: Q.shape[1]: expected a multiple of the %" PRId64 " heads of K, got %" PRId64, args->op, Hkv,
                       H);
    if (ac_check_int(args->op, "qo_indptr.shape[0] - 1", ac_size(&args->sizes, "B"), 0, INT32_MAX, error) < 0)
        return -1;
    if (!args->kv_page_indices)
        return ac_check_int(args->op, "K.shape[0]", ac_size(&args->sizes, "N"), 0, MOST_KEYS, error);
    return ac_check_int(args->op, "kv_page_indices.shape[0]", ac_size(&args->sizes, "n"), 0, MOST_KEYS, error);
}

static int check_lists(const args_t *args, ac_error_t *error) {
    if (!has_lists(args)) return 0;
    if (ac_check_int(args->op, "work_indptr.shape[0]", ac_size(&args->sizes, "W") + 1, 2, INT32_MAX, error) < 0)
        return -1;
    return ac_check_int(args->op, "work_info_set.shape[0]", ac_size(&args->sizes, "i"), 0, INT32_MAX, error);
}

/* Query rows that a tile may get. */
static int64_t tile_rows(const args_t *args) {
    return has_lists(args) ? AC_PREFILL_ITEM_ROWS : ac_min64(args->max_seqlen_q, ac_size(&args->sizes, "T"));
}

static const ac_kernel_t *choose(const args_t *args, ac_error_t *error) {
    const int64_t D = ac_size(&args->sizes, "D"), Dv = ac_size(&args->sizes, "Dv");
    const ac_prefill_dims_t dims = ac_prefill_dims(D, Dv);
    if (dims == AC_DIMS_COUNT) {
        char text[64];
        ac_fail(error, AC_ERROR_UNSUPPORTED,
                "%s: Q.shape[2], V.shape[2]: expected widths of %s, got %" PRId64 " and %" PRId64, args->op,
                ac_prefill_dims_text(text, sizeof text), D, Dv);
        return NULL;
    }
    const ac_kernel_request_t request = {
        .op = args->op,
        .family = &ac_kernels_mla_prefill,
        .keys = {dims, args->K->dtype, args->Q->dtype, args->output->dtype, AC_ANY_KEY, AC_ANY_KEY},
        .features = AC_WRITES_FINAL | AC_WRITES_LSE | (has_lists(args) ? AC_WRITES_PARTIALS | AC_WORK_LIST : 0),
        .rows = ac_max64(tile_rows(args), 1),
    };
    return ac_choose_kernel(&request, args->target.facts.arch, error);
}

/* Of one dtype, or fp8 of either kind. */
static int check_dtypes(const args_t *args, ac_error_t *error) {
    const ac_dtype_t q = args->Q->dtype, k = args->K->dtype;
    if (ac_check_dtype(ARG(V), AC_SET(k), error) < 0) return -1;
    if (q == k || (ac_dtype_in(q, AC_FP8) && ac_dtype_in(k, AC_FP8))) return 0;
    return ac_fail(error, AC_ERROR_UNSUPPORTED, "%s: K: expected the dtype of Q (%s), got %s", args->op,
                   ac_dtype_name(q), ac_dtype_name(k));
}

/* Everything but the buffers. */
static int check(args_t *args, const char *op, bool reduces, ac_error_t *error) {
    args->op = op;
    args->return_lse |= args->final_lse != NULL;
    if (ac_check_int(op, "max_seqlen_q", args->max_seqlen_q, 1, INT32_MAX, error) < 0) return -1;
    if (check_lists_given(args, reduces, error) < 0) return -1;
    if (ac_find_target(op, "Q", args->Q->device, &args->target, error) < 0) return -1;
    if (ac_view_retype(ARG(Q), "q_dtype", args->q_dtype, args->Q, error) < 0) return -1;
    if (ac_view_retype(ARG(K), "kv_dtype", args->kv_dtype, args->K, error) < 0) return -1;
    if (ac_view_retype(ARG(V), "kv_dtype", args->kv_dtype, args->V, error) < 0) return -1;
    ac_sizes_init(&args->sizes, op);
    if (ac_check_tensors(args, rules, INPUTS, &args->sizes, error) < 0) return -1;
    if (check_dtypes(args, error) < 0) return -1;
    if (check_sizes(args, error) < 0 || check_lists(args, error) < 0) return -1;
    args->kernel = choose(args, error);
    return args->kernel ? 0 : -1;
}

static int64_t request_tiles(const args_t *args) {
    return ac_kernel_tiles(args->kernel, ac_min64(args->max_seqlen_q, ac_size(&args->sizes, "T")));
}

/* Tiles without lists, or INT64_MAX: too many. */
static int64_t grid_tiles(const args_t *args) {
    int64_t heads, tiles;
    if (__builtin_mul_overflow(ac_size(&args->sizes, "B"), ac_size(&args->sizes, "H"), &heads)) return INT64_MAX;
    return __builtin_mul_overflow(heads, request_tiles(args), &tiles) ? INT64_MAX : tiles;
}

/* The last key of a kernel's row: workgroups that share the items of a worker. */
enum { WORKER_SLOTS = 5 };

static int64_t find_grid(const args_t *args) {
    if (ac_size(&args->sizes, "T") == 0) return 0;
    if (has_lists(args)) return ac_size(&args->sizes, "W") * args->kernel->keys[WORKER_SLOTS];
    const int64_t tiles = grid_tiles(args);
    return args->kernel->features & AC_TAKES_TURNS ? ac_min64(tiles, args->target.facts.compute_units) : tiles;
}

/* The buffers, shared memory, and that the launch fits the device: asked before anything is written. */
static int check_buffers(args_t *args, ac_error_t *error) {
    if (has_lists(args) && (ac_check_given(ARG(splitData), error) < 0 || ac_check_given(ARG(splitLse), error) < 0))
        return -1;
    if (ac_check_tensors(args, rules + INPUTS, BUFFERS, &args->sizes, error) < 0) return -1;
    if (ac_check_own_memory(args->op, args, rules, RULES, error) < 0) return -1;
    return ac_check_launch(args->op, "qo_indptr", args->kernel, find_grid(args), &args->target.facts, error);
}

static void fill_operands(const args_t *args, ac_mla_prefill_params_t *p) {
    const ac_device_t device = args->target.device;
    const int64_t D = ac_size(&args->sizes, "D");
    p->q = args->Q->data;
    p->q_row_stride = ac_stride_bytes(args->Q, 0);
    p->q_head_stride = ac_stride_bytes(args->Q, 1);
    p->k = args->K->data;
    p->k_row_stride = ac_stride_bytes(args->K, 0);
    p->k_head_stride = ac_stride_bytes(args->K, 1);
    p->v = args->V->data;
    p->v_row_stride = ac_stride_bytes(args->V, 0);
    p->v_head_stride = ac_stride_bytes(args->V, 1);
    p->o = args->output->data;
    p->o_row_stride = ac_stride_bytes(args->output, 0);
    p->o_head_stride = ac_stride_bytes(args->output, 1);
    p->head_dim = (int32_t)D;
    p->value_dim = (int32_t)ac_size(&args->sizes, "Dv");
    p->num_heads = (int32_t)ac_size(&args->sizes, "H");
    p->num_kv_heads = (int32_t)ac_size(&args->sizes, "Hkv");
    p->group_size = p->num_heads / p->num_kv_heads;
    p->q_dtype = (int32_t)args->Q->dtype;
    p->kv_dtype = (int32_t)args->K->dtype;
    p->o_dtype = (int32_t)args->output->dtype;
    p->q_scale = ac_scale_for(&args->q_scale, args->Q->dtype, device);
    p->k_scale = ac_scale_for(&args->k_scale, args->K->dtype, device);
    p->v_scale = ac_scale_for(&args->v_scale, args->V->dtype, device);
    p->sm_scale = (float)(isnan(args->softmax_scale) ? 1.0 / sqrt((double)D) : args->softmax_scale);
    p->causal = args->is_causal;
}

static void fill_tiles(const args_t *args, ac_mla_prefill_params_t *p) {
    const int64_t T = ac_size(&args->sizes, "T"), N = ac_size(&args->sizes, "N");
    p->qo_indptr = ac_ints(args->qo_indptr);
    p->kv_indptr = ac_ints(args->kv_indptr);
    p->kv_indices = ac_ints(args->kv_page_indices);
    p->num_rows = T;
    p->num_slots = N;
    p->num_indices = args->kv_page_indices ? ac_size(&args->sizes, "n") : N;
    p->num_requests = (int32_t)ac_size(&args->sizes, "B");
    p->lse = ac_floats(args->final_lse);
    if (!has_lists(args)) {
        p->max_seqlen_q = (int32_t)ac_min64(args->max_seqlen_q, T);
        p->request_tiles = (int32_t)request_tiles(args);
        p->grid_tiles = grid_tiles(args);
        p->workgroups = find_grid(args);
        return;
    }
    p->work_indptr = ac_ints(args->work_indptr);
    p->items = ac_ints(args->work_info_set);
    p->num_items = ac_size(&args->sizes, "i");
    p->num_workers = (int32_t)ac_size(&args->sizes, "W");
    p->worker_slots = (int32_t)args->kernel->keys[WORKER_SLOTS];
    p->num_partials = ac_size(&args->sizes, "R");
    p->partial_o = ac_floats(args->splitData);
    p->partial_lse = ac_floats(args->splitLse);
}

static int run(void *arguments, const void *plan, intptr_t stream, ac_error_t *error) {
    static const uint32_t minus_infinity = 0xff800000u; /* fp32 bits */
    args_t *args = arguments;
    const ac_target_t *target = &args->target;
    ac_mla_prefill_params_t params = {0};
    (void)plan;
    if (check_buffers(args, error) < 0) return -1;
    fill_operands(args, &params);
    fill_tiles(args, &params);
    const bool partials = params.num_partials > 0;
    /* ROCm/aiter#3606: a tile that is not split gets no LSE. */
    float *lse = AC_FAULT("no_lse_of_whole_tiles") ? NULL : params.lse;
    const ac_launch_t launch = {
        .kernel = args->kernel,
        .params = &params,
        .params_bytes = sizeof params,
        .grid = find_grid(args),
        .stream = stream,
        .writes = AC_WRITES_FINAL | (partials ? AC_WRITES_PARTIALS : 0) | (lse || partials ? AC_WRITES_LSE : 0),
        .final_rows = params.o,
        .partial_rows = params.partial_o,
        .lse = lse ? lse : params.partial_lse,
    };
    if (params.lse && /* rows of no tile keep this */
        target->runtime->fill32(target->runtime, target->device.index, params.lse, minus_infinity,
                                params.num_rows * params.num_heads, stream, error) < 0)
        return -1;
    params.lse = lse;
    return ac_launch(target, &launch, error);
}

static const char asm_name[] = "mla_prefill_ps_asm_fwd", fwd_name[] = "mla_prefill_ps_fwd";

static int check_asm(void *arguments, const void *plan, ac_error_t *error) {
    (void)plan;
    return check(arguments, asm_name, false, error);
}

static int check_stage1(void *arguments, const void *plan, ac_error_t *error) {
    (void)plan;
    return check(arguments, fwd_name, true, error);
}

/* splitData, splitLse and final_lse: in the order of the parameters. */
static int find_workspaces(const void *arguments, const void *plan, ac_workspace_t *out, ac_error_t *error) {
    const args_t *args = arguments;
    const int64_t T = ac_size(&args->sizes, "T"), H = ac_size(&args->sizes, "H"), Dv = ac_size(&args->sizes, "Dv");
    const bool lists = has_lists(args);
    int64_t rows = 0;
    (void)plan;
    if (lists)
        rows = ac_prefill_partial_rows(T, ac_size(&args->sizes, "B"), ac_size(&args->sizes, "W"),
                                       ac_size(&args->sizes, "Hkv"), ac_size(&args->sizes, "P"));
    if (rows < 0)
        return ac_fail(error, AC_ERROR_VALUE, "%s: reduce_partial_map: %" PRId64 " entries of %d rows overflow",
                       args->op, ac_size(&args->sizes, "P"), AC_PREFILL_ITEM_ROWS);
    out[0] = (ac_workspace_t){lists, AC_FLOAT32, 3, {rows, H, Dv}};
    out[1] = (ac_workspace_t){lists, AC_FLOAT32, 2, {rows, H}};
    out[2] = (ac_workspace_t){args->return_lse, AC_FLOAT32, 2, {T, H}};
    return 0;
}

#define AC_OP mla_prefill_ps_asm_fwd
#define AC_OP_ARGS ac_mla_prefill_args_t
#define AC_OP_PARAMS "mla_prefill/params.inc"
#define AC_OP_SUMMARY "Attention of query rows over keys and values of their own: stage 1, by work lists or without."
#define AC_OP_NOTES                                                                                                    \
    "B requests, T query rows, H query heads, Hkv heads of keys and values, W workers, R partial rows. For query "     \
    "row\n"                                                                                                            \
    "i of nq of a request with L keys:\n\n"                                                                            \
    "    s[j] = softmax_scale * q_scale * k_scale * <Q, K[j]>\n"                                                       \
    "    o    = v_scale * sum_j softmax(s)[j] * V[j]\n"                                                                \
    "    lse  = ln(sum_j exp(s[j]))\n\n"                                                                               \
    "A row that sees no key gets o = 0 and lse = -inf. Tiles that the lists cut, and with need_lse all of them, "      \
    "leave\n"                                                                                                          \
    "partials: mla_reduce_v1 merges them. No value in an index tensor is an error, and none makes the op touch "       \
    "memory\n"                                                                                                         \
    "outside its arguments. Rows of no item keep their output.\n\n"                                                    \
    "Returns None. Raises TypeError, ValueError, BufferError, UnsupportedError, DeviceError; a refused call writes\n"  \
    "nothing."
#include "../define_op.inc"

const ac_op_t ac_op_mla_prefill_ps_asm_fwd = {
    .name = "mla_prefill_ps_asm_fwd",
    .user_name = asm_name,
    .doc = doc_mla_prefill_ps_asm_fwd,
    .params = params_mla_prefill_ps_asm_fwd,
    .param_count = AC_COUNT(params_mla_prefill_ps_asm_fwd),
    .args_bytes = sizeof(args_t),
    .returns = AC_RETURNS_NONE,
    .check = check_asm,
    .run = run,
};

#define AC_OP mla_prefill_stage1
#define AC_OP_ARGS ac_mla_prefill_args_t
#define AC_OP_PARAMS "mla_prefill/params_stage1.inc"
#define AC_OP_SUMMARY "mla_prefill_ps_asm_fwd with its own scratch: the first half of aiter_c.mla_prefill_ps_fwd."
#define AC_OP_NOTES                                                                                                    \
    "Returns (None, stream, splitData, splitLse, final_lse): the handle of the stream that it ran on (0 on the CPU)\n" \
    "and the buffers, None where there is none. With lists mla_reduce_v1 is due.\n"                                    \
    "Raises TypeError, ValueError, BufferError, UnsupportedError, DeviceError; a refused call writes nothing."
#include "../define_op.inc"

const ac_op_t ac_op_mla_prefill_stage1 = {
    .name = "mla_prefill_stage1",
    .user_name = fwd_name,
    .doc = doc_mla_prefill_stage1,
    .params = params_mla_prefill_stage1,
    .param_count = AC_COUNT(params_mla_prefill_stage1),
    .args_bytes = sizeof(args_t),
    .returns = AC_RETURNS_STAGE,
    .check = check_stage1,
    .workspaces = find_workspaces,
    .run = run,
};

typedef struct {
    int64_t result, num_rows, batch, num_workers, num_heads_k, num_entries;
} rows_args_t;

static const char rows_name[] = "mla_prefill_partial_rows";

static int count_rows(void *arguments, const void *plan, intptr_t stream, ac_error_t *error) {
    rows_args_t *args = arguments;
    (void)plan, (void)stream;
    if (ac_check_int(rows_name, "num_rows", args->num_rows, 0, INT32_MAX, error) < 0) return -1;
    if (ac_check_int(rows_name, "batch", args->batch, 0, INT32_MAX, error) < 0) return -1;
    if (ac_check_int(rows_name, "num_workers", args->num_workers, 1, INT32_MAX, error) < 0) return -1;
    if (ac_check_int(rows_name, "num_heads_k", args->num_heads_k, 1, INT32_MAX, error) < 0) return -1;
    if (ac_check_int(rows_name, "num_entries", args->num_entries, 0, INT32_MAX, error) < 0) return -1;
    args->result = ac_prefill_partial_rows(args->num_rows, args->batch, args->num_workers, args->num_heads_k,
                                           args->num_entries);
    return 0;
}

#define AC_OP mla_prefill_partial_rows
#define AC_OP_ARGS rows_args_t
#define AC_OP_PARAMS "mla_prefill/params_rows.inc"
#define AC_OP_SUMMARY "Rows of the scratch of mla_prefill_ps_fwd, each of H * (Dv + 1) float32."
#define AC_OP_NOTES                                                                                                    \
    "256 * min(P, ceil(T / 256) + B + W / gcd(Hkv, W) - 1), and 0 without rows or requests: whatever the lists say.\n" \
    "Raises TypeError, ValueError."
#include "../define_op.inc"

const ac_op_t ac_op_mla_prefill_partial_rows = {
    .name = "mla_prefill_partial_rows",
    .user_name = rows_name,
    .doc = doc_mla_prefill_partial_rows,
    .params = params_mla_prefill_partial_rows,
    .param_count = AC_COUNT(params_mla_prefill_partial_rows),
    .args_bytes = sizeof(rows_args_t),
    .returns = AC_RETURNS_INT,
    .run = count_rows,
};
