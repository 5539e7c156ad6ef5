/* Stage 1 of MLA decode: check -> plan -> launch, on whatever device the tensors are. The texts of every error begin
 * with "mla_decode_fwd: ", the name by which users know the op. */
#include <float.h>
#include <inttypes.h>
#include <math.h>
#include <stdio.h>

#include "../../core/constants.h"
#include "../../core/fault.h"
#include "../attention/scale_arg.h"
#include "../attention/work.h"
#include "../merge_states/sink.h"
#include "args.h"
#include "variant.h"

static const char op_name[] = "mla_decode_fwd";

#define ARG(field) ((ac_arg_t){op_name, #field, args->field})
#define RULE(field, dtypes, shape, flags) AC_RULE(ac_mla_decode_args_t, field, dtypes, shape, flags)
#define SCALE_RULE(field)                                                                                              \
    {#field, offsetof(ac_mla_decode_args_t, field) + offsetof(ac_scale_arg_t, view), AC_SET(AC_FLOAT32), NULL,         \
     AC_MAY_BE_NONE | AC_HOST_TOO | AC_ONE_ELEMENT}
#define INDICES AC_SET(AC_INT32)
#define FLOATS AC_SET(AC_FLOAT32)

/* D and S are known beforehand: from the cache, whose shape attention/cache_arg.c checks, and from the plan. W workers,
 * i items, G groups and P entries of the lists. */
static const ac_tensor_rule_t rules[] = {
    RULE(q, AC_HALF | AC_FP8 | FLOATS, "T H D", AC_DENSE_ROWS | AC_LEADS),
    RULE(kv_buffer, 0, NULL, 0),
    RULE(qo_indptr, INDICES, "B+1", AC_DENSE_ROWS | AC_MAY_BE_NONE),
    RULE(kv_indptr, INDICES, "B+1..", AC_DENSE_ROWS | AC_MAY_BE_NONE),
    RULE(kv_indices, INDICES, "n", AC_DENSE_ROWS | AC_MAY_BE_NONE),
    RULE(block_tables, INDICES, "B.. w", AC_DENSE_ROWS | AC_MAY_BE_NONE),
    RULE(kv_lens, INDICES, "B..", AC_DENSE_ROWS | AC_MAY_BE_NONE),
    RULE(kv_last_page_lens, INDICES, "B..", AC_DENSE_ROWS | AC_MAY_BE_NONE),
    RULE(num_kv_splits_indptr, INDICES, "B+1..", AC_DENSE_ROWS | AC_MAY_BE_NONE),
    RULE(g_kv_indptr, INDICES, "B+1..", AC_DENSE_ROWS | AC_MAY_BE_NONE),
    RULE(sink, FLOATS, "H", AC_DENSE_ROWS | AC_MAY_BE_NONE),
    RULE(work_meta_data, AC_SET(AC_UINT64) | AC_SET(AC_INT64), "2", AC_DENSE_ROWS | AC_HOST_TOO | AC_MAY_BE_NONE),
    RULE(work_indptr, INDICES, "W+1", AC_DENSE_ROWS | AC_MAY_BE_NONE),
    RULE(work_info_set, INDICES, "i 8", AC_CONTIGUOUS | AC_MAY_BE_NONE),
    RULE(reduce_indptr, INDICES, "G+1", AC_DENSE_ROWS | AC_MAY_BE_NONE),
    RULE(reduce_final_map, INDICES, "G.. 2", AC_CONTIGUOUS | AC_MAY_BE_NONE),
    RULE(reduce_partial_map, INDICES, "P", AC_DENSE_ROWS | AC_MAY_BE_NONE),
    SCALE_RULE(q_scale),
    SCALE_RULE(kv_scale),
    RULE(o, AC_HALF, "T H 512", AC_DENSE_ROWS | AC_WRITTEN | AC_MAY_BE_NONE),
    RULE(logits, FLOATS, "T S H 512", AC_CONTIGUOUS | AC_WRITTEN | AC_MAY_BE_NONE),
    RULE(attn_lse, FLOATS, "T S H 1", AC_CONTIGUOUS | AC_WRITTEN | AC_MAY_BE_NONE),
    RULE(lse, FLOATS, "T H|T 1 H 1", AC_CONTIGUOUS | AC_WRITTEN | AC_MAY_BE_NONE),
    RULE(expsum, FLOATS, "T H S", AC_CONTIGUOUS | AC_WRITTEN | AC_MAY_BE_NONE),
};
enum { RULES = AC_COUNT(rules), BUFFERS = 4, INPUTS = RULES - BUFFERS };
_Static_assert(RULES <= AC_MAX_TENSORS, "AC_MAX_TENSORS");

/* The buffers of a call by lists, R partial rows. */
static const ac_tensor_rule_t list_buffers[] = {
    RULE(logits, FLOATS, "R 1 H 512", AC_CONTIGUOUS | AC_WRITTEN),
    RULE(attn_lse, FLOATS, "R 1 H 1", AC_CONTIGUOUS | AC_WRITTEN),
    RULE(lse, FLOATS, "T H", AC_CONTIGUOUS | AC_WRITTEN | AC_MAY_BE_NONE),
    RULE(expsum, FLOATS, "T H S", AC_CONTIGUOUS | AC_WRITTEN | AC_MAY_BE_NONE),
};
_Static_assert(AC_COUNT(list_buffers) == BUFFERS, "the same buffers");

/* The buffers of a segmented call. */
static const ac_tensor_rule_t segment_buffers[] = {
    RULE(logits, FLOATS, "T H S 512", AC_CONTIGUOUS | AC_WRITTEN),
    RULE(attn_lse, FLOATS, "T H S", AC_CONTIGUOUS | AC_WRITTEN),
    RULE(lse, FLOATS, "T H", AC_CONTIGUOUS | AC_WRITTEN | AC_MAY_BE_NONE),
    RULE(expsum, FLOATS, "T H S", AC_CONTIGUOUS | AC_WRITTEN | AC_MAY_BE_NONE),
};
_Static_assert(AC_COUNT(segment_buffers) == BUFFERS, "the same buffers");

/* Keys that an entry of kv_indices, or of a table, stands for. */
static int64_t entry_rows(const ac_mla_decode_args_t *args) { return args->slots ? 1 : args->page_size; }

static bool has_lists(const ac_mla_decode_args_t *args) { return args->work_indptr != NULL; }

static int64_t num_workers(const ac_mla_decode_args_t *args) {
    return has_lists(args) ? ac_size(&args->sizes, "W") : 0;
}

static int check_numbers(const ac_mla_decode_args_t *args, ac_error_t *error) {
    if (ac_check_int(op_name, "max_seqlen_q", args->max_seqlen_q, 1, INT32_MAX, error) < 0) return -1;
    if (ac_check_int(op_name, "page_size", args->page_size, 1, INT32_MAX, error) < 0) return -1;
    if (args->nhead_kv != 1)
        return ac_fail(error, AC_ERROR_UNSUPPORTED, "%s: nhead_kv: expected 1 (MLA has one latent head), got %" PRId64,
                       op_name, args->nhead_kv);
    if (!(args->logit_cap <= 0))
        return ac_fail(error, AC_ERROR_UNSUPPORTED, "%s: logit_cap: expected 0 (no soft cap), got %g", op_name,
                       args->logit_cap);
    return 0;
}

/* Lists come together. */
static int check_lists_given(const ac_mla_decode_args_t *args, ac_error_t *error) {
    const ac_arg_t lists[] = {ARG(work_indptr),        ARG(work_info_set),    ARG(reduce_indptr),
                              ARG(reduce_partial_map), ARG(reduce_final_map), ARG(work_meta_data)};
    enum { NEEDED = 4 };
    const ac_arg_t *given = NULL;
    for (int i = 0; i < AC_COUNT(lists); i++)
        if (lists[i].view && !given) given = &lists[i];
    for (int i = 0; given && i < NEEDED; i++)
        if (!lists[i].view)
            return ac_fail(error, AC_ERROR_VALUE, "%s: %s: expected a tensor with %s (lists come together), got None",
                           op_name, lists[i].name, given->name);
    return 0;
}

static int check_shard(const ac_mla_decode_args_t *args, ac_error_t *error) {
    const int64_t ranks = args->cp_world_size;
    if (!args->g_kv_indptr) return 0;
    if (ac_check_int(op_name, "cp_world_size", ranks, 1, INT32_MAX, error) < 0) return -1;
    if (ac_check_int(op_name, "cp_rank", args->cp_rank, 0, ranks - 1, error) < 0) return -1;
    return ac_check_int(op_name, "cp_interleave", args->cp_interleave, 1, INT32_MAX / ranks, error);
}

/* None and -1 are automatic. */
static int check_splits(const ac_mla_decode_args_t *args, bool planned, ac_error_t *error) {
    const int64_t splits = args->num_kv_splits;
    const bool automatic = splits == AC_NO_INT || splits == AC_MLA_AUTO_SPLITS;
    if (args->num_kv_splits_indptr && automatic && !planned && !has_lists(args))
        return ac_fail(error, AC_ERROR_VALUE,
                       "%s: num_kv_splits_indptr: expected num_kv_splits with it (it sizes the scratch), got %s",
                       op_name, splits == AC_NO_INT ? "None" : "-1");
    if (planned || automatic || (splits >= 1 && splits <= INT32_MAX)) return 0;
    return ac_fail(error, AC_ERROR_VALUE,
                   "%s: num_kv_splits: expected None or -1 (automatic) or 1 to 2147483647, got %" PRId64, op_name,
                   splits);
}

/* What the host can see of lists without a read of the device's memory. */
static const uint64_t *host_tag(const ac_mla_decode_args_t *args) {
    const ac_view_t *tag = args->work_meta_data;
    return tag && tag->device.type == AC_DEVICE_CPU ? (const void *)tag->data : NULL;
}

/* A list in the host's memory whose items are of folded heads, 16 of them as if they were a request: AITER's kernels
 * would be called with another view of q. */
static int check_not_folded(const ac_mla_decode_args_t *args, ac_error_t *error) {
    const int64_t B = ac_size(&args->sizes, "B"), T = ac_size(&args->sizes, "T"), W = ac_size(&args->sizes, "W");
    const int32_t *items = ac_ints(args->work_info_set);
    const int64_t count = ac_clamp64(ac_ints(args->work_indptr)[W], 0, ac_size(&args->sizes, "i"));
    for (int64_t i = 0; i < count; i++) {
        const int32_t *item = items + i * AC_WORK_FIELDS;
        if (item[AC_WORK_REQUEST] >= B && item[AC_WORK_Q_END] > T)
            return ac_fail(error, AC_ERROR_VALUE,
                           "%s: work_info_set: expected items of requests below %" PRId64 " (no folded heads), got one "
                           "of request %" PRId32,
                           op_name, B, item[AC_WORK_REQUEST]);
    }
    return 0;
}

static int check_lists(const ac_mla_decode_args_t *args, ac_error_t *error) {
    const uint64_t *tag = host_tag(args);
    const bool ours = tag && tag[0] == AC_WORK_TAG;
    if (!has_lists(args)) return 0;
    if (ac_check_int(op_name, "work_indptr.shape[0]", ac_size(&args->sizes, "W") + 1, 2, INT32_MAX, error) < 0)
        return -1;
    if (ac_check_int(op_name, "work_info_set.shape[0]", ac_size(&args->sizes, "i"), 0, INT32_MAX, error) < 0) return -1;
    if (args->deterministic && tag && !(ours && tag[1] & AC_WORK_TAG_DETERMINISTIC))
        return ac_fail(error, AC_ERROR_VALUE,
                       "%s: work_meta_data: expected lists made with deterministic=True, got others", op_name);
    return !ours && args->target.device.type == AC_DEVICE_CPU ? check_not_folded(args, error) : 0;
}

/* Refuses a call that the plan was not made for, by the name of the field. */
static int check_plan(const ac_mla_decode_args_t *args, const ac_mla_plan_t *plan, ac_error_t *error) {
    const ac_mla_request_t *r = &plan->request;
    const int64_t splits = args->num_kv_splits;
    const bool other_splits = !has_lists(args) && splits != AC_NO_INT && splits != AC_MLA_AUTO_SPLITS &&
                              splits != plan->num_kv_splits && splits != r->num_kv_splits;
    static const char *const truth[] = {"False", "True"};
    const struct {
        const char *field;
        int64_t planned, got;
        const char *planned_text, *got_text; /* NULL: the numbers */
    } fields[] = {
        {"num_kv_splits", plan->num_kv_splits, other_splits ? splits : plan->num_kv_splits, NULL, NULL},
        {"deterministic", r->deterministic, r->deterministic || args->deterministic, truth[r->deterministic != 0],
         truth[args->deterministic != 0]},
        {"batch", r->batch, ac_size(&args->sizes, "B"), NULL, NULL},
        {"num_heads", r->num_heads, ac_size(&args->sizes, "H"), NULL, NULL},
        {"max_seqlen_q", r->max_seqlen_q, args->max_seqlen_q, NULL, NULL},
        {"num_workers", r->num_workers, num_workers(args), NULL, NULL},
        {"page_size", r->page_size, entry_rows(args), NULL, NULL},
        {"qk_rope_head_dim", r->rope_dim, args->kv.rope_dim, NULL, NULL},
        {"return_lse", r->return_lse, args->return_lse, truth[r->return_lse != 0], truth[args->return_lse != 0]},
        {"arch", r->arch, args->target.facts.arch, ac_arch_name((ac_arch_t)r->arch),
         ac_arch_name(args->target.facts.arch)},
        {"q_dtype", r->q_dtype, args->q->dtype, ac_dtype_name(r->q_dtype), ac_dtype_name(args->q->dtype)},
        {"kv_format", r->kv_format, args->kv.format, ac_kv_format_name((ac_kv_format_t)r->kv_format),
         ac_kv_format_name(args->kv.format)},
        {"kv_dtype", r->kv_dtype, args->kv.dtype, ac_dtype_name(r->kv_dtype), ac_dtype_name(args->kv.dtype)},
    };
    for (int i = 0; i < AC_COUNT(fields); i++) {
        char planned[24], got[24];
        if (fields[i].planned == fields[i].got) continue;
        snprintf(planned, sizeof planned, "%" PRId64, fields[i].planned);
        snprintf(got, sizeof got, "%" PRId64, fields[i].got);
        return ac_fail(error, AC_ERROR_VALUE, "%s: plan.%s: expected a plan made for %s, got one made for %s", op_name,
                       fields[i].field, fields[i].got_text ? fields[i].got_text : got,
                       fields[i].planned_text ? fields[i].planned_text : planned);
    }
    return 0;
}

/* Without qo_indptr. */
static int bind_uniform_rows(ac_mla_decode_args_t *args, ac_error_t *error) {
    const int64_t T = ac_size(&args->sizes, "T"), rows = args->max_seqlen_q;
    if (T % rows)
        return ac_fail(error, AC_ERROR_VALUE,
                       "%s: q: expected max_seqlen_q=%" PRId64 " rows of every request, got %" PRId64 " rows", op_name,
                       rows, T);
    ac_size_bind(&args->sizes, "B", T / rows, "q");
    return 0;
}

/* Everything but the buffers, whose sizes only the plan knows. */
static int check(void *arguments, const void *plan, ac_error_t *error) {
    ac_mla_decode_args_t *args = arguments;
    args->return_lse |= args->lse != NULL || args->sink != NULL;
    if (check_numbers(args, error) < 0 || check_splits(args, plan != NULL, error) < 0) return -1;
    if (check_lists_given(args, error) < 0 || check_shard(args, error) < 0) return -1;
    if (ac_find_target(op_name, "q", args->q->device, &args->target, error) < 0) return -1;
    if (ac_view_retype(ARG(q), "q_dtype", args->q_dtype, args->q, error) < 0) return -1;
    if (ac_kv_cache_kind(ARG(kv_buffer), args->kv_buffer, args->kv_format, args->kv_dtype, args->page_size, &args->kv,
                         error) < 0)
        return -1;
    if (entry_rows(args) == 1 || args->kv_lens) args->kv_last_page_lens = NULL; /* not looked at */
    else if (ac_check_given(ARG(kv_last_page_lens), error) < 0) return -1;
    ac_sizes_init(&args->sizes, op_name);
    ac_size_bind(&args->sizes, "D", args->kv.row_width, "kv_buffer");
    if (ac_check_tensors(args, rules, 1, &args->sizes, error) < 0) return -1;
    if (ac_check_int(op_name, "q.shape[1]", ac_size(&args->sizes, "H"), 1, INT32_MAX, error) < 0) return -1;
    if (!args->qo_indptr && bind_uniform_rows(args, error) < 0) return -1;
    if (ac_check_tensors(args, rules + 1, INPUTS - 1, &args->sizes, error) < 0) return -1;
    if (ac_check_int(op_name, "qo_indptr", ac_size(&args->sizes, "B"), 0, INT32_MAX, error) < 0) return -1;
    if (check_lists(args, error) < 0) return -1;
    if (ac_kv_cache_describe(ARG(kv_buffer), &args->kv, args->page_size, args->slots, &args->cache, error) < 0)
        return -1;
    return plan ? check_plan(args, plan, error) : 0;
}

/* a * b, or the largest number. */
static int64_t product(int64_t a, int64_t b) {
    int64_t out;
    return __builtin_mul_overflow(a, b, &out) ? INT64_MAX : out;
}

/* Keys of all requests at most. */
static int64_t total_kv(const ac_mla_decode_args_t *args) {
    const int64_t B = ac_size(&args->sizes, "B");
    const int64_t entries = args->block_tables ? product(B, ac_size(&args->sizes, "w")) : ac_size(&args->sizes, "n");
    const int64_t keys = product(entries, entry_rows(args));
    return args->max_kv_len > 0 ? ac_min64(keys, product(B, args->max_kv_len)) : keys;
}

static int make_plan(const void *arguments, void *out_plan, ac_error_t *error) {
    const ac_mla_decode_args_t *args = arguments;
    const ac_mla_request_t request = {
        .batch = (int32_t)ac_size(&args->sizes, "B"),
        .num_heads = (int32_t)ac_size(&args->sizes, "H"),
        .max_seqlen_q = (int32_t)args->max_seqlen_q,
        .page_size = (int32_t)entry_rows(args),
        .q_dtype = args->q->dtype,
        .kv_dtype = args->kv.dtype,
        .o_dtype = args->o ? args->o->dtype : AC_DTYPE_NONE,
        .kv_format = (int32_t)args->kv.format,
        .kv_lora_rank = AC_MLA_DV,
        .rope_dim = args->kv.rope_dim,
        .num_kv_splits = has_lists(args) || args->num_kv_splits == AC_NO_INT ? AC_MLA_AUTO_SPLITS
                                                                             : (int32_t)args->num_kv_splits,
        .num_workers = (int32_t)num_workers(args),
        .total_kv = total_kv(args),
        .return_lse = args->return_lse,
        .deterministic = args->deterministic,
        .segments = !args->segmented ? AC_MLA_NO_SEGMENTS
                    : args->natural  ? AC_MLA_SEGMENTS
                                     : AC_MLA_PAGE_SEGMENTS,
        .device = args->target.device,
        .arch = (int32_t)args->target.facts.arch,
        .compute_units = args->target.facts.compute_units,
    };
    return ac_mla_plan(op_name, &request, out_plan, error);
}

/* Rows of the partials of lists: any entry of the map may be of a tile of max_seqlen_q rows. */
static int partial_rows(const ac_mla_decode_args_t *args, int64_t *out_rows, ac_error_t *error) {
    const int64_t entries = ac_size(&args->sizes, "P");
    if (!__builtin_mul_overflow(entries, args->max_seqlen_q, out_rows)) return 0;
    return ac_fail(error, AC_ERROR_VALUE,
                   "%s: reduce_partial_map: %" PRId64 " entries of max_seqlen_q %" PRId64 " rows overflow", op_name,
                   entries, args->max_seqlen_q);
}

/* logits, attn_lse, lse, and of variants expsum: in the order of the parameters. */
static int find_workspaces(const void *arguments, const void *the_plan, ac_workspace_t *out, ac_error_t *error) {
    const ac_mla_decode_args_t *args = arguments;
    const ac_mla_plan_t *plan = the_plan;
    const int64_t T = ac_size(&args->sizes, "T"), H = ac_size(&args->sizes, "H");
    const bool partials = !plan->writes_output;
    int64_t rows = T, splits = plan->num_kv_splits;
    if (has_lists(args)) {
        if (partial_rows(args, &rows, error) < 0) return -1;
        splits = 1;
    }
    out[0] = (ac_workspace_t){partials, AC_FLOAT32, 4, {rows, splits, H, AC_MLA_DV}};
    out[1] = (ac_workspace_t){partials, AC_FLOAT32, 4, {rows, splits, H, 1}};
    out[2] = (ac_workspace_t){args->return_lse, AC_FLOAT32, 2, {T, H}};
    if (args->lse_per_split) out[2] = (ac_workspace_t){args->return_lse, AC_FLOAT32, 4, {T, 1, H, 1}};
    return 0;
}

static int find_variant_workspaces(const void *arguments, const void *the_plan, ac_workspace_t *out,
                                   ac_error_t *error) {
    const ac_mla_decode_args_t *args = arguments;
    const ac_mla_plan_t *plan = the_plan;
    const int64_t T = ac_size(&args->sizes, "T"), H = ac_size(&args->sizes, "H"), S = plan->num_kv_splits;
    if (find_workspaces(arguments, the_plan, out, error) < 0) return -1;
    out[3] = (ac_workspace_t){args->segmented && !args->natural, AC_FLOAT32, 3, {T, H, S}};
    if (args->segmented) {
        out[0] = (ac_workspace_t){true, AC_FLOAT32, 4, {T, H, S, AC_MLA_DV}};
        out[1] = (ac_workspace_t){true, AC_FLOAT32, 3, {T, H, S}};
    }
    if (!args->qo_indptr && !args->slots)
        out[2] = (ac_workspace_t){args->return_lse, AC_FLOAT32, 3, {ac_size(&args->sizes, "B"), args->max_seqlen_q, H}};
    return 0;
}

/* Query rows of a request at most: rows past T do not exist, so max_seqlen_q beyond T would only add empty work. */
static int64_t served_rows(const ac_mla_plan_t *plan, int64_t T) { return ac_min64(plan->request.max_seqlen_q, T); }

/* Workgroups of stage 1; of the grid not more than plan->grid, which the planner kept below 2**63. */
static int64_t decode_grid(const ac_mla_decode_args_t *args, const ac_mla_plan_t *plan) {
    const int64_t T = ac_size(&args->sizes, "T");
    if (!has_lists(args))
        return (int64_t)plan->request.batch * plan->num_kv_splits *
               ac_kernel_tiles(plan->stage1, served_rows(plan, T) * plan->request.num_heads);
    const bool one_item = plan->stage1->features & AC_ONE_ITEM;
    return T == 0 ? 0 : ac_size(&args->sizes, one_item ? "i" : "W") * plan->row_tiles;
}

/* The buffers, shared memory, and that both stages fit the device: asked before stage 1 writes anything. */
static int check_launch(ac_mla_decode_args_t *args, const ac_mla_plan_t *plan, ac_error_t *error) {
    const int64_t T = ac_size(&args->sizes, "T"), H = ac_size(&args->sizes, "H");
    const ac_device_facts_t *facts = &args->target.facts;
    ac_size_bind(&args->sizes, "S", plan->num_kv_splits, "plan");
    if (!plan->writes_output && (ac_check_given(ARG(logits), error) < 0 || ac_check_given(ARG(attn_lse), error) < 0))
        return -1;
    const ac_tensor_rule_t *buffers = has_lists(args)   ? list_buffers
                                      : args->segmented ? segment_buffers
                                                        : rules + INPUTS;
    if (!args->qo_indptr && args->lse && ac_mla_join_rows(ARG(lse), 2, args->lse, error) < 0) return -1;
    if (has_lists(args)) {
        int64_t rows;
        if (partial_rows(args, &rows, error) < 0) return -1;
        ac_size_bind(&args->sizes, "R", rows, "reduce_partial_map");
    }
    if (ac_check_tensors(args, buffers, BUFFERS, &args->sizes, error) < 0) return -1;
    if (ac_check_own_memory(op_name, args, rules, RULES, error) < 0) return -1;
    if (ac_check_launch(op_name, "plan.grid", plan->stage1, decode_grid(args, plan), facts, error) < 0) return -1;
    if (plan->writes_output) return 0;
    const int64_t merges = has_lists(args) ? ac_size(&args->sizes, "G") * ac_kernel_tiles(plan->stage2, H)
                                           : ac_mla_merge_grid(plan, T);
    return ac_check_launch(op_name, "plan.grid", plan->stage2, merges, facts, error);
}

static void fill_lists(const ac_mla_decode_args_t *args, ac_mla_decode_params_t *out) {
    ac_attention_params_t *p = &out->attention;
    if (args->max_seqlen_q == 1) p->causal = 0; /* a row sees all of its list, which may be its own */
    out->work.lists = (ac_work_lists_t){
        .work_indptr = ac_ints(args->work_indptr),
        .items = ac_ints(args->work_info_set),
        .num_items = ac_size(&args->sizes, "i"),
        .num_partials = ac_size(&args->sizes, "R"),
        .num_requests = (int32_t)ac_size(&args->sizes, "B"),
        .num_workers = (int32_t)ac_size(&args->sizes, "W"),
        .placed = p->causal || p->shard.stride != 1 || entry_rows(args) != 1,
    };
}

static void fill_params(const ac_mla_decode_args_t *args, const ac_mla_plan_t *plan, ac_mla_decode_params_t *out) {
    const int64_t T = ac_size(&args->sizes, "T"), H = ac_size(&args->sizes, "H");
    const int64_t served = served_rows(plan, T);
    ac_attention_params_t *p = &out->attention;
    p->q = args->q->data;
    p->q_row_stride = ac_stride_bytes(args->q, 0);
    p->q_head_stride = ac_stride_bytes(args->q, 1);
    p->kv[0].cache = args->cache;
    p->kv[0].indptr = ac_ints(args->kv_indptr);
    p->kv[0].indices = ac_ints(args->kv_indices);
    p->kv[0].last_page_lens = ac_ints(args->kv_last_page_lens);
    p->kv[0].num_indices = ac_size(&args->sizes, "n");
    if (args->block_tables) {
        p->kv[0].indices = ac_ints(args->block_tables);
        p->kv[0].lengths = ac_ints(args->kv_lens);
        p->kv[0].table_width = args->block_tables->shape[1];
        p->kv[0].table_stride = args->block_tables->stride[0];
    }
    p->shard = (ac_shard_t){.stride = 1, .phase = 0, .block = 1};
    if (args->g_kv_indptr) {
        p->shard = (ac_shard_t){(int32_t)args->cp_world_size, (int32_t)args->cp_rank, (int32_t)args->cp_interleave};
        p->total_indptr = ac_ints(args->g_kv_indptr);
    }
    const bool base_2 = args->segmented && !args->natural;
    const ac_view_t *o = args->segmented ? args->logits : args->o;
    p->o = o->data;
    p->o_row_stride = ac_stride_bytes(o, 0);
    p->o_head_stride = ac_stride_bytes(o, 1);
    p->o_dtype = (int32_t)o->dtype;
    p->segments = args->segmented ? plan->num_kv_splits : 1;
    p->lse = ac_floats(args->segmented ? args->attn_lse : args->lse);
    p->lse_unit = base_2 ? 1 : (float)AC_LN_2;
    p->lse_empty = base_2 ? -FLT_MAX : -INFINITY;
    p->partial_o = plan->writes_output ? NULL : ac_floats(args->logits);
    p->partial_lse = plan->writes_output ? NULL : ac_floats(args->attn_lse);
    p->q_scale = ac_scale_for(&args->q_scale, args->q->dtype, args->target.device);
    p->kv_scale = ac_scale_for(&args->kv_scale, args->kv.dtype, args->target.device);
    p->sm_scale = (float)(isnan(args->sm_scale) ? 1.0 / sqrt((double)args->kv.row_width) : args->sm_scale);
    p->num_rows = T;
    p->num_heads = (int32_t)H;
    p->q_dtype = (int32_t)args->q->dtype;
    p->causal = args->causal;
    out->work.grid = (ac_work_grid_t){
        .qo_indptr = ac_ints(args->qo_indptr),
        .num_requests = plan->request.batch,
        .splits = {ac_ints(args->num_kv_splits_indptr), plan->num_kv_splits, plan->split_count, plan->split_min_rows,
                   plan->split_granule},
        .max_seqlen_q = (int32_t)served,
        .row_tiles = has_lists(args) ? plan->row_tiles : (int32_t)ac_kernel_tiles(plan->stage1, served * H),
        .writes_output = plan->writes_output,
    };
    if (has_lists(args)) fill_lists(args, out);
    out->fast = ac_work_fast(p, &out->work);
    /* ROCm/aiter#2983: with one split the kernel writes the final rows, and the host merges scratch over them. */
    if (AC_FAULT("merge_after_direct") && plan->num_kv_splits == 1) out->work.grid.writes_output = 1;
    /* ROCm/aiter#2983: the path of one split gets no output pointer. */
    if (AC_FAULT("null_direct_output") && plan->writes_output) p->o = NULL;
    /* ROCm/aiter#2585: below 16 heads the rows of the tile are filled by repeating heads. */
    if (AC_FAULT("heads_below_16") && H < 16) p->q_head_stride = 0;
}

static int run(void *arguments, const void *the_plan, intptr_t stream, ac_error_t *error) {
    static const uint32_t minus_infinity = 0xff800000u, lowest = 0xff7fffffu, one = 0x3f800000u; /* fp32 bits */
    ac_mla_decode_args_t *args = arguments;
    const ac_mla_plan_t *plan = the_plan;
    const ac_target_t *target = &args->target;
    const int64_t T = ac_size(&args->sizes, "T"), H = ac_size(&args->sizes, "H");
    ac_mla_decode_params_t params = {0};
    if (check_launch(args, plan, error) < 0) return -1;
    fill_params(args, plan, &params);
    const bool final = params.work.grid.writes_output, lists = has_lists(args);
    const bool partials = !final && !(lists && params.work.lists.num_partials == 0);
    float *lse = partials ? params.attention.partial_lse : params.attention.lse;
    const ac_launch_t launch = {
        .kernel = plan->stage1,
        .params = &params,
        .params_bytes = sizeof params,
        .grid = decode_grid(args, plan),
        .stream = stream,
        .writes = (final || lists ? AC_WRITES_FINAL : 0) | (partials ? AC_WRITES_PARTIALS : 0) |
                  (lse || partials ? AC_WRITES_LSE : 0),
        .final_rows = params.attention.o,
        .partial_rows = params.attention.partial_o,
        .lse = lse,
    };
    /* ROCm/aiter#2983, as a kernel that nobody stops: nothing writes the rows. */
    if (AC_FAULT("skip_direct_output") && plan->writes_output) return 0;
    /* Rows that no request serves: of the grid stage 1 or stage 2 writes them, where there is a workgroup. */
    if (params.attention.lse && (lists || launch.grid == 0) &&
        target->runtime->fill32(target->runtime, target->device.index, params.attention.lse,
                                args->segmented && !args->natural ? lowest : minus_infinity,
                                T * H * params.attention.segments, stream, error) < 0)
        return -1;
    if (args->expsum && target->runtime->fill32(target->runtime, target->device.index, ac_floats(args->expsum), one,
                                                ac_view_numel(args->expsum), stream, error) < 0)
        return -1;
    if (ac_launch(target, &launch, error) < 0) return -1;
    if (!args->sink || !final) return 0; /* by lists, and of partials, the merge ends the rows */
    return ac_apply_sink(op_name, target, args->o, args->lse, args->sink, stream, error);
}

static int check_variant(void *arguments, const void *plan, ac_error_t *error) {
    return ac_mla_check_variant(arguments, error) < 0 ? -1 : check(arguments, plan, error);
}

static const char *const list_names[] = {
    "work_meta_data", "work_indptr", "work_info_set", "reduce_indptr", "reduce_final_map", "reduce_partial_map", NULL};
_Static_assert(offsetof(ac_mla_decode_args_t, reduce_partial_map) ==
                   offsetof(ac_mla_decode_args_t, work_meta_data) + 5 * sizeof(ac_view_t *),
               "the fields of a group stand together");

#define AC_OP mla_decode_stage1
#define AC_OP_ARGS ac_mla_decode_args_t
#define AC_OP_PARAMS "mla_decode/params.inc"
#define AC_OP_SUMMARY                                                                                                  \
    "Attend over the paged latent cache: final rows when plan.writes_output, else partials; by lists, either."
#define AC_OP_NOTES                                                                                                    \
    "B requests, T query rows, H query heads, S splits, D = 512 + rope elements of a KV row; of lists W workers, G\n"  \
    "groups, P partials.\n"                                                                                            \
    "Returns (plan, stream, logits, attn_lse, lse): the plan that was used, the handle of the stream that it ran on\n" \
    "(0 on the CPU), and the buffers, None where there is none. Stage 2 is due unless plan.writes_output; by lists\n"  \
    "it is mla_reduce_v1.\n"                                                                                           \
    "The op runs asynchronously on a device: with a stream of your own, keep the tensors alive until it is done.\n"    \
    "Raises TypeError, ValueError, BufferError (DLPack refusal, read-only output), UnsupportedError, DeviceError;\n"   \
    "a refused call writes nothing."
#include "../define_op.inc"

const ac_op_t ac_op_mla_decode_stage1 = {
    .name = "mla_decode_stage1",
    .user_name = op_name,
    .doc = doc_mla_decode_stage1,
    .params = params_mla_decode_stage1,
    .param_count = AC_COUNT(params_mla_decode_stage1),
    .args_bytes = sizeof(ac_mla_decode_args_t),
    .returns = AC_RETURNS_STAGE,
    .plan_kind = &ac_plan_kind_mla_decode,
    .check = check,
    .make_plan = make_plan,
    .workspaces = find_workspaces,
    .run = run,
};

#define AC_OP mla_decode_variant
#define AC_OP_ARGS ac_mla_decode_args_t
#define AC_OP_PARAMS "mla_decode/params_variant.inc"
#define AC_OP_SUMMARY "mla_decode_stage1 with the tensors of mla_gluon and mla_decode_segmented."
#define AC_OP_NOTES                                                                                                    \
    "Returns (plan, stream, logits, attn_lse, lse, expsum), see mla_decode_stage1. Segmented, no stage 2 is due:\n"    \
    "a segment has normalised rows, the base-2 logarithm of the sum of their weights, and 1; one in which a row\n"     \
    "sees no key has 0 and the lowest float32.\n"                                                                      \
    "Raises TypeError, ValueError, BufferError, UnsupportedError, DeviceError; a refused call writes nothing."
#include "../define_op.inc"

const ac_op_t ac_op_mla_decode_variant = {
    .name = "mla_decode_variant",
    .user_name = op_name,
    .doc = doc_mla_decode_variant,
    .params = params_mla_decode_variant,
    .param_count = AC_COUNT(params_mla_decode_variant),
    .args_bytes = sizeof(ac_mla_decode_args_t),
    .returns = AC_RETURNS_STAGE,
    .plan_kind = &ac_plan_kind_mla_decode,
    .check = check_variant,
    .make_plan = make_plan,
    .workspaces = find_variant_workspaces,
    .run = run,
};
