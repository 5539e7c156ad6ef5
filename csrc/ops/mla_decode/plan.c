/* The plan of an MLA decode call: kernels, splits, grid and workspace. */
#include "plan.h"

#include <inttypes.h>
#include <stddef.h>

#include "../../core/check.h"
#include "../../core/fault.h"
#include "../../core/op.h"
#include "../attention/fixed_splits.h"
#include "../attention/work.h"

#define SPLIT_GRANULE 16 /* runs begin at multiples of it, so that no kernel tile straddles two of them */

/* An explicit count above this and above what the lists could fill is lowered: the rest of the runs would hold nothing,
 * and the scratch would not fit any memory. */
#define MAX_SPLITS 4096
#define MAX_SEGMENTS 128 /* that are chosen automatically */

/* The dtype by which the kernels know a cache: that of the latent inside. */
static ac_dtype_t latent_dtype(const ac_mla_request_t *r) {
    return r->kv_format == AC_KV_PLAIN ? r->kv_dtype : ac_cache_formats[r->kv_format].latent_dtype;
}

/* (query row, head) pairs that the work items of one request, or one item of a list, have to cover. */
static int64_t pairs_of(const ac_mla_request_t *r) {
    const int64_t pairs = (int64_t)r->max_seqlen_q * r->num_heads;
    return r->num_workers && pairs > AC_MLA_ITEM_PAIRS ? AC_MLA_ITEM_PAIRS : pairs;
}

/* Keys of a list, on average; -1: not known. */
static int64_t keys_of(const ac_mla_request_t *r) { return r->total_kv < 0 ? -1 : r->total_kv / ac_max64(r->batch, 1); }

/* The rows that a kernel's tile is chosen for. Few lists of records leave units of sm_90a idle, however finely their
 * keys are cut: then smaller tiles share the rows out, and a tile of 16 takes two thirds of the time of one of 64 (see
 * NOTES_sm90.md). */
static int64_t rows_to_cover(const ac_mla_request_t *r) {
    const int64_t pairs = pairs_of(r), units = r->compute_units;
    if (r->deterministic) return r->num_heads; /* must not depend on the longest query: other tiles, other sums */
    const bool cut = !r->num_workers && r->num_kv_splits == AC_MLA_AUTO_SPLITS && r->total_kv >= 0;
    if (!cut || r->arch != AC_SM90A || r->kv_format == AC_KV_PLAIN || r->batch > units) return pairs;
    const int64_t runs = ac_max64(r->batch, 1) * ac_mla_fill_splits(r->batch, keys_of(r), r->compute_units);
    for (int64_t rows = 16; rows < 64 && rows < pairs; rows *= 2)
        if (ac_ceil_div64(pairs, rows) <= units / runs) return rows;
    return pairs;
}

static const ac_kernel_t *choose_decode(const char *op, const ac_mla_request_t *r, ac_error_t *error) {
    const ac_kernel_request_t request = {
        .op = op,
        .family = &ac_kernels_mla_decode,
        .keys = {r->kv_format, latent_dtype(r), r->q_dtype,
                 r->o_dtype == AC_DTYPE_NONE ? AC_ANY_KEY : (int64_t)r->o_dtype, AC_ANY_KEY},
        .features = AC_WRITES_FINAL | AC_WRITES_PARTIALS | AC_WRITES_LSE | (r->num_workers ? AC_WORK_LIST : 0),
        .rows = rows_to_cover(r),
    };
    return ac_choose_kernel(&request, (ac_arch_t)r->arch, error);
}

static const ac_kernel_t *choose_merge(const char *op, const ac_mla_request_t *r, ac_error_t *error) {
    const ac_kernel_request_t request = {
        .op = op,
        .family = &ac_kernels_mla_merge,
        .keys = {r->o_dtype == AC_DTYPE_NONE ? AC_ANY_KEY : (int64_t)r->o_dtype, AC_MLA_DV},
        .features = AC_WRITES_FINAL | AC_WRITES_LSE | (r->num_workers ? AC_WORK_LIST : 0),
        .rows = r->num_heads,
    };
    return ac_choose_kernel(&request, (ac_arch_t)r->arch, error);
}

static int check_request(const char *op, const ac_mla_request_t *r, ac_error_t *error) {
    if (ac_check_int(op, "batch", r->batch, 0, INT32_MAX, error) < 0) return -1;
    if (ac_check_int(op, "max_seqlen_q", r->max_seqlen_q, 1, INT32_MAX, error) < 0) return -1;
    if (ac_check_int(op, "page_size", r->page_size, 1, INT32_MAX, error) < 0) return -1;
    if (ac_check_int(op, "num_heads", r->num_heads, 1, INT32_MAX, error) < 0) return -1;
    if (ac_check_int(op, "num_workers", r->num_workers, 0, INT32_MAX, error) < 0) return -1;
    if (ac_check_int(op, "total_kv", r->total_kv, -1, INT64_MAX, error) < 0) return -1;
    if (ac_check_int(op, "compute_units", r->compute_units, 1, INT32_MAX, error) < 0) return -1;
    if ((int)ac_arch_device((ac_arch_t)r->arch) != r->device.type) { /* of a pickle */
        char text[48];
        return ac_fail(error, AC_ERROR_VALUE, "%s: arch: expected one of device %s, got %s", op,
                       ac_device_text(r->device, text, sizeof text), ac_arch_name((ac_arch_t)r->arch));
    }
    if (r->num_kv_splits != AC_MLA_AUTO_SPLITS && r->num_kv_splits < 1)
        return ac_fail(error, AC_ERROR_VALUE,
                       "%s: num_kv_splits: expected None or -1 (automatic) or 1 to 2147483647, got %" PRId32, op,
                       r->num_kv_splits);
    if (r->num_heads > AC_MLA_MAX_HEADS)
        return ac_fail(error, AC_ERROR_UNSUPPORTED, "%s: num_heads: expected 1 to %d, got %" PRId32, op,
                       AC_MLA_MAX_HEADS, r->num_heads);
    if (r->kv_lora_rank != AC_MLA_DV || (r->rope_dim != AC_MLA_ROPE && r->rope_dim != 0))
        return ac_fail(error, AC_ERROR_UNSUPPORTED,
                       "%s: kv_lora_rank + qk_rope_head_dim: expected 512 + 64 or 512 + 0, got %" PRId32 " + %" PRId32,
                       op, r->kv_lora_rank, r->rope_dim);
    if (r->kv_format != AC_KV_PLAIN && r->rope_dim == 0)
        return ac_fail(error, AC_ERROR_UNSUPPORTED, "%s: qk_rope_head_dim: expected 64 for kv_format %s, got 0", op,
                       ac_kv_format_name((ac_kv_format_t)r->kv_format));
    return 0;
}

/* Whoever merges segments cuts a list into pages as well, with loops over a power of two of them. */
static void plan_segments(ac_mla_plan_t *plan) {
    int32_t count = 1;
    plan->split_granule = plan->request.page_size;
    if (plan->num_kv_splits > MAX_SPLITS) plan->num_kv_splits = plan->split_count = MAX_SPLITS;
    if (plan->request.num_kv_splits != AC_MLA_AUTO_SPLITS) return;
    while (count < plan->num_kv_splits && count < MAX_SEGMENTS) count *= 2;
    plan->num_kv_splits = plan->split_count = count;
}

/* Fills the four fields that say how KV lists are cut. */
static void plan_splits(ac_mla_plan_t *plan) {
    const ac_mla_request_t *r = &plan->request;
    plan->split_min_rows = 0;
    plan->split_granule = SPLIT_GRANULE;
    if (r->num_workers) {
        plan->num_kv_splits = plan->split_count = 1; /* the lists say it */
    } else if (r->num_kv_splits != AC_MLA_AUTO_SPLITS) {
        int64_t most = r->total_kv < 0 ? MAX_SPLITS : r->total_kv / SPLIT_GRANULE;
        most = most < MAX_SPLITS ? MAX_SPLITS : most;
        plan->num_kv_splits = plan->split_count = r->num_kv_splits < most ? r->num_kv_splits : (int32_t)most;
    } else if (r->deterministic) {
        int64_t most = r->total_kv < 0 ? AC_FIXED_SPLITS : ac_ceil_div64(r->total_kv, AC_FIXED_MIN_KEYS);
        plan->num_kv_splits = (int32_t)(most < 1 ? 1 : most > AC_FIXED_SPLITS ? AC_FIXED_SPLITS : most);
        plan->split_count = AC_FIXED_SPLITS;
        plan->split_min_rows = AC_FIXED_MIN_KEYS;
        plan->split_granule = AC_FIXED_GRANULE;
    } else if (!ac_arch_is_cpu((ac_arch_t)r->arch)) {
        plan->num_kv_splits = plan->split_count = ac_mla_fill_splits((int64_t)r->batch * plan->row_tiles, keys_of(r),
                                                                     r->compute_units);
    } else {
        int is_fp8 = ac_dtype_in(r->q_dtype, AC_FP8) && r->total_kv >= 0;
        plan->num_kv_splits = plan->split_count = ac_mla_choose_splits(AC_MLA_AUTO_SPLITS, r->batch, r->total_kv,
                                                                       r->num_heads, r->max_seqlen_q, is_fp8, 1,
                                                                       r->total_kv < 0, r->compute_units);
    }
}

int ac_mla_plan(const char *op, const ac_mla_request_t *request, ac_mla_plan_t *out_plan, ac_error_t *error) {
    ac_mla_plan_t plan = {.request = *request};
    if (check_request(op, request, error) < 0) return -1;
    plan.stage1 = choose_decode(op, request, error);
    plan.stage2 = plan.stage1 ? choose_merge(op, request, error) : NULL;
    if (!plan.stage2) return -1;
    const bool one_item = request->num_workers && plan.stage1->features & AC_ONE_ITEM;
    const int64_t pairs = one_item ? (int64_t)request->max_seqlen_q * request->num_heads : pairs_of(request);
    const int64_t tiles = ac_kernel_tiles(plan.stage1, pairs);
    if (ac_check_int(op, "max_seqlen_q * num_heads / tile_rows", tiles, 1, INT32_MAX, error) < 0) return -1;
    plan.row_tiles = (int32_t)tiles;
    plan.tile_rows = plan.stage1->tile_rows;
    plan_splits(&plan);
    if (request->segments == AC_MLA_PAGE_SEGMENTS) plan_segments(&plan);
    plan.writes_output = !request->num_workers && plan.num_kv_splits == 1 && !AC_FAULT("merge_after_direct");
    plan.writes_output |= request->segments != AC_MLA_NO_SEGMENTS;
    const int64_t runs = request->num_workers ? request->num_workers : (int64_t)request->batch * plan.num_kv_splits;
    if (__builtin_mul_overflow(runs, tiles, &plan.grid))
        return ac_fail(error, AC_ERROR_VALUE,
                       "%s: num_kv_splits: %" PRId32 " splits of %" PRId32 " requests overflow the grid", op,
                       plan.num_kv_splits, request->batch);
    plan.scratch_bytes = (int64_t)plan.stage1->local_bytes * request->compute_units;
    *out_plan = plan;
    return 0;
}

int64_t ac_mla_workspace_bytes(const ac_mla_plan_t *plan, int64_t num_rows) {
    const int64_t row_bytes = (int64_t)plan->num_kv_splits * plan->request.num_heads * (AC_MLA_DV + 1) * 4;
    int64_t bytes;
    if (plan->writes_output) return 0;
    return __builtin_mul_overflow(num_rows, row_bytes, &bytes) ? -1 : bytes;
}

/* What Python sees of a plan. */
static const char *format_text(int64_t format) { return ac_kv_format_name((ac_kv_format_t)format); }
static const char *arch_text(int64_t arch) { return ac_arch_name((ac_arch_t)arch); }

static int64_t format_number(const char *text) {
    const ac_kv_format_t format = ac_kv_format_from_name(text);
    return format == AC_KV_FORMAT_COUNT ? -1 : (int64_t)format;
}

static int64_t arch_number(const char *text) {
    const ac_arch_t arch = ac_arch_from_name(text);
    return arch == AC_ARCH_COUNT ? -1 : (int64_t)arch;
}

#define INPUT (AC_PLAN_INPUT | AC_PLAN_SHOWN)
#define FIELD(name, kind, flags, place, value, doc)                                                                    \
    {name, AC_FIELD_##kind, flags, offsetof(ac_mla_plan_t, place), value, NULL, NULL, doc}
#define NAMED(name, flags, place, value, text, number, doc)                                                            \
    {name, AC_FIELD_TEXT, flags, offsetof(ac_mla_plan_t, place), value, text, number, doc}

static const ac_plan_field_t fields[] = {
    FIELD("batch", INT32, INPUT, request.batch, AC_NO_DEFAULT, "Requests."),
    FIELD("num_heads", INT32, INPUT, request.num_heads, AC_NO_DEFAULT, "Query heads."),
    FIELD("max_seqlen_q", INT32, INPUT, request.max_seqlen_q, AC_NO_DEFAULT, "Query rows per request at most."),
    FIELD("page_size", INT32, INPUT, request.page_size, AC_NO_DEFAULT, "KV rows per page."),
    FIELD("q_dtype", DTYPE, INPUT, request.q_dtype, AC_NO_DEFAULT, "Element type of q, by name."),
    FIELD("kv_dtype", DTYPE, INPUT, request.kv_dtype, AC_NO_DEFAULT, "Element type of the cache, by name."),
    NAMED("kv_format", INPUT, request.kv_format, AC_KV_PLAIN, format_text, format_number,
          "'plain', 'fp8_ds_mla' or '3buffer'."),
    FIELD("kv_lora_rank", INT32, INPUT, request.kv_lora_rank, AC_MLA_DV, "Latent elements of a KV row."),
    FIELD("qk_rope_head_dim", INT32, INPUT, request.rope_dim, AC_MLA_ROPE, "Rope elements of a KV row."),
    FIELD("num_kv_splits", INT32, AC_PLAN_SHOWN, num_kv_splits, 1,
          "Partials per query row: the second dimension of logits."),
    FIELD("requested_kv_splits", INT32, AC_PLAN_INPUT, request.num_kv_splits, AC_MLA_AUTO_SPLITS,
          "As asked for; -1 is automatic. May have been lowered."),
    FIELD("num_workers", INT32, INPUT, request.num_workers, 0,
          "Workers of the lists that the call takes its work items from; 0: no lists."),
    FIELD("total_kv", INT64, AC_PLAN_INPUT | AC_PLAN_HIDDEN, request.total_kv, -1, NULL),
    FIELD("return_lse", BOOL, INPUT, request.return_lse, 0, "The LSE is written too."),
    FIELD("deterministic", BOOL, INPUT, request.deterministic, 0, "A row's bits do not depend on the batch around it."),
    FIELD("device", DEVICE, INPUT, request.device, AC_DEVICE_CPU, "The device the plan was made for."),
    NAMED("arch", INPUT, request.arch, AC_NO_DEFAULT, arch_text, arch_number,
          "The architecture that the kernels were chosen for."),
    FIELD("compute_units", INT32, AC_PLAN_INPUT, request.compute_units, AC_NO_DEFAULT,
          "CUs, SMs or CPU threads that the splits were chosen by."),
    FIELD("writes_output", BOOL, 0, writes_output, 0, "Stage 1 writes the final rows and the LSE; stage 2 never runs."),
    FIELD("stage1", KERNEL, 0, stage1, 0, "The kernel of stage 1."),
    FIELD("stage2", KERNEL, 0, stage2, 0, "The kernel of stage 2, or None."),
    FIELD("grid", INT64, 0, grid, 0, "Workgroups of stage 1."),
    FIELD("row_tiles", INT32, 0, row_tiles, 0, "Tiles of (query row, head) pairs per request, or per item of a list."),
    FIELD("tile_rows", INT32, 0, tile_rows, 0, "(query row, head) pairs that share one pass over the KV."),
    FIELD("scratch_bytes", INT64, 0, scratch_bytes, 0, "Bytes the device keeps for the kernels, whatever the shape."),
};

static int complete(const char *op, void *plan, ac_error_t *error) {
    ac_mla_request_t request = ((ac_mla_plan_t *)plan)->request;
    ac_mla_plan_t made;
    request.o_dtype = AC_DTYPE_NONE; /* checked when the plan was made; the kernels of one plan write every o */
    if (ac_mla_plan(op, &request, &made, error) < 0) return -1;
    *(ac_mla_plan_t *)plan = made;
    return 0;
}

static int64_t workspace_bytes(const void *plan, int64_t rows) { return ac_mla_workspace_bytes(plan, rows); }

static int64_t most_rows(const void *plan) {
    const ac_mla_request_t *r = &((const ac_mla_plan_t *)plan)->request;
    return (int64_t)r->batch * r->max_seqlen_q;
}

const ac_plan_kind_t ac_plan_kind_mla_decode = {
    .name = "MlaPlan",
    .doc = "A plan of MLA decode: which kernels, how many splits, how much workspace. Immutable, hashable, copied and\n"
           "pickled; made by mla_plan.",
    .bytes = sizeof(ac_mla_plan_t),
    .fields = fields,
    .field_count = sizeof fields / sizeof fields[0],
    .complete = complete,
    .workspace_bytes = workspace_bytes,
    .most_rows = most_rows,
};
_Static_assert(sizeof(ac_mla_plan_t) <= AC_MAX_PLAN_BYTES, "AC_MAX_PLAN_BYTES");
