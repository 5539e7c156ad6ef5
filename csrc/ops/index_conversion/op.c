/* Index conversion for sparse attention: from the positions that top-k selected to slots of the cache. Five forms, as
 * engines have them: a CSR list of slots or a table of blocks per request, rows that are requests' or name their own,
 * packed or padded output; and the compaction of rows that hold slots already. check -> one launch. */
#include "../../core/op.h"
#include "../../core/rules.h"
#include "../../device/device.h"
#include "kernel_params.h"

extern const ac_kernel_family_t ac_kernels_index_conversion;

/* The arguments of all forms by their Python names; those that a form does not have are NULL. */
typedef struct {
    ac_view_t *qo_indptr, *kv_indptr, *page_kv_indptr, *kv_indices, *token_indices, *out;
    ac_view_t *sparse_kv_indptr, *token_to_seq_idxs, *topk_indices;
    ac_view_t *dsa_qo_indptr, *dsa_kv_indptr, *cu_seqlens_q;
    ac_view_t *req_id, *block_table, *cu_seqlens, *paged_kv_indices, *page_table;
    int64_t NUM_TOPK_TOKENS, BLOCK_SIZE, BLOCK_STRIDE_ROWS, PAGE_SIZE, bs;
    /* What the check found. */
    const ac_tensor_rule_t *rules;
    int rule_count;
    bool is_fresh; /* out */
    ac_sizes_t sizes;
    ac_target_t target;
    const ac_kernel_t *kernel;
    int64_t rows, grid;
    ac_index_params_t params; /* but for the address of a fresh out */
} args_t;

#define RULE(field, shape, flags) AC_RULE(args_t, field, AC_SET(AC_INT32), shape, flags)
#define OUT (AC_DENSE_ROWS | AC_WRITTEN)

/* Where a form takes the lengths that its tensors share, each has a symbol of its own. */
static const ac_tensor_rule_t lists_rules[] = {
    RULE(qo_indptr, "Q+1", AC_DENSE_ROWS | AC_LEADS),  RULE(kv_indptr, "B+1", AC_DENSE_ROWS),
    RULE(page_kv_indptr, "P+1", AC_DENSE_ROWS),        RULE(kv_indices, "n", AC_DENSE_ROWS),
    RULE(token_indices, "rows topk..", AC_DENSE_ROWS), RULE(out, "m", OUT | AC_MAY_BE_NONE),
};
static const ac_tensor_rule_t gather_rules[] = {
    RULE(sparse_kv_indptr, "P+1", AC_DENSE_ROWS | AC_LEADS),
    RULE(token_to_seq_idxs, "T", AC_DENSE_ROWS),
    RULE(topk_indices, "rows topk..", AC_DENSE_ROWS),
    RULE(kv_indices, "n", AC_DENSE_ROWS),
    RULE(kv_indptr, "B+1", AC_DENSE_ROWS),
    RULE(out, "m", OUT | AC_MAY_BE_NONE),
};
static const ac_tensor_rule_t prefill_rules[] = {
    RULE(dsa_qo_indptr, "Q+1", AC_DENSE_ROWS | AC_LEADS),
    RULE(dsa_kv_indptr, "P+1", AC_DENSE_ROWS),
    RULE(token_to_seq_idxs, "T", AC_DENSE_ROWS),
    RULE(topk_indices, "rows topk..", AC_DENSE_ROWS),
    RULE(block_table, "R blocks", AC_DENSE_ROWS),
    RULE(cu_seqlens_q, "S+1", AC_DENSE_ROWS),
    RULE(out, "m", OUT | AC_MAY_BE_NONE),
};
static const ac_tensor_rule_t ragged_rules[] = {
    RULE(req_id, "T", AC_DENSE_ROWS | AC_LEADS),
    RULE(block_table, "R blocks", AC_DENSE_ROWS),
    RULE(token_indices, "T.. topk..", AC_DENSE_ROWS),
    RULE(cu_seqlens, "T+1..", AC_DENSE_ROWS),
    RULE(paged_kv_indices, "m", OUT),
};
static const ac_tensor_rule_t padded_rules[] = {
    RULE(req_id, "T", AC_DENSE_ROWS | AC_LEADS),
    RULE(block_table, "R blocks", AC_DENSE_ROWS),
    RULE(token_indices, "T.. topk..", AC_DENSE_ROWS),
    RULE(out, "T.. topk..", OUT | AC_MAY_BE_NONE),
};
static const ac_tensor_rule_t valid_rules[] = {
    RULE(page_table, "bs.. k", AC_DENSE_ROWS | AC_LEADS),
    RULE(kv_indptr, "bs+1..", AC_DENSE_ROWS),
    RULE(kv_indices, "m", OUT),
};

static const char convert_name[] = "convert_req_index_to_global_index", gather_name[] = "gather_kv_indices_sparse",
                  prefill_name[] = "convert_req_index_to_global_index_dsa_prefill",
                  valid_name[] = "get_valid_kv_indices";

/* The tensors by the rules of the form, on one device. */
static int check_form(args_t *args, const char *op, const ac_tensor_rule_t *rules, int count, ac_error_t *error) {
    const ac_view_t *leader = *(ac_view_t **)(void *)((char *)args + rules[0].offset);
    args->rules = rules;
    args->rule_count = count;
    args->is_fresh = !args->out;
    if (ac_find_target(op, rules[0].name, leader->device, &args->target, error) < 0) return -1;
    if (ac_check_tensors(args, rules, count, &args->sizes, error) < 0) return -1;
    return ac_check_own_memory(op, args, rules, count, error);
}

static int begin_conversion(args_t *args, const char *op, ac_error_t *error) {
    if (ac_check_int(op, "NUM_TOPK_TOKENS", args->NUM_TOPK_TOKENS, 0, INT32_MAX, error) < 0) return -1;
    ac_sizes_init(&args->sizes, op);
    ac_size_bind(&args->sizes, "topk", args->NUM_TOPK_TOKENS, "NUM_TOPK_TOKENS");
    return 0;
}

static void set_out(ac_index_params_t *p, const ac_view_t *out) {
    p->out = out->data;
    p->out_size = out->shape[0];
    p->out_stride = p->out_indptr ? 0 : ac_stride_bytes(out, 0);
}

/* `entries` has the columns, `name` is its argument. */
static int finish_check(args_t *args, const char *op, const char *name, const ac_view_t *entries, int64_t columns,
                        ac_error_t *error) {
    const bool compacts = args->page_table != NULL;
    const ac_kernel_request_t request = {
        .op = op, .family = &ac_kernels_index_conversion, .keys = {AC_INT32}, .features = AC_WRITES_FINAL, .rows = 1};
    args->params.entries = entries->data;
    args->params.entries_stride = ac_stride_bytes(entries, 0);
    args->params.columns = columns;
    args->params.tiles = compacts ? 0 : (int32_t)ac_ceil_div64(columns, AC_INDEX_TILE);
    if (__builtin_mul_overflow(args->rows, compacts ? 1 : args->params.tiles, &args->grid)) args->grid = INT64_MAX;
    args->kernel = ac_choose_kernel(&request, args->target.facts.arch, error);
    if (!args->kernel) return -1;
    return ac_check_launch(op, name, args->kernel, args->grid, &args->target.facts, error);
}

/* Requests that are CSR lists of slots: kv_indices by kv_indptr. */
static void set_lists(args_t *args, const ac_view_t *ranges) {
    ac_index_params_t *p = &args->params;
    p->pages = args->kv_indices->data;
    p->num_pages = args->kv_indices->shape[0];
    p->page_indptr = ac_ints(args->kv_indptr);
    p->num_requests = ac_size(&args->sizes, "B");
    p->page_size = p->page_stride_rows = 1;
    p->out_indptr = ac_ints(ranges);
}

static int check_lists(void *arguments, const void *plan, ac_error_t *error) {
    args_t *args = arguments;
    ac_sizes_t *sizes = &args->sizes;
    (void)plan;
    if (begin_conversion(args, convert_name, error) < 0) return -1;
    if (check_form(args, convert_name, lists_rules, AC_COUNT(lists_rules), error) < 0) return -1;
    args->rows = ac_min64(ac_min64(ac_size(sizes, "Q"), ac_size(sizes, "B")),
                          ac_min64(ac_size(sizes, "P"), ac_size(sizes, "rows")));
    set_lists(args, args->page_kv_indptr);
    return finish_check(args, convert_name, "token_indices", args->token_indices, args->NUM_TOPK_TOKENS, error);
}

static int check_gather(void *arguments, const void *plan, ac_error_t *error) {
    args_t *args = arguments;
    ac_sizes_t *sizes = &args->sizes;
    (void)plan;
    if (begin_conversion(args, gather_name, error) < 0) return -1;
    if (check_form(args, gather_name, gather_rules, AC_COUNT(gather_rules), error) < 0) return -1;
    args->rows = ac_min64(ac_size(sizes, "P"), ac_min64(ac_size(sizes, "T"), ac_size(sizes, "rows")));
    set_lists(args, args->sparse_kv_indptr);
    args->params.requests = ac_ints(args->token_to_seq_idxs);
    return finish_check(args, gather_name, "topk_indices", args->topk_indices, args->NUM_TOPK_TOKENS, error);
}

/* Requests that are rows of a table of blocks. */
static void set_table(args_t *args, int64_t page_size, int64_t page_stride_rows) {
    ac_index_params_t *p = &args->params;
    p->pages = args->block_table->data;
    p->num_pages = ac_size(&args->sizes, "blocks");
    p->pages_stride = ac_stride_bytes(args->block_table, 0);
    p->page_size = (int32_t)page_size;
    p->page_stride_rows = (int32_t)page_stride_rows;
}

static int check_prefill(void *arguments, const void *plan, ac_error_t *error) {
    args_t *args = arguments;
    ac_sizes_t *sizes = &args->sizes;
    ac_index_params_t *p = &args->params;
    (void)plan;
    if (begin_conversion(args, prefill_name, error) < 0) return -1;
    if (ac_check_int(prefill_name, "PAGE_SIZE", args->PAGE_SIZE, 1, INT32_MAX, error) < 0) return -1;
    if (check_form(args, prefill_name, prefill_rules, AC_COUNT(prefill_rules), error) < 0) return -1;
    const int64_t blocks = ac_size(sizes, "blocks");
    if (ac_check_int(prefill_name, "block_table.shape[1]", blocks, 0, INT32_MAX, error) < 0) return -1;
    args->rows = ac_min64(ac_min64(ac_size(sizes, "Q"), ac_size(sizes, "P")),
                          ac_min64(ac_size(sizes, "T"), ac_size(sizes, "rows")));
    p->requests = ac_ints(args->token_to_seq_idxs);
    p->num_requests = ac_min64(ac_size(sizes, "R"), ac_size(sizes, "S"));
    p->firsts = ac_ints(args->cu_seqlens_q);
    p->out_indptr = ac_ints(args->dsa_kv_indptr);
    set_table(args, args->PAGE_SIZE, args->PAGE_SIZE);
    return finish_check(args, prefill_name, "topk_indices", args->topk_indices, args->NUM_TOPK_TOKENS, error);
}

/* vLLM's forms. */
static int check_table(args_t *args, const ac_tensor_rule_t *rules, int count, ac_error_t *error) {
    ac_index_params_t *p = &args->params;
    const int64_t stride = args->BLOCK_STRIDE_ROWS == AC_NO_INT ? args->BLOCK_SIZE : args->BLOCK_STRIDE_ROWS;
    if (begin_conversion(args, convert_name, error) < 0) return -1;
    if (ac_check_int(convert_name, "BLOCK_SIZE", args->BLOCK_SIZE, 1, INT32_MAX, error) < 0) return -1;
    if (ac_check_int(convert_name, "BLOCK_STRIDE_ROWS", stride, args->BLOCK_SIZE, INT32_MAX, error) < 0) return -1;
    if (check_form(args, convert_name, rules, count, error) < 0) return -1;
    const int64_t blocks = ac_size(&args->sizes, "blocks");
    if (ac_check_int(convert_name, "block_table.shape[1]", blocks, 0, INT32_MAX, error) < 0) return -1;
    args->rows = ac_size(&args->sizes, "T");
    p->requests = ac_ints(args->req_id);
    p->num_requests = ac_size(&args->sizes, "R");
    p->out_indptr = ac_ints(args->cu_seqlens);
    set_table(args, args->BLOCK_SIZE, stride);
    return finish_check(args, convert_name, "token_indices", args->token_indices, args->NUM_TOPK_TOKENS, error);
}

static int check_ragged(void *arguments, const void *plan, ac_error_t *error) {
    (void)plan;
    return check_table(arguments, ragged_rules, AC_COUNT(ragged_rules), error);
}

static int check_padded(void *arguments, const void *plan, ac_error_t *error) {
    (void)plan;
    return check_table(arguments, padded_rules, AC_COUNT(padded_rules), error);
}

static int check_valid(void *arguments, const void *plan, ac_error_t *error) {
    args_t *args = arguments;
    (void)plan;
    if (ac_check_int(valid_name, "bs", args->bs, 0, INT32_MAX, error) < 0) return -1;
    ac_sizes_init(&args->sizes, valid_name);
    ac_size_bind(&args->sizes, "bs", args->bs, "bs");
    if (check_form(args, valid_name, valid_rules, AC_COUNT(valid_rules), error) < 0) return -1;
    const int64_t columns = ac_size(&args->sizes, "k");
    if (ac_check_int(valid_name, "page_table.shape[1]", columns, 0, INT32_MAX, error) < 0) return -1;
    args->rows = args->bs;
    args->params.out_indptr = ac_ints(args->kv_indptr);
    return finish_check(args, valid_name, "page_table", args->page_table, columns, error);
}

/* A fresh output: an entry for every column of every row. */
static int find_workspaces(const void *arguments, const void *plan, ac_workspace_t *out, ac_error_t *error) {
    const args_t *args = arguments;
    (void)plan;
    if (args->params.out_indptr) {
        int64_t size;
        if (__builtin_mul_overflow(args->rows, args->NUM_TOPK_TOKENS, &size))
            return ac_fail(error, AC_ERROR_VALUE, "%s: out: expected fewer entries, got %lld rows of %lld",
                           args->sizes.op, (long long)args->rows, (long long)args->NUM_TOPK_TOKENS);
        out[0] = (ac_workspace_t){args->is_fresh, AC_INT32, 1, {size}};
        return 0;
    }
    out[0] = (ac_workspace_t){args->is_fresh, AC_INT32, 2, {args->rows, args->NUM_TOPK_TOKENS}};
    return 0;
}

/* What no range covers of a fresh output is -1 as well. */
static int begin_fresh(args_t *args, intptr_t stream, ac_error_t *error) {
    const ac_runtime_t *runtime = args->target.runtime;
    const ac_tensor_rule_t *rule = &args->rules[args->rule_count - 1];       /* out */
    if (ac_check_tensors(args, rule, 1, &args->sizes, error) < 0) return -1; /* a test's allocator gives anything */
    if (ac_check_own_memory(args->sizes.op, args, args->rules, args->rule_count, error) < 0) return -1;
    const int64_t size = ac_view_numel(args->out);
    if (!args->params.out_indptr || size == 0) return 0;
    return runtime->fill32(runtime, args->target.device.index, args->out->data, UINT32_MAX, size, stream, error);
}

static int run(void *arguments, const void *plan, intptr_t stream, ac_error_t *error) {
    args_t *args = arguments;
    const ac_view_t *out = args->out;
    (void)plan;
    if (args->paged_kv_indices) out = args->paged_kv_indices;
    else if (args->page_table) out = args->kv_indices;
    else if (args->is_fresh && begin_fresh(args, stream, error) < 0) return -1;
    if (args->grid == 0 || ac_view_numel(out) == 0) return 0;
    set_out(&args->params, out);
    const ac_launch_t launch = {
        .kernel = args->kernel,
        .params = &args->params,
        .params_bytes = sizeof args->params,
        .grid = args->grid,
        .stream = stream,
        .writes = AC_WRITES_FINAL,
        .final_rows = args->params.out,
    };
    return ac_launch(&args->target, &launch, error);
}

#define RAISES                                                                                                         \
    "Raises TypeError, ValueError, BufferError, UnsupportedError, DeviceError; a refused call writes nothing."
#define INVALID                                                                                                        \
    "An entry is written as -1 where the position is outside of the request's keys, the request outside of the\n"      \
    "tensors, or what stands there below 0. Indptrs are clamped to their tensors; a range takes up to\n"               \
    "NUM_TOPK_TOKENS entries, and those that a row has no column for are -1.\n\n"

#define AC_OP convert_index_lists
#define AC_OP_ARGS args_t
#define AC_OP_PARAMS "index_conversion/params_lists.inc"
#define AC_OP_SUMMARY "Convert positions to slots, ATOM's form: one row and one packed range per request."
#define AC_OP_NOTES INVALID "Returns (out,). " RAISES
#include "../define_op.inc"

#define AC_OP gather_kv_indices_sparse
#define AC_OP_ARGS args_t
#define AC_OP_PARAMS "index_conversion/params_gather.inc"
#define AC_OP_SUMMARY "Convert positions to slots, ATOM's form of several rows per request."
#define AC_OP_NOTES INVALID "Returns (out,). " RAISES
#include "../define_op.inc"

#define AC_OP convert_index_prefill
#define AC_OP_ARGS args_t
#define AC_OP_PARAMS "index_conversion/params_prefill.inc"
#define AC_OP_SUMMARY "Convert numbers of keys to slots by a table of pages, ATOM's form of a prefill."
#define AC_OP_NOTES INVALID "Returns (out,). " RAISES
#include "../define_op.inc"

#define AC_OP convert_index_ragged
#define AC_OP_ARGS args_t
#define AC_OP_PARAMS "index_conversion/params_ragged.inc"
#define AC_OP_SUMMARY "Convert positions to slots by a table of blocks, vLLM's form with packed lists."
#define AC_OP_NOTES INVALID "Returns None. " RAISES
#include "../define_op.inc"

#define AC_OP convert_index_padded
#define AC_OP_ARGS args_t
#define AC_OP_PARAMS "index_conversion/params_padded.inc"
#define AC_OP_SUMMARY "Convert positions to slots by a table of blocks, vLLM's form with a row of out per row."
#define AC_OP_NOTES INVALID "Returns (out,). " RAISES
#include "../define_op.inc"

#define AC_OP get_valid_kv_indices
#define AC_OP_ARGS args_t
#define AC_OP_PARAMS "index_conversion/params_valid.inc"
#define AC_OP_SUMMARY "Pack the slots of every row, without those that are -1, into the row's range of kv_indices."
#define AC_OP_NOTES                                                                                                    \
    "Row t writes the range [kv_indptr[t], kv_indptr[t+1]), clamped to kv_indices, up to k entries of it: its slots\n" \
    "in their order, another number below 0 as -1, then -1. Returns None. " RAISES
#include "../define_op.inc"

#define OP(op, user, check_function, returned)                                                                         \
    const ac_op_t ac_op_##op = {                                                                                       \
        .name = #op,                                                                                                   \
        .user_name = user,                                                                                             \
        .doc = doc_##op,                                                                                               \
        .params = params_##op,                                                                                         \
        .param_count = AC_COUNT(params_##op),                                                                          \
        .args_bytes = sizeof(args_t),                                                                                  \
        .returns = returned,                                                                                           \
        .check = check_function,                                                                                       \
        .workspaces = returned == AC_RETURNS_WORKSPACES ? find_workspaces : NULL,                                      \
        .run = run,                                                                                                    \
    }
OP(convert_index_lists, convert_name, check_lists, AC_RETURNS_WORKSPACES);
OP(gather_kv_indices_sparse, gather_name, check_gather, AC_RETURNS_WORKSPACES);
OP(convert_index_prefill, prefill_name, check_prefill, AC_RETURNS_WORKSPACES);
OP(convert_index_ragged, convert_name, check_ragged, AC_RETURNS_NONE);
OP(convert_index_padded, convert_name, check_padded, AC_RETURNS_WORKSPACES);
OP(get_valid_kv_indices, valid_name, check_valid, AC_RETURNS_NONE);
