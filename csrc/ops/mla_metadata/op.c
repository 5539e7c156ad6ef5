/* get_mla_metadata_v1: work lists from the lengths of a batch. check -> one launch where the tensors are; where some
 * are on the CPU and some on a GPU, staged.c plans on the CPU and copies. */
#include "args.h"

#include <inttypes.h>

extern const ac_kernel_family_t ac_kernels_mla_metadata;

static const char op_name[] = "get_mla_metadata_v1";

#define RULE(field, dtypes, shape, flags) AC_RULE(ac_mla_metadata_args_t, field, dtypes, shape, flags)
#define INTS AC_SET(AC_INT32)
#define IN (AC_DENSE_ROWS | AC_HOST_TOO)
#define OUT (AC_CONTIGUOUS | AC_WRITTEN | AC_HOST_TOO)

static const ac_tensor_rule_t rules[] = {
    RULE(seqlens_qo_indptr, INTS, "B+1", IN),
    RULE(seqlens_kv_indptr, INTS, "B+1..", IN),
    RULE(work_metadata_ptrs, AC_SET(AC_UINT64) | AC_SET(AC_INT64), "2", OUT),
    RULE(work_info_set, INTS, "items 8", OUT),
    RULE(work_indptr, INTS, "W+1", OUT),
    RULE(reduce_indptr, INTS, "tiles+1", OUT),
    RULE(reduce_final_map, INTS, "rows 2", OUT),
    RULE(reduce_partial_map, INTS, "entries", OUT),
    /* Looked at where page_size is not 1: callers pass anything there. */
    RULE(kv_last_page_lens, INTS, "B..", IN),
};
static const ac_tensor_rule_t staging_rules[] = {
    RULE(staging, INTS, "words", OUT),    RULE(seqlens_qo_indptr, 0, NULL, 0),
    RULE(seqlens_kv_indptr, 0, NULL, 0),  RULE(kv_last_page_lens, 0, NULL, AC_MAY_BE_NONE),
    RULE(work_metadata_ptrs, 0, NULL, 0), RULE(work_info_set, 0, NULL, 0),
    RULE(work_indptr, 0, NULL, 0),        RULE(reduce_indptr, 0, NULL, 0),
    RULE(reduce_final_map, 0, NULL, 0),   RULE(reduce_partial_map, 0, NULL, 0),
};

/* None is -1 for every number. */
static void read_none(ac_mla_metadata_args_t *args) {
    int64_t *numbers[] = {&args->max_seqlen_qo, &args->uni_seqlen_qo, &args->topk, &args->max_split_per_batch};
    for (int i = 0; i < AC_COUNT(numbers); i++)
        if (*numbers[i] == AC_NO_INT) *numbers[i] = -1;
}

static int check_numbers(ac_mla_metadata_args_t *args, ac_error_t *error) {
    const struct {
        const char *name;
        int64_t value, low;
    } numbers[] = {{"num_heads_per_head_k", args->num_heads_per_head_k, 1},
                   {"num_heads_k", args->num_heads_k, 1},
                   {"page_size", args->page_size, 1},
                   {"kv_granularity", args->kv_granularity, 1},
                   {"max_seqlen_qo", args->max_seqlen_qo, INT32_MIN},
                   {"topk", args->topk, INT32_MIN},
                   {"uni_seqlen_qo", args->uni_seqlen_qo, INT32_MIN}};
    for (int i = 0; i < AC_COUNT(numbers); i++)
        if (ac_check_int(op_name, numbers[i].name, numbers[i].value, numbers[i].low, INT32_MAX, error) < 0) return -1;
    const int64_t heads = args->num_heads_per_head_k * args->num_heads_k, splits = args->max_split_per_batch;
    if (ac_check_int(op_name, "num_heads_per_head_k * num_heads_k", heads, 1, INT32_MAX, error) < 0) return -1;
    if (splits == -1 || (splits >= 1 && splits <= INT32_MAX)) return 0;
    return ac_fail(error, AC_ERROR_VALUE,
                   "%s: max_split_per_batch: expected None or -1 (automatic) or 1 to 2147483647, got %" PRId64, op_name,
                   splits);
}

/* The call's device is that of the first tensor that is not on the CPU. */
static void find_device(ac_mla_metadata_args_t *args) {
    const int count = AC_COUNT(rules) - (args->page_size == 1);
    bool on_host = false;
    args->sizes.device = (ac_device_t){AC_DEVICE_CPU, 0};
    for (int i = 0; i < count; i++) {
        const ac_view_t *view = *(ac_view_t **)(void *)((char *)args + rules[i].offset);
        if (!view) continue; /* refused by its rule */
        on_host |= view->device.type == AC_DEVICE_CPU;
        if (view->device.type == AC_DEVICE_CPU || args->sizes.leader) continue;
        args->sizes.leader = rules[i].name;
        args->sizes.device = view->device;
    }
    args->is_mixed = args->sizes.leader && on_host;
}

static bool is_fp8(ac_dtype_t dtype, ac_dtype_t other) {
    return ac_dtype_in(dtype == AC_DTYPE_NONE ? other : dtype, AC_FP8);
}

/* A buffer that holds less than one item per tile cannot hold any plan. */
static int check_buffer(const char *name, const ac_view_t *view, int64_t tiles, int64_t per_tile, int64_t more,
                        ac_error_t *error) {
    const int64_t needed = tiles * per_tile + more;
    if (view->shape[0] >= needed) return 0;
    return ac_fail(error, AC_ERROR_VALUE,
                   "%s: %s: expected at least %" PRId64 " rows for %" PRId64 " tiles, got %" PRId64, op_name, name,
                   needed, tiles, view->shape[0]);
}

static int check_buffers(const ac_mla_metadata_args_t *args, int64_t tiles, ac_error_t *error) {
    const int64_t items = args->deterministic ? AC_FIXED_SPLITS : 1, entries = args->deterministic ? items : 0;
    if (check_buffer("work_info_set", args->work_info_set, tiles, items, 0, error) < 0) return -1;
    if (check_buffer("reduce_indptr", args->reduce_indptr, tiles, 1, 1, error) < 0) return -1;
    if (check_buffer("reduce_final_map", args->reduce_final_map, tiles, 1, 0, error) < 0) return -1;
    return check_buffer("reduce_partial_map", args->reduce_partial_map, tiles, entries, 0, error);
}

/* What the host can know of the number of tiles: the query rows of a request at most, or one. */
static int check_tiles(const ac_mla_metadata_args_t *args, const ac_mla_metadata_params_t *p, ac_error_t *error) {
    int64_t rows = p->topk >= 0 ? 1 : p->uni_seqlen_q > 0 ? p->uni_seqlen_q : ac_max64(p->max_seqlen_q, 1);
    if (p->topk < 0 && p->max_seqlen_q > 0) rows = ac_min64(rows, p->max_seqlen_q);
    const int64_t all = (int64_t)ac_tiles_of((int32_t)rows, p->tile_rows).count * p->num_requests;
    if (ac_check_int(op_name, "seqlens_qo_indptr.shape[0] - 1", p->num_requests, 0, AC_LIST_MAX_TILES, error) < 0)
        return -1;
    if (ac_check_int(op_name, "tiles of the query rows", all, 0, AC_LIST_MAX_TILES, error) < 0) return -1;
    return check_buffers(args, all, error);
}

/* A size as the planner counts it: buffers beyond it hold what it can use. */
static int32_t at_most(int64_t size, int64_t most) { return (int32_t)ac_min64(size, most); }

static void fill_params(ac_mla_metadata_args_t *args) {
    ac_mla_metadata_params_t *p = &args->params;
    const ac_arch_t arch = args->target.facts.arch;
    const int64_t heads = args->num_heads_per_head_k * args->num_heads_k;
    const int64_t items = args->work_info_set->shape[0], entries = args->reduce_partial_map->shape[0];
    const int64_t requests = args->seqlens_qo_indptr->shape[0] - 1, splits = args->max_split_per_batch;
    int64_t tiles = ac_min64(args->reduce_indptr->shape[0] - 1, args->reduce_final_map->shape[0]);
    tiles = ac_min64(tiles, items);
    if (args->deterministic) tiles = ac_min64(tiles, ac_min64(items, entries) / AC_FIXED_SPLITS);
    p->num_requests = at_most(requests, INT32_MAX);
    p->num_workers = at_most(args->work_indptr->shape[0] - 1, INT32_MAX);
    p->max_tiles = at_most(tiles, AC_LIST_MAX_TILES);
    p->max_items = at_most(items, INT32_MAX);
    p->max_entries = at_most(entries, INT32_MAX);
    p->reduce_entries = at_most(args->reduce_indptr->shape[0], INT32_MAX);
    p->max_splits = splits < 0 ? -1 : at_most(splits * requests, INT32_MAX);
    p->tile_rows = ac_list_tile_rows(arch, is_fp8(args->dtype_q_nope, args->dtype_q),
                                     is_fp8(args->dtype_kv_nope, args->dtype_kv), heads, args->max_seqlen_qo);
    p->page_size = (int32_t)args->page_size;
    p->granule = (int32_t)args->kv_granularity;
    p->overhead = (int32_t)ac_ceil_div64(16, args->page_size);
    p->max_seqlen_q = (int32_t)args->max_seqlen_qo;
    p->uni_seqlen_q = (int32_t)args->uni_seqlen_qo;
    p->topk = args->topk < 0 ? -1 : (int32_t)ac_ceil_div64(args->topk, args->page_size);
    p->trims = args->is_causal && args->page_size == 1 && p->topk < 0 && !args->is_cp_round_robin;
    p->tail_keys = args->page_size == 1 && p->max_seqlen_q > 1 ? p->max_seqlen_q : 0; /* every cut leaves one */
    p->deterministic = args->deterministic;
}

static const ac_kernel_t *choose(ac_arch_t arch, ac_error_t *error) {
    const ac_kernel_request_t request = {
        .op = op_name, .family = &ac_kernels_mla_metadata, .keys = {AC_ANY_KEY}, .rows = 1};
    return ac_choose_kernel(&request, arch, error);
}

static int check(void *arguments, const void *plan, ac_error_t *error) {
    ac_mla_metadata_args_t *args = arguments;
    const int count = AC_COUNT(rules);
    (void)plan;
    read_none(args);
    if (check_numbers(args, error) < 0) return -1;
    ac_sizes_init(&args->sizes, op_name);
    find_device(args);
    const char *leader = args->sizes.leader ? args->sizes.leader : rules[0].name;
    if (ac_find_target(op_name, leader, args->sizes.device, &args->target, error) < 0) return -1;
    if (ac_check_tensors(args, rules, count - (args->page_size == 1), &args->sizes, error) < 0) return -1;
    if (ac_check_int(op_name, "work_indptr.shape[0]", args->work_indptr->shape[0], 2, INT32_MAX, error) < 0) return -1;
    if (ac_check_int(op_name, "reduce_indptr.shape[0]", args->reduce_indptr->shape[0], 1, INT32_MAX, error) < 0)
        return -1;
    if (ac_check_own_memory(op_name, args, rules, count, error) < 0) return -1;
    fill_params(args);
    if (check_tiles(args, &args->params, error) < 0) return -1;
    args->runs_on = args->target;
    if (args->is_mixed && ac_find_target(op_name, leader, (ac_device_t){AC_DEVICE_CPU, 0}, &args->runs_on, error) < 0)
        return -1;
    args->kernel = choose(args->runs_on.facts.arch, error);
    if (!args->kernel) return -1;
    args->result = args->is_mixed ? ac_list_staging_words(args) : 0;
    if (!args->staging) return 0;
    ac_size_bind(&args->sizes, "words", args->result, "the tensors on both sides");
    if (ac_check_tensors(args, staging_rules, 1, &args->sizes, error) < 0) return -1;
    return ac_check_own_memory(op_name, args, staging_rules, AC_COUNT(staging_rules), error);
}

int ac_launch_lists(const ac_mla_metadata_args_t *args, const ac_mla_metadata_params_t *params, intptr_t stream,
                    ac_error_t *error) {
    const ac_launch_t launch = {
        .kernel = args->kernel, .params = params, .params_bytes = sizeof *params, .grid = 1, .stream = stream};
    return ac_launch(&args->runs_on, &launch, error);
}

static int run(void *arguments, const void *plan, intptr_t stream, ac_error_t *error) {
    ac_mla_metadata_args_t *args = arguments;
    ac_mla_metadata_params_t *p = &args->params;
    (void)plan;
    p->qo_indptr = ac_ints(args->seqlens_qo_indptr);
    p->kv_indptr = ac_ints(args->seqlens_kv_indptr);
    p->last_page_lens = args->page_size == 1 ? NULL : ac_ints(args->kv_last_page_lens);
    p->tag = (uint64_t *)(void *)args->work_metadata_ptrs->data;
    p->work_indptr = (int32_t *)(void *)args->work_indptr->data;
    p->work_info = (int32_t *)(void *)args->work_info_set->data;
    p->reduce_indptr = (int32_t *)(void *)args->reduce_indptr->data;
    p->final_map = (int32_t *)(void *)args->reduce_final_map->data;
    p->partial_map = (int32_t *)(void *)args->reduce_partial_map->data;
    if (!args->is_mixed) return ac_launch_lists(args, p, stream, error);
    if (!args->staging) return 0; /* the caller comes again with so many words */
    args->result = 0;
    return ac_run_staged(args, stream, error);
}

#define AC_OP mla_metadata
#define AC_OP_ARGS ac_mla_metadata_args_t
#define AC_OP_PARAMS "mla_metadata/params.inc"
#define AC_OP_SUMMARY "Plan the work lists of MLA decode: aiter_c.get_mla_metadata_v1 without its second try."
#define AC_OP_NOTES                                                                                                    \
    "Returns 0, or where tensors are on the CPU and on a GPU and there is no staging: nothing was written, and this\n" \
    "many int32 of staging are needed. Raises TypeError, ValueError, BufferError, UnsupportedError, DeviceError."
#include "../define_op.inc"

const ac_op_t ac_op_mla_metadata = {
    .name = "mla_metadata",
    .user_name = op_name,
    .doc = doc_mla_metadata,
    .params = params_mla_metadata,
    .param_count = AC_COUNT(params_mla_metadata),
    .args_bytes = sizeof(ac_mla_metadata_args_t),
    .returns = AC_RETURNS_INT,
    .check = check,
    .run = run,
};
