/* get_ps_metadata_v1: work lists of prefill from the lengths of a batch. check -> one launch where the tensors are;
 * where some are on the CPU and some on a GPU, the CPU plans; see attention/staging.h. */
#include <inttypes.h>

#include "../../core/op.h"
#include "../attention/staging.h"
#include "walk.h"

extern const ac_kernel_family_t ac_kernels_ps_metadata;

static const char op_name[] = "get_ps_metadata_v1";

typedef struct {
    int64_t result; /* words of staging that are needed */
    ac_view_t *seqlens_qo_indptr, *pages_kv_indptr, *context_lens;
    ac_view_t *work_indptr, *work_info, *reduce_indptr, *reduce_final_map, *reduce_partial_map, *staging;
    int64_t gqa_ratio, num_heads_k, qlen_granularity, kvlen_granularity, block_size;
    int is_causal, need_lse;
    /* What the check found. */
    ac_sizes_t sizes;
    ac_target_t target, runs_on; /* the device of the lists, and that of the planner */
    bool is_mixed;               /* tensors are on the CPU and on a GPU: then it is the CPU that plans */
    const ac_kernel_t *kernel;
    ac_ps_metadata_params_t params;
} args_t;

#define RULE(field, shape, flags) AC_RULE(args_t, field, AC_SET(AC_INT32), shape, flags)
#define IN (AC_DENSE_ROWS | AC_HOST_TOO)
#define OUT (AC_CONTIGUOUS | AC_WRITTEN | AC_HOST_TOO)

static const ac_tensor_rule_t rules[] = {
    RULE(seqlens_qo_indptr, "B+1", IN),
    RULE(pages_kv_indptr, "B+1..", IN),
    RULE(context_lens, "B..", IN),
    RULE(work_indptr, "W+1", OUT),
    RULE(work_info, "items 8", OUT),
    RULE(reduce_indptr, "tiles+1", OUT),
    RULE(reduce_final_map, "rows 2", OUT),
    RULE(reduce_partial_map, "entries", OUT),
    RULE(staging, "words", OUT | AC_MAY_BE_NONE),
};
enum { RULES = AC_COUNT(rules), LISTS = RULES - 1 };

static int check_numbers(const args_t *args, ac_error_t *error) {
    if (ac_check_int(op_name, "gqa_ratio", args->gqa_ratio, 1, UINT16_MAX, error) < 0) return -1;
    if (ac_check_int(op_name, "num_heads_k", args->num_heads_k, 1, UINT16_MAX, error) < 0) return -1;
    const int64_t heads = args->gqa_ratio * args->num_heads_k;
    if (ac_check_int(op_name, "gqa_ratio * num_heads_k", heads, 1, UINT16_MAX, error) < 0) return -1;
    if (ac_check_int(op_name, "qlen_granularity", args->qlen_granularity, 1, 256, error) < 0) return -1;
    if (ac_check_int(op_name, "block_size", args->block_size, 1, INT32_MAX, error) < 0) return -1;
    if (ac_check_int(op_name, "kvlen_granularity", args->kvlen_granularity, 1, INT32_MAX, error) < 0) return -1;
    if (args->kvlen_granularity % args->block_size == 0) return 0;
    return ac_fail(error, AC_ERROR_VALUE,
                   "%s: kvlen_granularity: expected a multiple of block_size %" PRId64 ", got %" PRId64, op_name,
                   args->block_size, args->kvlen_granularity);
}

static const ac_view_t *view_of(const args_t *args, int i) {
    return *(ac_view_t *const *)(const void *)((const char *)args + rules[i].offset);
}

/* The call's device is that of the first tensor that is not on the CPU. */
static void find_device(args_t *args) {
    bool on_host = false;
    args->sizes.device = (ac_device_t){AC_DEVICE_CPU, 0};
    for (int i = 0; i < LISTS; i++) {
        const ac_view_t *view = view_of(args, i);
        on_host |= view->device.type == AC_DEVICE_CPU;
        if (view->device.type == AC_DEVICE_CPU || args->sizes.leader) continue;
        args->sizes.leader = rules[i].name;
        args->sizes.device = view->device;
    }
    args->is_mixed = args->sizes.leader && on_host;
}

static int64_t greatest_divisor(int64_t a, int64_t b) {
    while (b != 0) {
        const int64_t rest = a % b;
        a = b;
        b = rest;
    }
    return a;
}

static void fill_params(args_t *args) {
    ac_ps_metadata_params_t *p = &args->params;
    const int64_t workers = args->work_indptr->shape[0] - 1;
    const int64_t clusters = greatest_divisor(args->num_heads_k, workers);
    p->max_items = args->work_info->shape[0];
    p->reduce_entries = args->reduce_indptr->shape[0];
    p->final_rows = args->reduce_final_map->shape[0];
    p->max_entries = args->reduce_partial_map->shape[0];
    p->max_tiles = (int32_t)ac_min64(ac_min64(p->reduce_entries - 1, p->final_rows), AC_PS_MAX_TILES);
    p->num_requests = (int32_t)(args->seqlens_qo_indptr->shape[0] - 1);
    p->clusters = (int32_t)clusters;
    p->workers = (int32_t)(workers / clusters);
    p->heads = (int32_t)(args->num_heads_k / clusters);
    p->group_size = (int32_t)args->gqa_ratio;
    p->tile_rows = (int32_t)args->qlen_granularity;
    p->unit_keys = (int32_t)args->kvlen_granularity;
    p->unit_pages = (int32_t)(args->kvlen_granularity / args->block_size);
    p->page_size = (int32_t)args->block_size;
    p->causal = args->is_causal;
    p->need_lse = args->need_lse;
}

/* The tensors that the planner touches. */
static void stage_tensors(const args_t *args, ac_ps_metadata_params_t *p, ac_staging_t *out) {
    const int64_t indptr = args->seqlens_qo_indptr->shape[0];
    ac_stage(out, args->work_indptr, -1, &p->work_indptr);
    ac_stage(out, args->work_info, -1, &p->work_info);
    ac_stage(out, args->reduce_indptr, -1, &p->reduce_indptr);
    ac_stage(out, args->reduce_final_map, -1, &p->final_map);
    ac_stage(out, args->reduce_partial_map, -1, &p->partial_map);
    ac_stage(out, args->seqlens_qo_indptr, indptr, &p->qo_indptr);
    ac_stage(out, args->pages_kv_indptr, indptr, &p->kv_indptr);
    ac_stage(out, args->context_lens, indptr - 1, &p->context_lens);
}

static int check_sizes(const args_t *args, ac_error_t *error) {
    if (ac_check_int(op_name, "work_indptr.shape[0]", args->work_indptr->shape[0], 2, AC_PS_MAX_TILES, error) < 0)
        return -1;
    if (ac_check_int(op_name, "work_info.shape[0]", args->work_info->shape[0], 0, INT32_MAX, error) < 0) return -1;
    if (ac_check_int(op_name, "reduce_indptr.shape[0]", args->reduce_indptr->shape[0], 1, INT32_MAX, error) < 0)
        return -1;
    return ac_check_int(op_name, "seqlens_qo_indptr.shape[0] - 1", args->seqlens_qo_indptr->shape[0] - 1, 0,
                        AC_PS_MAX_TILES, error);
}

static int check(void *arguments, const void *plan, ac_error_t *error) {
    args_t *args = arguments;
    (void)plan;
    if (check_numbers(args, error) < 0) return -1;
    ac_sizes_init(&args->sizes, op_name);
    find_device(args);
    const char *leader = args->sizes.leader ? args->sizes.leader : rules[0].name;
    if (ac_find_target(op_name, leader, args->sizes.device, &args->target, error) < 0) return -1;
    if (ac_check_tensors(args, rules, LISTS, &args->sizes, error) < 0) return -1;
    if (check_sizes(args, error) < 0) return -1;
    fill_params(args);
    args->runs_on = args->target;
    if (args->is_mixed && ac_find_target(op_name, leader, (ac_device_t){AC_DEVICE_CPU, 0}, &args->runs_on, error) < 0)
        return -1;
    const ac_kernel_request_t request = {
        .op = op_name, .family = &ac_kernels_ps_metadata, .keys = {AC_ANY_KEY}, .rows = 1};
    args->kernel = ac_choose_kernel(&request, args->runs_on.facts.arch, error);
    if (!args->kernel) return -1;
    if (args->is_mixed) {
        ac_staging_t staging = {0};
        ac_ps_metadata_params_t unused;
        stage_tensors(args, &unused, &staging);
        args->result = ac_staging_words(&staging);
    }
    if (args->staging) ac_size_bind(&args->sizes, "words", args->result, "the tensors on both sides");
    if (ac_check_tensors(args, rules + LISTS, 1, &args->sizes, error) < 0) return -1;
    return ac_check_own_memory(op_name, args, rules, RULES, error);
}

static int check_buffer(const char *name, int64_t size, const char *of, int64_t needed, ac_error_t *error) {
    if (size >= needed) return 0;
    return ac_fail(error, AC_ERROR_VALUE, "%s: %s: expected at least %" PRId64 " %s for these lengths, got %" PRId64,
                   op_name, name, needed, of, size);
}

/* Where the lengths are in the host's memory: that the buffers hold their plan. */
static int check_buffers(ac_ps_metadata_params_t *p, ac_error_t *error) {
    int64_t tiles = 0;
    for (int32_t i = 0; i < p->num_requests; i++) tiles += ac_ps_request(p, i, INT32_MAX).tiles;
    if (ac_check_int(op_name, "tiles of the query rows", tiles, 0, AC_PS_MAX_TILES, error) < 0) return -1;
    p->max_tiles = (int32_t)tiles;
    ac_ps_counts_t counts;
    ac_ps_count(p, &counts);
    if (check_buffer("work_info", p->max_items, "rows", ac_ps_items(p, &counts), error) < 0) return -1;
    if (check_buffer("reduce_indptr", p->reduce_entries, "entries", ac_ps_groups(p, &counts) + 1, error) < 0) return -1;
    if (check_buffer("reduce_final_map", p->final_rows, "rows", counts.tiles, error) < 0) return -1;
    return check_buffer("reduce_partial_map", p->max_entries, "entries", ac_ps_entries(p, &counts), error);
}

static int launch(const args_t *args, intptr_t stream, ac_error_t *error) {
    const ac_launch_t launch = {.kernel = args->kernel,
                                .params = &args->params,
                                .params_bytes = sizeof args->params,
                                .grid = 1,
                                .stream = stream};
    return ac_launch(&args->runs_on, &launch, error);
}

static int run(void *arguments, const void *plan, intptr_t stream, ac_error_t *error) {
    args_t *args = arguments;
    ac_ps_metadata_params_t *p = &args->params;
    (void)plan;
    p->qo_indptr = ac_ints(args->seqlens_qo_indptr);
    p->kv_indptr = ac_ints(args->pages_kv_indptr);
    p->context_lens = ac_ints(args->context_lens);
    p->work_indptr = (int32_t *)(void *)args->work_indptr->data;
    p->work_info = (int32_t *)(void *)args->work_info->data;
    p->reduce_indptr = (int32_t *)(void *)args->reduce_indptr->data;
    p->final_map = (int32_t *)(void *)args->reduce_final_map->data;
    p->partial_map = (int32_t *)(void *)args->reduce_partial_map->data;
    if (!args->is_mixed) {
        const bool on_host = args->target.device.type == AC_DEVICE_CPU;
        return on_host && check_buffers(p, error) < 0 ? -1 : launch(args, stream, error);
    }
    if (!args->staging) return 0; /* the caller comes again with so many words */
    args->result = 0;
    ac_staging_t staging = {.target = &args->target, .sizes = &args->sizes, .stream = stream};
    stage_tensors(args, p, &staging);
    if (ac_stage_in(&staging, args->staging->data, error) < 0 || check_buffers(p, error) < 0) return -1;
    return launch(args, 0, error) < 0 ? -1 : ac_stage_out(&staging, error);
}

#define AC_OP ps_metadata
#define AC_OP_ARGS args_t
#define AC_OP_PARAMS "ps_metadata/params.inc"
#define AC_OP_SUMMARY "Plan the work lists of prefill: aiter_c.get_ps_metadata_v1 without its second try."
#define AC_OP_NOTES                                                                                                    \
    "Returns 0, or where tensors are on the CPU and on a GPU and there is no staging: nothing was written, and this\n" \
    "many int32 of staging are needed. Raises TypeError, ValueError, BufferError, UnsupportedError, DeviceError."
#include "../define_op.inc"

const ac_op_t ac_op_ps_metadata = {
    .name = "ps_metadata",
    .user_name = op_name,
    .doc = doc_ps_metadata,
    .params = params_ps_metadata,
    .param_count = AC_COUNT(params_ps_metadata),
    .args_bytes = sizeof(args_t),
    .returns = AC_RETURNS_INT,
    .check = check,
    .run = run,
};
