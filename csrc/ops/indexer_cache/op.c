/* The cache of the indexer's keys: quantised and written, alone or after rope together with the queries, and gathered.
 * check -> one launch. */
#include <inttypes.h>

#include "../../core/op.h"
#include "../../core/rules.h"
#include "../../device/device.h"
#include "kernel_params.h"

extern const ac_kernel_family_t ac_kernels_indexer_cache;

/* The arguments of all three by their Python names; those that an op does not have are NULL. */
typedef struct {
    ac_view_t *k, *kv_cache, *slot_mapping;
    ac_view_t *q, *q_out, *weights, *weights_out, *norm_weight, *norm_bias, *positions, *cos_cache, *sin_cache;
    ac_view_t *dst_k, *dst_scale, *block_table, *cu_seq_lens;
    int64_t quant_block_size;
    double epsilon, weights_scale;
    int scale_fmt, preshuffle, is_neox, compute_all_q_rope;
    ac_dtype_t q_dtype, kv_dtype;
    /* What the check found. */
    ac_sizes_t sizes;
    ac_target_t target;
    const ac_kernel_t *kernel;
    int64_t num_tokens, num_items;
    ac_indexer_cache_t cache;
} args_t;

#define CACHE "pages block bytes|pages block 1 bytes"
#define RULE(field, dtypes, shape, flags) AC_RULE(args_t, field, dtypes, shape, flags)
#define VALUES (AC_HALF | AC_SET(AC_FLOAT32))
#define FLOATS AC_SET(AC_FLOAT32)
#define LONGS AC_SET(AC_INT64)
#define INTS AC_SET(AC_INT32)
#define BYTES (AC_FP8 | AC_SET(AC_UINT8) | AC_SET(AC_INT8))

static const ac_tensor_rule_t write_rules[] = {
    RULE(k, VALUES, "K D", AC_DENSE_ROWS | AC_LEADS),
    RULE(slot_mapping, LONGS, "S", 0),
    RULE(kv_cache, BYTES, CACHE, AC_DENSE_ROWS | AC_WRITTEN),
};
static const ac_tensor_rule_t rope_rules[] = {
    RULE(q, VALUES, "T.. H 128", AC_DENSE_ROWS | AC_LEADS),
    RULE(weights, VALUES, "T.. H", 0),
    RULE(k, VALUES, "T.. 128", AC_DENSE_ROWS),
    RULE(slot_mapping, LONGS, "T", 0),
    RULE(norm_weight, FLOATS, "128", AC_DENSE_ROWS),
    RULE(norm_bias, FLOATS, "128", AC_DENSE_ROWS),
    RULE(positions, LONGS, "T..", 0),
    RULE(cos_cache, VALUES, "P 32", AC_DENSE_ROWS),
    RULE(sin_cache, VALUES, "P 32", AC_DENSE_ROWS),
    RULE(q_out, AC_FP8, "T.. H 128", AC_DENSE_ROWS | AC_WRITTEN),
    RULE(weights_out, FLOATS, "T.. H", AC_WRITTEN),
    RULE(kv_cache, BYTES, CACHE, AC_DENSE_ROWS | AC_WRITTEN),
};
static const ac_tensor_rule_t gather_rules[] = {
    RULE(kv_cache, BYTES, CACHE, AC_DENSE_ROWS | AC_LEADS),
    RULE(dst_k, BYTES, "T D", AC_DENSE_ROWS | AC_WRITTEN),
    RULE(dst_scale, FLOATS | BYTES, "T scales", AC_DENSE_ROWS | AC_WRITTEN),
    RULE(block_table, INTS, "B entries", AC_DENSE_ROWS),
    RULE(cu_seq_lens, INTS, "B+1", AC_DENSE_ROWS),
};

static const char write_name[] = "indexer_k_quant_and_cache", rope_name[] = "indexer_qk_rope_quant_and_cache",
                  gather_name[] = "cp_gather_indexer_k_quant_cache";

enum { WRITE, ROPE, GATHER };                                           /* the step of a kernel */
enum { UE8M0 };                                                         /* of scale_fmt */
#define MAX_DIM 65536                                                   /* elements of a key */
#define LIMIT_OF(dtype) ((dtype) == AC_FLOAT8_E4M3FN ? 448.0f : 224.0f) /* what the largest of a group becomes */
static const char *const scale_formats[] = {"ue8m0", "fp32", "", NULL};

/* Pages of keys of `dim` bytes and `groups` scales. */
static int describe_cache(args_t *args, int64_t dim, int64_t groups, ac_error_t *error) {
    const ac_view_t *kv = args->kv_cache;
    const char *op = args->sizes.op;
    const int last = kv->ndim - 1;
    const int64_t page_size = kv->shape[1], least = dim + 4 * groups;
    if (ac_check_int(op, "kv_cache.shape[1]", page_size, 0, INT32_MAX, error) < 0) return -1;
    if (kv->shape[last] < least)
        return ac_fail(error, AC_ERROR_VALUE,
                       "%s: kv_cache: expected at least %" PRId64 " bytes of a key and its scales, got %" PRId64, op,
                       least, kv->shape[last]);
    if (page_size > 1 && ac_view_numel(kv) > 0 && kv->stride[1] != kv->shape[last])
        return ac_fail(error, AC_ERROR_VALUE,
                       "%s: kv_cache: expected contiguous pages (stride(1) %" PRId64 "), got stride(1) %" PRId64, op,
                       kv->shape[last], kv->stride[1]);
    if (args->preshuffle && (page_size % 16 != 0 || dim % 16 != 0))
        return ac_fail(error, AC_ERROR_VALUE,
                       "%s: preshuffle: expected multiples of 16 keys and of 16 bytes, got pages of %" PRId64 " keys "
                       "of "
                       "%" PRId64 " bytes",
                       op, page_size, dim);
    args->cache = (ac_indexer_cache_t){
        .base = kv->data,
        .num_pages = kv->shape[0],
        .page_stride = ac_stride_bytes(kv, 0),
        .page_size = (int32_t)page_size,
        .dim = (int32_t)dim,
        .groups = (int32_t)groups,
        .preshuffled = args->preshuffle,
        .dtype = (int32_t)kv->dtype,
    };
    return 0;
}

/* uint8 and int8 are fp8 of the kind that the caller names. */
static int retype_cache(args_t *args, const char *op, ac_error_t *error) {
    ac_view_t *kv = args->kv_cache;
    if (kv->dtype == AC_INT8) kv->dtype = AC_UINT8;
    if (kv->dtype == AC_UINT8 && args->kv_dtype == AC_DTYPE_NONE)
        return ac_fail(error, AC_ERROR_TYPE, "%s: kv_cache: expected kv_dtype= with a tensor of bytes, got None", op);
    if (ac_view_retype((ac_arg_t){op, "kv_cache", kv}, "kv_dtype", args->kv_dtype, kv, error) < 0) return -1;
    return ac_check_dtype((ac_arg_t){op, "kv_cache", kv}, AC_FP8, error);
}

static int find_kernel(args_t *args, const char *name, int step, ac_dtype_t dtype, int64_t per_token,
                       ac_error_t *error) {
    const char *op = args->sizes.op;
    if (__builtin_mul_overflow(args->num_tokens, per_token, &args->num_items)) args->num_items = INT64_MAX;
    const ac_kernel_request_t request = {
        .op = op,
        .family = &ac_kernels_indexer_cache,
        .keys = {step, dtype, args->kv_cache->dtype},
        .features = AC_WRITES_FINAL,
        .rows = args->num_items,
    };
    args->kernel = ac_choose_kernel(&request, args->target.facts.arch, error);
    if (!args->kernel) return -1;
    const int64_t tile = args->kernel->tile_rows, grid = args->num_items / tile + (args->num_items % tile != 0);
    return ac_check_launch(op, name, args->kernel, grid, &args->target.facts, error);
}

static int check_write(void *arguments, const void *plan, ac_error_t *error) {
    args_t *args = arguments;
    ac_sizes_t *sizes = &args->sizes;
    (void)plan;
    if (ac_find_target(write_name, "k", args->k->device, &args->target, error) < 0) return -1;
    ac_sizes_init(sizes, write_name);
    if (ac_check_tensors(args, write_rules, AC_COUNT(write_rules), sizes, error) < 0) return -1;
    if (retype_cache(args, write_name, error) < 0) return -1;
    const int64_t dim = ac_size(sizes, "D"), block = args->quant_block_size;
    if (ac_check_int(write_name, "k.shape[1]", dim, 1, MAX_DIM, error) < 0) return -1;
    if (ac_check_int(write_name, "quant_block_size", block, 1, dim, error) < 0) return -1;
    if (dim % block != 0)
        return ac_fail(error, AC_ERROR_VALUE,
                       "%s: quant_block_size: expected a divisor of k.shape[1] (%" PRId64 "), got %" PRId64, write_name,
                       dim, block);
    if (describe_cache(args, dim, dim / block, error) < 0) return -1;
    if (ac_check_own_memory(write_name, args, write_rules, AC_COUNT(write_rules), error) < 0) return -1;
    const int64_t keys = ac_size(sizes, "K"), slots = ac_size(sizes, "S");
    args->num_tokens = keys < slots ? keys : slots;
    return find_kernel(args, "slot_mapping", WRITE, args->k->dtype, dim / block, error);
}

static int check_rope(void *arguments, const void *plan, ac_error_t *error) {
    args_t *args = arguments;
    ac_sizes_t *sizes = &args->sizes;
    const char *op = rope_name;
    (void)plan;
    if (ac_find_target(op, "q", args->q->device, &args->target, error) < 0) return -1;
    if (args->quant_block_size != AC_INDEXER_DIM)
        return ac_fail(error, AC_ERROR_UNSUPPORTED, "%s: quant_block_size: expected 128, got %" PRId64, op,
                       args->quant_block_size);
    ac_sizes_init(sizes, op);
    if (args->slot_mapping->ndim == 1) ac_size_bind(sizes, "T", args->slot_mapping->shape[0], "slot_mapping");
    if (args->q_out->dtype == AC_UINT8 && args->q_dtype == AC_DTYPE_NONE)
        return ac_fail(error, AC_ERROR_TYPE, "%s: q_out: expected q_dtype= with a uint8 tensor, got None", op);
    if (ac_view_retype((ac_arg_t){op, "q_out", args->q_out}, "q_dtype", args->q_dtype, args->q_out, error) < 0)
        return -1;
    if (ac_check_tensors(args, rope_rules, AC_COUNT(rope_rules), sizes, error) < 0) return -1;
    if (ac_check_dtype((ac_arg_t){op, "k", args->k}, AC_SET(args->q->dtype), error) < 0) return -1;
    if (ac_check_dtype((ac_arg_t){op, "sin_cache", args->sin_cache}, AC_SET(args->cos_cache->dtype), error) < 0)
        return -1;
    if (retype_cache(args, op, error) < 0) return -1;
    if (ac_check_int(op, "q.shape[1]", ac_size(sizes, "H"), 1, INT32_MAX - 1, error) < 0) return -1;
    if (ac_size(sizes, "P") < 1)
        return ac_fail(error, AC_ERROR_VALUE, "%s: cos_cache: expected at least one row, got none", op);
    if (describe_cache(args, AC_INDEXER_DIM, 1, error) < 0) return -1;
    if (ac_check_own_memory(op, args, rope_rules, AC_COUNT(rope_rules), error) < 0) return -1;
    args->num_tokens = ac_size(sizes, "T");
    return find_kernel(args, "slot_mapping", ROPE, args->q->dtype, ac_size(sizes, "H") + 1, error);
}

static int check_gather(void *arguments, const void *plan, ac_error_t *error) {
    args_t *args = arguments;
    ac_sizes_t *sizes = &args->sizes;
    const char *op = gather_name;
    (void)plan;
    if (ac_find_target(op, "kv_cache", args->kv_cache->device, &args->target, error) < 0) return -1;
    ac_sizes_init(sizes, op);
    if (ac_check_tensors(args, gather_rules, AC_COUNT(gather_rules), sizes, error) < 0) return -1;
    const int64_t dim = ac_size(sizes, "D"), bytes = ac_size(sizes, "scales") * ac_dtype_bytes(args->dst_scale->dtype);
    if (ac_check_int(op, "dst_k.shape[1]", dim, 1, MAX_DIM, error) < 0) return -1;
    if (bytes < 4 || bytes % 4 != 0 || dim % (bytes / 4) != 0)
        return ac_fail(error, AC_ERROR_VALUE,
                       "%s: dst_scale: expected float32 scales whose number divides %" PRId64 " (of dst_k), got rows "
                       "of %" PRId64 " bytes",
                       op, dim, bytes);
    if (describe_cache(args, dim, bytes / 4, error) < 0) return -1;
    if (ac_check_own_memory(op, args, gather_rules, AC_COUNT(gather_rules), error) < 0) return -1;
    ac_view_t *views[] = {args->kv_cache, args->dst_k};
    for (int i = 0; i < AC_COUNT(views); i++)
        if (views[i]->dtype == AC_INT8) views[i]->dtype = AC_UINT8;
    args->num_tokens = ac_size(sizes, "T");
    return find_kernel(args, "dst_k", GATHER, args->dst_k->dtype, 1, error);
}

static int64_t entry_stride(const ac_view_t *view) { return view->shape[0] > 1 ? view->stride[0] : 0; }
static const int64_t *longs(const ac_view_t *view) { return (const int64_t *)(const void *)view->data; }

static int launch(const args_t *args, const void *params, size_t bytes, const void *final_rows, intptr_t stream,
                  ac_error_t *error) {
    const ac_launch_t launch = {
        .kernel = args->kernel,
        .params = params,
        .params_bytes = bytes,
        .grid = ac_kernel_tiles(args->kernel, args->num_items),
        .stream = stream,
        .writes = AC_WRITES_FINAL,
        .final_rows = final_rows,
    };
    if (args->num_items == 0 || !final_rows) return 0;
    return ac_launch(&args->target, &launch, error);
}

static ac_indexer_write_params_t write_params(const args_t *args) {
    const ac_view_t *k = args->k;
    return (ac_indexer_write_params_t){
        .cache = args->cache,
        .k = k->data,
        .k_stride = ac_stride_bytes(k, 0),
        .slots = longs(args->slot_mapping),
        .slots_stride = entry_stride(args->slot_mapping),
        .num_tokens = args->num_tokens,
        .num_items = args->num_items,
        .dtype = (int32_t)k->dtype,
        .power_of_2 = args->scale_fmt == UE8M0,
        .limit = LIMIT_OF(args->cache.dtype),
    };
}

static int run_write(void *arguments, const void *plan, intptr_t stream, ac_error_t *error) {
    const args_t *args = arguments;
    ac_indexer_write_params_t p = write_params(args);
    const uint64_t row = (uint64_t)(uintptr_t)p.k | (uint64_t)p.k_stride;
    (void)plan;
    p.aligned_words = (p.cache.dim / p.cache.groups) % 4 == 0 &&
                      row % (4 * (uint64_t)ac_dtype_bytes(args->k->dtype)) == 0;
    return launch(args, &p, sizeof p, p.cache.base, stream, error);
}

static int run_rope(void *arguments, const void *plan, intptr_t stream, ac_error_t *error) {
    const args_t *args = arguments;
    ac_indexer_write_params_t p = write_params(args);
    (void)plan;
    p.rope = (ac_rope_t){
        .positions = longs(args->positions),
        .positions_stride = entry_stride(args->positions),
        .cos = args->cos_cache->data,
        .sin = args->sin_cache->data,
        .rows = args->cos_cache->shape[0],
        .cos_stride = ac_stride_bytes(args->cos_cache, 0),
        .sin_stride = ac_stride_bytes(args->sin_cache, 0),
        .dtype = (int32_t)args->cos_cache->dtype,
        .pairs = AC_INDEXER_ROPE / 2,
        .neox = args->is_neox,
    };
    p.norm_weight = ac_floats(args->norm_weight);
    p.norm_bias = ac_floats(args->norm_bias);
    p.epsilon = (float)args->epsilon;
    p.weights_scale = (float)args->weights_scale;
    p.q = args->q->data;
    p.q_stride = ac_stride_bytes(args->q, 0);
    p.q_head_stride = ac_stride_bytes(args->q, 1);
    p.weights = args->weights->data;
    p.weights_stride = ac_stride_bytes(args->weights, 0);
    p.weights_head_stride = ac_stride_bytes(args->weights, 1);
    p.q_out = args->q_out->data;
    p.q_out_stride = ac_stride_bytes(args->q_out, 0);
    p.q_out_head_stride = ac_stride_bytes(args->q_out, 1);
    p.weights_out = args->weights_out->data;
    p.weights_out_stride = ac_stride_bytes(args->weights_out, 0);
    p.weights_out_head_stride = ac_stride_bytes(args->weights_out, 1);
    p.heads = (int32_t)ac_size(&args->sizes, "H");
    p.q_out_dtype = (int32_t)args->q_out->dtype;
    p.weights_dtype = (int32_t)args->weights->dtype;
    p.writes_all = args->compute_all_q_rope;
    p.q_limit = LIMIT_OF(args->q_out->dtype);
    return launch(args, &p, sizeof p, p.q_out, stream, error);
}

static int run_gather(void *arguments, const void *plan, intptr_t stream, ac_error_t *error) {
    const args_t *args = arguments;
    const ac_view_t *table = args->block_table;
    const ac_indexer_gather_params_t p = {
        .cache = args->cache,
        .keys = args->dst_k->data,
        .keys_stride = ac_stride_bytes(args->dst_k, 0),
        .scales = args->dst_scale->data,
        .scales_stride = ac_stride_bytes(args->dst_scale, 0),
        .table = ac_ints(table),
        .table_stride = entry_stride(table),
        .table_width = table->shape[1],
        .indptr = ac_ints(args->cu_seq_lens),
        .num_requests = table->shape[0],
        .num_tokens = args->num_tokens,
    };
    (void)plan;
    return launch(args, &p, sizeof p, p.keys, stream, error);
}

#define RAISES                                                                                                         \
    "Returns None. Raises TypeError, ValueError, BufferError, UnsupportedError, DeviceError; a refused call writes\n"  \
    "nothing."
#define SCALES                                                                                                         \
    "The scale of a group is max(largest size, least) / limit, least 1e-4 for keys and 1e-10 for queries, limit 448\n" \
    "for float8_e4m3fn and 224 for float8_e4m3fnuz; its codes are x * (1 / scale), rounded to nearest even. NaN\n"     \
    "stays NaN and does not count in the largest. A token without a slot is skipped"

#define AC_OP indexer_k_quant_and_cache
#define AC_OP_ARGS args_t
#define AC_OP_PARAMS "indexer_cache/params_write.inc"
#define AC_OP_SUMMARY "Quantise the indexer's keys by groups and write them into its cache."
#define AC_OP_NOTES SCALES ".\n\n" RAISES
#include "../define_op.inc"

#define AC_OP indexer_qk_rope_quant_and_cache
#define AC_OP_ARGS args_t
#define AC_OP_PARAMS "indexer_cache/params_rope.inc"
#define AC_OP_SUMMARY "Normalise, turn and quantise the indexer's keys into its cache; turn and quantise its queries."
#define AC_OP_NOTES                                                                                                    \
    "The first 64 elements turn. Queries and keys are rounded to their dtype after each step; weights_out =\n"         \
    "weights * scale of the query * weights_scale. " SCALES ", but for\nits query where compute_all_q_rope says "      \
    "so.\n\n" RAISES
#include "../define_op.inc"

#define AC_OP cp_gather_indexer_k_quant_cache
#define AC_OP_ARGS args_t
#define AC_OP_PARAMS "indexer_cache/params_gather.inc"
#define AC_OP_SUMMARY "Copy the indexer's keys and scales of each request out of its cache, one after the other."
#define AC_OP_NOTES                                                                                                    \
    "Token t of request b is its key number t - cu_seq_lens[b]; of several requests the first has it. A key whose\n"   \
    "page is not in the table or the cache is zeros. Tokens of no request are not written.\n\n" RAISES
#include "../define_op.inc"

#define OP(op, check_function, run_function)                                                                           \
    const ac_op_t ac_op_##op = {                                                                                       \
        .name = #op,                                                                                                   \
        .user_name = #op,                                                                                              \
        .doc = doc_##op,                                                                                               \
        .params = params_##op,                                                                                         \
        .param_count = AC_COUNT(params_##op),                                                                          \
        .args_bytes = sizeof(args_t),                                                                                  \
        .returns = AC_RETURNS_NONE,                                                                                    \
        .check = check_function,                                                                                       \
        .run = run_function,                                                                                           \
    }
OP(indexer_k_quant_and_cache, check_write, run_write);
OP(indexer_qk_rope_quant_and_cache, check_rope, run_rope);
OP(cp_gather_indexer_k_quant_cache, check_gather, run_gather);
