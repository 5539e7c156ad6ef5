/* The logits of the indexer of sparse attention: check -> one launch. Two ops that differ in where the keys are, and in
 * how they are told what a row sees. */
#include <inttypes.h>

#include "../../core/op.h"
#include "../../core/rules.h"
#include "../../device/device.h"
#include "cpu/local.h"
#include "rows.h"

extern const ac_kernel_family_t ac_kernels_mqa_logits;

static const char paged_name[] = "deepgemm_fp8_paged_mqa_logits", contiguous_name[] = "fp8_mqa_logits";

/* Kernels count keys in int32, up to a workgroup's run past the last one, and the bytes of a page's keys in uint32. */
enum { MOST_KEYS = INT32_MAX - 1023, MOST_PAGE_KEYS = 1 << 25 };

/* The arguments of both by their Python names; those that the other op has are NULL. */
typedef struct {
    ac_view_t *q_fp8, *kv_cache, *out_logits, *context_lens, *kv_indices; /* paged */
    ac_view_t *Q, *KV, *kv_scales, *cu_starts, *cu_ends, *logits;         /* contiguous */
    ac_view_t *weights;
    int64_t max_model_len, KVBlockSize;
    int Preshuffle, clean_logits;
    ac_dtype_t q_dtype, kv_dtype;
    /* What the check found. */
    ac_sizes_t sizes;
    ac_target_t target;
    const ac_kernel_t *kernel;
} args_t;

#define RULE(field, dtypes, shape, flags) AC_RULE(args_t, field, dtypes, shape, flags)
#define INTS AC_SET(AC_INT32)
#define FLOATS AC_SET(AC_FLOAT32)
#define BYTES (AC_FP8 | AC_SET(AC_UINT8) | AC_SET(AC_INT8))

static const ac_tensor_rule_t paged_rules[] = {
    RULE(q_fp8, AC_FP8, "B N H D", AC_DENSE_ROWS | AC_LEADS),
    RULE(kv_cache, BYTES, "pages block 1 bytes", AC_DENSE_ROWS),
    RULE(weights, FLOATS, "rows.. H", AC_DENSE_ROWS),
    RULE(out_logits, FLOATS, "rows.. columns", AC_DENSE_ROWS | AC_WRITTEN),
    RULE(context_lens, INTS, "L|L 1|L N", 0),
    RULE(kv_indices, INTS, "tables entries", AC_DENSE_ROWS),
};
static const ac_tensor_rule_t contiguous_rules[] = {
    RULE(Q, AC_FP8, "Sq H D", AC_DENSE_ROWS | AC_LEADS),
    RULE(KV, AC_FP8, "Sk D", AC_DENSE_ROWS),
    RULE(kv_scales, FLOATS, "Sk|Sk 1", 0),
    RULE(weights, FLOATS, "Sq H", AC_DENSE_ROWS),
    RULE(cu_starts, INTS, "Sq..", 0),
    RULE(cu_ends, INTS, "Sq..", 0),
};
static const ac_tensor_rule_t logits_rules[] = {
    RULE(logits, FLOATS, "Sq Sk..", AC_DENSE_ROWS | AC_WRITTEN),
    RULE(Q, 0, NULL, 0),
    RULE(KV, 0, NULL, 0),
    RULE(kv_scales, 0, NULL, 0),
    RULE(weights, 0, NULL, 0),
    RULE(cu_starts, 0, NULL, 0),
    RULE(cu_ends, 0, NULL, 0),
};

static int retype(const char *op, const char *name, const char *keyword, ac_dtype_t dtype, ac_view_t *view,
                  ac_error_t *error) {
    const ac_arg_t arg = {op, name, view};
    return ac_view_retype(arg, keyword, dtype, view, error);
}

/* Kinds of calls: contiguous keys, keys in pages, and those for a single row. kernels.inc has sets of them. */
enum { CONTIGUOUS, PAGED, PAGED_ONE };

static int choose(args_t *args, const char *op, const ac_view_t *q, const ac_view_t *kv, ac_error_t *error) {
    const int kind = !args->kv_cache ? CONTIGUOUS : ac_size(&args->sizes, "rows") == 1 ? PAGED_ONE : PAGED;
    const ac_kernel_request_t request = {
        .op = op,
        .family = &ac_kernels_mqa_logits,
        .keys = {kind, q->dtype, kv->dtype, ac_size(&args->sizes, "H"), ac_size(&args->sizes, "D"),
                 ac_size(&args->sizes, "D"), AC_ANY_KEY, AC_ANY_KEY},
        .features = AC_WRITES_FINAL,
        .rows = 1,
    };
    if (ac_check_int(op, "heads", ac_size(&args->sizes, "H"), 1, INT32_MAX, error) < 0) return -1;
    if (ac_check_int(op, "elements of a head", ac_size(&args->sizes, "D"), 1, INT32_MAX, error) < 0) return -1;
    args->kernel = ac_choose_kernel(&request, args->target.facts.arch, error);
    return args->kernel ? 0 : -1;
}

/* A page is contiguous: KVBlockSize * bytes as they come. */
static int check_cache(args_t *args, ac_error_t *error) {
    const ac_view_t *kv = args->kv_cache;
    const int64_t least = ac_size(&args->sizes, "D") + 4;
    if (kv->shape[3] < least)
        return ac_fail(error, AC_ERROR_VALUE,
                       "%s: kv_cache: expected at least %" PRId64 " bytes of a key and its scale, got %" PRId64,
                       paged_name, least, kv->shape[3]);
    if (args->KVBlockSize > 1 && ac_view_numel(kv) > 0 && kv->stride[1] != kv->shape[3])
        return ac_fail(error, AC_ERROR_VALUE,
                       "%s: kv_cache: expected contiguous pages (stride(1) %" PRId64 "), got stride(1) %" PRId64,
                       paged_name, kv->shape[3], kv->stride[1]);
    if (args->Preshuffle && args->KVBlockSize % 16 != 0)
        return ac_fail(error, AC_ERROR_VALUE,
                       "%s: KVBlockSize: expected a multiple of 16 with Preshuffle, got %" PRId64, paged_name,
                       args->KVBlockSize);
    return 0;
}

static int check_paged(void *arguments, const void *plan, ac_error_t *error) {
    args_t *args = arguments;
    (void)plan;
    if (ac_check_int(paged_name, "max_model_len", args->max_model_len, 0, INT32_MAX, error) < 0) return -1;
    if (ac_check_int(paged_name, "KVBlockSize", args->KVBlockSize, 1, MOST_PAGE_KEYS, error) < 0) return -1;
    if (retype(paged_name, "q_fp8", "q_dtype", args->q_dtype, args->q_fp8, error) < 0) return -1;
    if (ac_find_target(paged_name, "q_fp8", args->q_fp8->device, &args->target, error) < 0) return -1;
    ac_sizes_init(&args->sizes, paged_name);
    ac_size_bind(&args->sizes, "block", args->KVBlockSize, "KVBlockSize");
    if (ac_check_tensors(args, paged_rules, 1, &args->sizes, error) < 0) return -1;
    int64_t rows;
    if (__builtin_mul_overflow(ac_size(&args->sizes, "B"), ac_size(&args->sizes, "N"), &rows))
        rows = INT64_MAX; /* a tensor without elements may have any sizes: no other has as many rows */
    ac_size_bind(&args->sizes, "rows", rows, "q_fp8, B * N");
    if (ac_check_tensors(args, paged_rules + 1, AC_COUNT(paged_rules) - 1, &args->sizes, error) < 0) return -1;
    if (ac_check_own_memory(paged_name, args, paged_rules, AC_COUNT(paged_rules), error) < 0) return -1;
    ac_view_t *kv = args->kv_cache;
    ac_dtype_t dtype = args->kv_dtype;
    if (kv->dtype == AC_INT8) kv->dtype = AC_UINT8;
    if (kv->dtype == AC_UINT8 && dtype == AC_DTYPE_NONE) dtype = args->q_fp8->dtype;
    if (retype(paged_name, "kv_cache", "kv_dtype", dtype, kv, error) < 0) return -1;
    if (choose(args, paged_name, args->q_fp8, kv, error) < 0) return -1;
    return check_cache(args, error);
}

static int check_contiguous(void *arguments, const void *plan, ac_error_t *error) {
    args_t *args = arguments;
    (void)plan;
    if (retype(contiguous_name, "Q", "q_dtype", args->q_dtype, args->Q, error) < 0) return -1;
    if (retype(contiguous_name, "KV", "kv_dtype", args->kv_dtype, args->KV, error) < 0) return -1;
    if (ac_find_target(contiguous_name, "Q", args->Q->device, &args->target, error) < 0) return -1;
    ac_sizes_init(&args->sizes, contiguous_name);
    if (ac_check_tensors(args, contiguous_rules, AC_COUNT(contiguous_rules), &args->sizes, error) < 0) return -1;
    if (ac_check_int(contiguous_name, "KV.shape[0]", ac_size(&args->sizes, "Sk"), 0, MOST_KEYS, error) < 0) return -1;
    return choose(args, contiguous_name, args->Q, args->KV, error);
}

static int find_workspaces(const void *arguments, const void *plan, ac_workspace_t *out, ac_error_t *error) {
    const args_t *args = arguments;
    (void)plan, (void)error;
    out[0] = (ac_workspace_t){true, AC_FLOAT32, 2, {ac_size(&args->sizes, "Sq"), ac_size(&args->sizes, "Sk")}};
    return 0;
}

/* The largest of 16, 4 and 1 that divides the address and the strides. */
static int32_t alignment_of(const char *data, const int64_t *strides, int count) {
    uint64_t bits = (uint64_t)(uintptr_t)data;
    for (int i = 0; i < count; i++) bits |= (uint64_t)strides[i];
    return bits % 16 == 0 ? 16 : bits % 4 == 0 ? 4 : 1;
}

/* Division of numbers below 2^31 by a multiplication: the multiplier is 2^shift / size, rounded up, with 31 bits more
 * than size has. */
static void set_page_size(ac_mqa_keys_t *k, int64_t size) {
    const int bits = size > 1 ? 64 - __builtin_clzll((uint64_t)size - 1) : 0; /* of size - 1 */
    k->page_size = size;
    k->divide_shift = 31 + bits;
    k->divide_multiplier = (uint32_t)((((uint64_t)1 << k->divide_shift) + (uint64_t)size - 1) / (uint64_t)size);
}

static ac_mqa_keys_t paged_keys(const args_t *args) {
    const ac_view_t *kv = args->kv_cache, *table = args->kv_indices;
    const int64_t size = args->KVBlockSize;
    ac_mqa_keys_t k = {
        .keys = kv->data,
        .scales = kv->data + size * AC_MQA_DIM,
        .page_stride = ac_stride_bytes(kv, 0),
        .key_stride = AC_MQA_DIM,
        .scale_stride = 4,
        .table = ac_ints(table),
        .table_stride = table->shape[0] > 1 ? table->stride[0] : 0,
        .table_width = table->shape[1],
        .num_pages = kv->shape[0],
        .is_paged = true,
        .preshuffled = args->Preshuffle != 0,
        .dtype = (int32_t)kv->dtype,
    };
    set_page_size(&k, size);
    k.alignment = alignment_of(k.keys, &k.page_stride, 1);
    return k;
}

static ac_mqa_keys_t contiguous_keys(const args_t *args) {
    const ac_view_t *kv = args->KV;
    ac_mqa_keys_t k = {
        .keys = kv->data,
        .scales = args->kv_scales->data,
        .key_stride = ac_stride_bytes(kv, 0),
        .scale_stride = ac_stride_bytes(args->kv_scales, 0),
        .num_pages = 1,
        .dtype = (int32_t)kv->dtype,
    };
    set_page_size(&k, INT32_MAX);
    k.alignment = alignment_of(k.keys, &k.key_stride, 1);
    return k;
}

static void fill_query(const ac_view_t *q, int row_dim, ac_mqa_logits_params_t *p) {
    p->q = q->data;
    p->q_row_stride = ac_stride_bytes(q, row_dim);
    p->q_group_stride = row_dim ? ac_stride_bytes(q, 0) : p->q_row_stride * p->group_rows;
    p->q_head_stride = ac_stride_bytes(q, row_dim + 1);
    const int64_t strides[] = {p->q_group_stride, p->q_row_stride, p->q_head_stride};
    p->q_alignment = alignment_of(p->q, strides, AC_COUNT(strides));
    p->q_dtype = (int32_t)q->dtype;
    p->num_heads = (int32_t)q->shape[row_dim + 1];
}

static int64_t entries_stride(const ac_view_t *view, int dim) {
    return dim < view->ndim && view->shape[dim] > 1 ? view->stride[dim] : 0;
}

/* Keys and query rows that a work item has at a time: the kernel's facts. */
enum { TILE_KEYS = 6, TILE_ROWS = 7 };

/* Keys in pages on a GPU: workgroups that share all tiles evenly, as many as are resident, but none without work. */
#define RESIDENT_THREADS 512 /* of a compute unit */

static int64_t share_pages(const args_t *args, ac_mqa_logits_params_t *p, ac_error_t *error) {
    const ac_kernel_t *kernel = args->kernel;
    const int64_t tiles = ac_ceil_div64(p->columns, kernel->keys[TILE_KEYS]);
    const int64_t resident = (int64_t)args->target.facts.compute_units * (RESIDENT_THREADS / kernel->threads);
    int64_t all;
    p->row_blocks = (int32_t)ac_ceil_div64(p->group_rows, kernel->keys[TILE_ROWS]);
    p->block_rows = (int32_t)ac_ceil_div64(p->group_rows, p->row_blocks);
    if (__builtin_mul_overflow(p->num_groups * p->row_blocks, tiles, &all)) all = INT64_MAX;
    if (ac_check_int(args->sizes.op, "tiles of all requests", all, 0, INT32_MAX, error) < 0) return -1;
    p->num_workers = ac_min64(all, resident);
    return p->num_workers;
}

/* Contiguous keys on a GPU: a workgroup for a run of keys and a block of rows. Blocks are as long as leaves WAVES
 * workgroups per compute unit, or a few more: windows may make some of them shorter than others. */
#define WAVES 4
#define MIN_BLOCK_ROWS 16

static int64_t share_rows(const args_t *args, ac_mqa_logits_params_t *p) {
    const int64_t runs = ac_ceil_div64(p->columns, args->kernel->keys[TILE_KEYS]);
    const int64_t wanted = ac_max64((int64_t)args->target.facts.compute_units * WAVES / runs, 1);
    const int64_t rows = ac_clamp64(ac_ceil_div64(p->num_rows, wanted), MIN_BLOCK_ROWS, args->kernel->keys[TILE_ROWS]);
    p->items_per_group = runs;
    p->block_rows = (int32_t)rows;
    return runs * ac_ceil_div64(p->num_rows, rows);
}

static int launch(const args_t *args, ac_mqa_logits_params_t *p, intptr_t stream, ac_error_t *error) {
    ac_launch_t launch = {
        .kernel = args->kernel,
        .params = p,
        .params_bytes = sizeof *p,
        .stream = stream,
        .writes = AC_WRITES_FINAL,
        .final_rows = p->logits,
    };
    if (p->num_rows == 0 || p->columns == 0) return 0;
    if (ac_arch_is_cpu(args->kernel->arch)) {
        p->item_columns = (int32_t)args->kernel->keys[TILE_KEYS];
        p->items_per_group = ac_ceil_div64(p->columns, p->item_columns);
        launch.grid = p->num_groups * p->items_per_group;
    } else {
        launch.grid = p->k.is_paged ? share_pages(args, p, error) : share_rows(args, p);
    }
    return launch.grid < 0 ? -1 : ac_launch(&args->target, &launch, error);
}

static int run_paged(void *arguments, const void *plan, intptr_t stream, ac_error_t *error) {
    const args_t *args = arguments;
    const ac_view_t *lengths = args->context_lens;
    (void)plan;
    ac_mqa_logits_params_t p = {
        .weights = ac_floats(args->weights),
        .weights_stride = entries_stride(args->weights, 0),
        .logits = args->out_logits->data,
        .logits_stride = ac_stride_bytes(args->out_logits, 0),
        .columns = ac_min64(args->out_logits->shape[1], args->max_model_len),
        .k = paged_keys(args),
        .lengths = ac_ints(lengths),
        .lengths_stride = entries_stride(lengths, 0),
        .lengths_row_stride = entries_stride(lengths, 1),
        .length_per_row = lengths->ndim == 2 && lengths->shape[1] > 1,
        .num_groups = ac_size(&args->sizes, "B"),
        .num_requests = ac_min64(lengths->shape[0], args->kv_indices->shape[0]),
        .group_rows = ac_size(&args->sizes, "N"),
        .num_rows = ac_size(&args->sizes, "rows"),
        .clean = args->clean_logits,
    };
    fill_query(args->q_fp8, 1, &p);
    return launch(args, &p, stream, error);
}

static int run_contiguous(void *arguments, const void *plan, intptr_t stream, ac_error_t *error) {
    args_t *args = arguments;
    (void)plan;
    if (ac_check_tensors(args, logits_rules, 1, &args->sizes, error) < 0) return -1;
    if (ac_check_own_memory(contiguous_name, args, logits_rules, AC_COUNT(logits_rules), error) < 0) return -1;
    const int64_t rows = ac_size(&args->sizes, "Sq");
    ac_mqa_logits_params_t p = {
        .weights = ac_floats(args->weights),
        .weights_stride = entries_stride(args->weights, 0),
        .logits = args->logits->data,
        .logits_stride = ac_stride_bytes(args->logits, 0),
        .columns = ac_size(&args->sizes, "Sk"),
        .k = contiguous_keys(args),
        .begins = ac_ints(args->cu_starts),
        .begins_stride = entries_stride(args->cu_starts, 0),
        .ends = ac_ints(args->cu_ends),
        .ends_stride = entries_stride(args->cu_ends, 0),
        .num_groups = ac_ceil_div64(rows, AC_MQA_ITEM_ROWS), /* on the CPU */
        .group_rows = AC_MQA_ITEM_ROWS,
        .num_rows = rows,
        .clean = args->clean_logits,
    };
    fill_query(args->Q, 0, &p);
    return launch(args, &p, stream, error);
}

#define FORMULA                                                                                                        \
    "    logits[row, j] = k_scale[j] * sum_h weights[row, h] * max(<q[row, h], key[j]>, 0)\n\n"                        \
    "in fp32. max(NaN, 0) is 0. Scales of q and of the softmax are part of the weights.\n\n"
#define RAISES                                                                                                         \
    "Raises TypeError, ValueError, BufferError (DLPack refusal, read-only output), UnsupportedError, DeviceError;\n"   \
    "a refused call writes nothing."

#define AC_OP deepgemm_fp8_paged_mqa_logits
#define AC_OP_ARGS args_t
#define AC_OP_PARAMS "mqa_logits/params_paged.inc"
#define AC_OP_SUMMARY "Logits of the sparse-attention indexer over keys in pages; writes out_logits in place."
#define AC_OP_NOTES FORMULA "Returns None. " RAISES
#include "../define_op.inc"

#define AC_OP fp8_mqa_logits
#define AC_OP_ARGS args_t
#define AC_OP_PARAMS "mqa_logits/params_contiguous.inc"
#define AC_OP_SUMMARY "Logits of the sparse-attention indexer over contiguous keys, a window of them per row."
#define AC_OP_NOTES FORMULA "Returns (logits,). " RAISES
#include "../define_op.inc"

const ac_op_t ac_op_deepgemm_fp8_paged_mqa_logits = {
    .name = paged_name,
    .user_name = paged_name,
    .doc = doc_deepgemm_fp8_paged_mqa_logits,
    .params = params_deepgemm_fp8_paged_mqa_logits,
    .param_count = AC_COUNT(params_deepgemm_fp8_paged_mqa_logits),
    .args_bytes = sizeof(args_t),
    .returns = AC_RETURNS_NONE,
    .check = check_paged,
    .run = run_paged,
};

const ac_op_t ac_op_fp8_mqa_logits = {
    .name = contiguous_name,
    .user_name = contiguous_name,
    .doc = doc_fp8_mqa_logits,
    .params = params_fp8_mqa_logits,
    .param_count = AC_COUNT(params_fp8_mqa_logits),
    .args_bytes = sizeof(args_t),
    .returns = AC_RETURNS_WORKSPACES,
    .check = check_contiguous,
    .workspaces = find_workspaces,
    .run = run_contiguous,
};
