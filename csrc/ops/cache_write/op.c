/* Writes of MLA caches: concatenation of latent and rope part, quantised or not, and the fused forms that turn the rope
 * parts of queries and keys as well. check -> one launch. */
#include <inttypes.h>

#include "../../core/op.h"
#include "../../core/rules.h"
#include "../../device/device.h"
#include "../attention/cache_arg.h"
#include "../attention/scale_arg.h"
#include "kernel_params.h"

extern const ac_kernel_family_t ac_kernels_cache_write;

/* The arguments of all forms by their Python names; those that a form does not have are NULL. */
typedef struct {
    ac_view_t *kv_c, *k_pe, *kv_cache, *slot_mapping;                     /* of most */
    ac_view_t *q_nope, *q_pe, *q_out, *positions, *cos_cache, *sin_cache; /* of the fused ones */
    ac_view_t *k_nope, *pos, *cos, *sin;                                  /* of the Triton form */
    ac_view_t *decode_q_pe_out, *k_pe_out, *q_nope_zeros_out;
    ac_scale_arg_t scale, k_scale, q_scale;
    int64_t num_decode_toks_for_zeros;
    int kv_cache_dtype, is_neox, is_nope_first, compute_all_q_rope, apply_scale, shuffled_kv_cache;
    ac_dtype_t q_dtype, kv_dtype, q_out_dtype;
    /* What the check found. */
    ac_sizes_t sizes;
    ac_target_t target;
    const ac_kernel_t *kernel;
    int64_t num_rows, cache_head_stride;
    ac_kv_cache_t cache;
} args_t;

#define RULE(field, dtypes, shape, flags) AC_RULE(args_t, field, dtypes, shape, flags)
#define SCALE_RULE(field)                                                                                              \
    {#field, offsetof(args_t, field) + offsetof(ac_scale_arg_t, view), AC_SET(AC_FLOAT32), NULL,                       \
     AC_MAY_BE_NONE | AC_HOST_TOO | AC_ONE_ELEMENT}
#define VALUES (AC_HALF | AC_SET(AC_FLOAT32))
#define LONGS AC_SET(AC_INT64)
#define OUT (AC_DENSE_ROWS | AC_WRITTEN)

/* T tokens, L latent and R rope elements, N latent elements of a query, G key heads, D = L + R. A cache's dtype and its
 * pages are looked at apart. */
static const ac_tensor_rule_t concat_rules[] = {
    RULE(kv_c, VALUES, "T.. L", AC_DENSE_ROWS | AC_LEADS),
    RULE(k_pe, VALUES, "T.. R|T.. 1 R", AC_DENSE_ROWS),
    RULE(slot_mapping, LONGS, "T", 0),
    SCALE_RULE(scale),
    RULE(kv_cache, 0, NULL, OUT),
};
static const ac_tensor_rule_t fused_rules[] = {
    RULE(q_nope, VALUES, "T.. H N", AC_DENSE_ROWS | AC_LEADS),
    RULE(q_pe, VALUES, "T.. H R", AC_DENSE_ROWS),
    RULE(kv_c, VALUES, "T.. L|T.. G L", AC_DENSE_ROWS),
    RULE(k_pe, VALUES, "T.. R|T.. G R", AC_DENSE_ROWS),
    RULE(slot_mapping, LONGS, "T", 0),
    RULE(positions, LONGS, "T..", 0),
    RULE(cos_cache, VALUES, "P half", AC_DENSE_ROWS),
    RULE(sin_cache, VALUES, "P half", AC_DENSE_ROWS),
    SCALE_RULE(k_scale),
    SCALE_RULE(q_scale),
    RULE(kv_cache, 0, NULL, OUT),
    RULE(q_out, VALUES | AC_FP8, "T.. H E", OUT),
};
static const ac_tensor_rule_t cat_rules[] = {
    RULE(q_nope, VALUES, "T H N", AC_DENSE_ROWS | AC_LEADS),
    RULE(q_pe, VALUES, "T H R", AC_DENSE_ROWS),
    RULE(k_nope, VALUES, "K G L", AC_DENSE_ROWS),
    RULE(k_pe, VALUES, "K G R", AC_DENSE_ROWS),
    RULE(slot_mapping, LONGS, "S", 0),
    RULE(pos, LONGS, "T..", 0),
    RULE(cos, VALUES, "P angles|P 1 1 angles", AC_DENSE_ROWS),
    RULE(sin, VALUES, "P angles|P 1 1 angles", AC_DENSE_ROWS),
    SCALE_RULE(k_scale),
    RULE(kv_cache, 0, NULL, OUT),
    RULE(q_out, VALUES | AC_FP8, "T H E", OUT | AC_MAY_BE_NONE),
    RULE(decode_q_pe_out, VALUES, "n H R", OUT | AC_MAY_BE_NONE),
    RULE(k_pe_out, VALUES, "K G R", OUT | AC_MAY_BE_NONE),
    RULE(q_nope_zeros_out, VALUES, "n H L", OUT | AC_MAY_BE_NONE),
};
enum { CAT_OUTPUTS = 4, CAT_INPUTS = AC_COUNT(cat_rules) - CAT_OUTPUTS, FUSED_INPUTS = AC_COUNT(fused_rules) - 2 };

static const char concat_name[] = "concat_and_cache_mla", concat_seg_name[] = "concat_and_cache_mla_seg",
                  fused_name[] = "fused_qk_rope_concat_and_cache_mla",
                  fused_seg_name[] = "fused_qk_rope_concat_and_cache_mla_seg",
                  cat_name[] = "fused_qk_rope_cat_and_cache_mla";

#define MAX_WIDTH 65536 /* elements of a part */

/* What kv_cache_dtype= may be. */
enum { AUTO, FP8, FP8_E4M3, FP8_DS_MLA, THREE_BUFFERS, FP8_E5M2 };
static const char *const cache_dtypes[] = {"auto", "fp8", "fp8_e4m3", "fp8_ds_mla", "3buffer", "fp8_e5m2", NULL};

/* The number of tokens is that of their slots: other tensors may be longer. */
static int begin(args_t *args, const char *op, const char *leader, const ac_view_t *view, ac_error_t *error) {
    if (ac_find_target(op, leader, view->device, &args->target, error) < 0) return -1;
    ac_sizes_init(&args->sizes, op);
    return 0;
}

static void bind_tokens(args_t *args) {
    if (args->slot_mapping->ndim == 1) ac_size_bind(&args->sizes, "T", args->slot_mapping->shape[0], "slot_mapping");
}

/* A tensor that the op writes: of the dtype of what it reads, or fp8, which may come as uint8. */
static int check_out_dtype(const char *op, const char *name, const char *keyword, ac_view_t *view, ac_dtype_t dtype,
                           ac_dtype_set_t allowed, ac_error_t *error) {
    const ac_arg_t arg = {op, name, view};
    if (view->dtype == AC_UINT8 && dtype == AC_DTYPE_NONE && (allowed & AC_FP8))
        return ac_fail(error, AC_ERROR_TYPE, "%s: %s: expected %s= with a uint8 tensor, got None", op, name, keyword);
    if (ac_view_retype(arg, keyword, dtype, view, error) < 0) return -1;
    return ac_check_dtype(arg, allowed, error);
}

static int check_same_dtype(const char *op, const char *name, const ac_view_t *view, const ac_view_t *first,
                            ac_error_t *error) {
    const ac_arg_t arg = {op, name, view};
    return ac_check_dtype(arg, AC_SET(first->dtype), error);
}

static int check_widths(const args_t *args, const char *latent, const char *rope, ac_error_t *error) {
    const char *op = args->sizes.op;
    if (ac_check_int(op, latent, ac_size(&args->sizes, "L"), 1, MAX_WIDTH, error) < 0) return -1;
    return ac_check_int(op, rope, ac_size(&args->sizes, "R"), 0, MAX_WIDTH, error);
}

/* Rows of one dtype, of `heads` heads: [pages, page_size, D], [pages, page_size, heads, D], or with `flat` slots
 * [slots, heads, D]. */
static int describe_rows(args_t *args, const char *shape, int64_t heads, bool flat, ac_error_t *error) {
    const ac_view_t *kv = args->kv_cache;
    const ac_tensor_rule_t rule = {"kv_cache", offsetof(args_t, kv_cache), 0, shape, 0};
    const int last = kv->ndim - 1;
    const int64_t latent = ac_size(&args->sizes, "L"), width = latent + ac_size(&args->sizes, "R");
    ac_size_bind(&args->sizes, "D", width, "latent + rope");
    if (ac_check_tensors(args, &rule, 1, &args->sizes, error) < 0) return -1;
    const bool has_heads = flat || kv->ndim == 4, has_pages = kv->ndim - has_heads == 3;
    if (!has_heads && heads != 1)
        return ac_fail(error, AC_ERROR_VALUE, "%s: kv_cache: expected 4 dimensions for %" PRId64 " key heads, got 3",
                       args->sizes.op, heads);
    args->cache = (ac_kv_cache_t){
        .base = kv->data,
        .num_entries = kv->shape[0],
        .page_stride = ac_stride_bytes(kv, 0),
        .latent_stride = has_pages ? ac_stride_bytes(kv, 1) : 0,
        .rope_stride = has_pages ? ac_stride_bytes(kv, 1) : 0,
        .rope_offset = latent * ac_dtype_bytes(kv->dtype),
        .latent_dtype = (int32_t)kv->dtype,
        .rope_dtype = (int32_t)kv->dtype,
        .page_size = has_pages ? (int32_t)kv->shape[1] : 1,
    };
    args->cache_head_stride = has_heads ? ac_stride_bytes(kv, last - 1) : 0;
    return has_pages ? ac_check_int(args->sizes.op, "kv_cache.shape[1]", kv->shape[1], 0, INT32_MAX, error) : 0;
}

/* [pages, page_size * (L + R)] of one dtype: all latents of a page, then all rope parts. */
static int describe_segments(args_t *args, ac_error_t *error) {
    static const ac_tensor_rule_t rule = RULE(kv_cache, 0, "pages elements", 0);
    const ac_view_t *kv = args->kv_cache;
    const int64_t latent = ac_size(&args->sizes, "L"), rope = ac_size(&args->sizes, "R");
    const int64_t bytes = ac_dtype_bytes(kv->dtype);
    if (ac_check_tensors(args, &rule, 1, &args->sizes, error) < 0) return -1;
    const int64_t page_size = kv->shape[1] / (latent + rope);
    if (page_size * (latent + rope) != kv->shape[1])
        return ac_fail(error, AC_ERROR_VALUE,
                       "%s: kv_cache: expected pages of a multiple of %" PRId64 " elements, got %" PRId64,
                       args->sizes.op, latent + rope, kv->shape[1]);
    if (ac_check_int(args->sizes.op, "page_size", page_size, 0, INT32_MAX, error) < 0) return -1;
    args->cache = (ac_kv_cache_t){
        .base = kv->data,
        .num_entries = kv->shape[0],
        .page_stride = ac_stride_bytes(kv, 0),
        .latent_stride = latent * bytes,
        .rope_stride = rope * bytes,
        .rope_offset = page_size * latent * bytes,
        .latent_dtype = (int32_t)kv->dtype,
        .rope_dtype = (int32_t)kv->dtype,
        .page_size = (int32_t)page_size,
    };
    return 0;
}

/* Quantised records of 512 + 64 elements, token by token or region by region. */
static int describe_records(args_t *args, ac_kv_format_t format, ac_error_t *error) {
    const ac_view_t *kv = args->kv_cache;
    const ac_arg_t arg = {args->sizes.op, "kv_cache", kv};
    const ac_kv_kind_t kind = {format, AC_UINT8, AC_MLA_ROPE, AC_MLA_DV + AC_MLA_ROPE};
    const int64_t latent = ac_size(&args->sizes, "L"), rope = ac_size(&args->sizes, "R");
    int64_t page_size = kv->ndim > 1 ? kv->shape[1] : 0;
    if (latent != AC_MLA_DV || rope != AC_MLA_ROPE)
        return ac_fail(error, AC_ERROR_UNSUPPORTED,
                       "%s: kv_cache_dtype: expected records of 512 + 64 elements for '%s', got %" PRId64 " + %" PRId64,
                       arg.op, ac_kv_format_name(format), latent, rope);
    if (ac_check_dtype(arg, AC_SET(AC_UINT8), error) < 0) return -1;
    if (kv->ndim == 2) page_size /= ac_kv_record_bytes(format);
    if (ac_check_int(arg.op, "page_size", page_size, 0, INT32_MAX, error) < 0) return -1;
    return ac_kv_cache_describe(arg, &kind, page_size, false, &args->cache, error);
}

/* `latent`: the first tensor of the keys. */
static int find_kernel(args_t *args, const char *name, const ac_view_t *latent, ac_dtype_t q_dtype, int64_t tokens,
                       int64_t rows_per_token, ac_error_t *error) {
    const char *op = args->sizes.op;
    if (__builtin_mul_overflow(tokens, rows_per_token, &args->num_rows)) args->num_rows = INT64_MAX;
    const ac_kernel_request_t request = {
        .op = op,
        .family = &ac_kernels_cache_write,
        .keys = {latent->dtype, args->kv_cache->dtype, q_dtype},
        .features = AC_WRITES_FINAL,
        .rows = args->num_rows,
    };
    args->kernel = ac_choose_kernel(&request, args->target.facts.arch, error);
    if (!args->kernel) return -1;
    const int64_t grid = args->num_rows / args->kernel->tile_rows + (args->num_rows % args->kernel->tile_rows != 0);
    return ac_check_launch(op, name, args->kernel, grid, &args->target.facts, error);
}

static int check_cache_dtype(args_t *args, const char *op, ac_error_t *error) {
    ac_dtype_set_t allowed = AC_FP8;
    if (args->kv_cache_dtype == FP8_E5M2)
        return ac_fail(error, AC_ERROR_UNSUPPORTED, "%s: kv_cache_dtype: expected an e4m3 cache, got 'fp8_e5m2'", op);
    if (args->kv_cache_dtype == AUTO) allowed = AC_SET(args->kv_c->dtype);
    if (args->kv_cache_dtype >= FP8_DS_MLA) allowed = AC_SET(AC_UINT8);
    return check_out_dtype(op, "kv_cache", "kv_dtype", args->kv_cache, args->kv_dtype, allowed, error);
}

static int check_concat_form(args_t *args, const char *op, bool segments, ac_error_t *error) {
    if (begin(args, op, "kv_c", args->kv_c, error) < 0) return -1;
    bind_tokens(args);
    if (ac_check_tensors(args, concat_rules, AC_COUNT(concat_rules), &args->sizes, error) < 0) return -1;
    if (check_same_dtype(op, "k_pe", args->k_pe, args->kv_c, error) < 0) return -1;
    if (check_widths(args, "kv_c.shape[-1]", "k_pe.shape[-1]", error) < 0) return -1;
    if (check_cache_dtype(args, op, error) < 0) return -1;
    if (segments && args->kv_cache_dtype >= FP8_DS_MLA)
        return ac_fail(error, AC_ERROR_UNSUPPORTED, "%s: kv_cache_dtype: expected 'auto' or 'fp8', got '%s'", op,
                       cache_dtypes[args->kv_cache_dtype]);
    int failed = 0;
    if (segments) failed = describe_segments(args, error);
    else if (args->kv_cache_dtype == FP8_DS_MLA) failed = describe_records(args, AC_KV_FP8_DS_MLA, error);
    else if (args->kv_cache_dtype == THREE_BUFFERS) failed = describe_records(args, AC_KV_3BUFFER, error);
    else failed = describe_rows(args, "pages block D|pages block 1 D", 1, false, error);
    if (failed) return -1;
    if (ac_check_own_memory(op, args, concat_rules, AC_COUNT(concat_rules), error) < 0) return -1;
    return find_kernel(args, "slot_mapping", args->kv_c, args->kv_c->dtype, ac_size(&args->sizes, "T"), 1, error);
}

static int check_concat(void *arguments, const void *plan, ac_error_t *error) {
    (void)plan;
    return check_concat_form(arguments, concat_name, false, error);
}
static int check_concat_seg(void *arguments, const void *plan, ac_error_t *error) {
    (void)plan;
    return check_concat_form(arguments, concat_seg_name, true, error);
}

/* R elements turn in pairs, by R / 2 angles. */
static int check_angles(args_t *args, const char *name, const ac_view_t *cos, const char *sin_name,
                        const ac_view_t *sin, ac_error_t *error) {
    const char *op = args->sizes.op;
    const int64_t rope = ac_size(&args->sizes, "R");
    if (rope % 2 != 0)
        return ac_fail(error, AC_ERROR_VALUE, "%s: q_pe.shape[-1]: expected an even number, got %" PRId64, op, rope);
    if (cos->shape[0] < 1)
        return ac_fail(error, AC_ERROR_VALUE, "%s: %s: expected at least one row, got none", op, name);
    return check_same_dtype(op, sin_name, sin, cos, error);
}

static int check_fused_form(args_t *args, const char *op, bool segments, ac_error_t *error) {
    ac_sizes_t *sizes = &args->sizes;
    if (begin(args, op, "q_nope", args->q_nope, error) < 0) return -1;
    if (segments && !args->is_nope_first)
        return ac_fail(error, AC_ERROR_UNSUPPORTED, "%s: is_nope_first: expected True, got False", op);
    bind_tokens(args);
    if (args->kv_c->ndim == 2 || segments) ac_size_bind(sizes, "G", 1, "kv_c");
    if (args->q_pe->ndim == 3) ac_size_bind(sizes, "half", args->q_pe->shape[2] / 2, "q_pe");
    if (check_out_dtype(op, "q_out", "q_dtype", args->q_out, args->q_dtype, AC_SET(args->q_nope->dtype) | AC_FP8,
                        error) < 0)
        return -1;
    if (ac_check_tensors(args, fused_rules, AC_COUNT(fused_rules), sizes, error) < 0) return -1;
    if (check_same_dtype(op, "q_pe", args->q_pe, args->q_nope, error) < 0) return -1;
    if (check_same_dtype(op, "kv_c", args->kv_c, args->q_nope, error) < 0) return -1;
    if (check_same_dtype(op, "k_pe", args->k_pe, args->q_nope, error) < 0) return -1;
    if (check_widths(args, "kv_c.shape[-1]", "k_pe.shape[-1]", error) < 0) return -1;
    if (ac_check_int(op, "q_nope.shape[-1]", ac_size(sizes, "N"), 1, MAX_WIDTH, error) < 0) return -1;
    if (ac_check_int(op, "q_nope.shape[1]", ac_size(sizes, "H"), 1, INT32_MAX, error) < 0) return -1;
    if (ac_check_int(op, "kv_c.shape[1]", ac_size(sizes, "G"), 1, INT32_MAX, error) < 0) return -1;
    if (check_angles(args, "cos_cache", args->cos_cache, "sin_cache", args->sin_cache, error) < 0) return -1;
    const int64_t width = ac_size(sizes, "N") + ac_size(sizes, "R"), got = ac_size(sizes, "E");
    if (segments ? got < width : got != width)
        return ac_fail(error, AC_ERROR_VALUE, "%s: q_out: expected rows of %s%" PRId64 " elements, got %" PRId64, op,
                       segments ? "at least " : "", width, got);
    if (check_out_dtype(op, "kv_cache", "kv_dtype", args->kv_cache, args->kv_dtype, AC_SET(args->kv_c->dtype) | AC_FP8,
                        error) < 0)
        return -1;
    if (segments ? describe_segments(args, error)
                 : describe_rows(args, "pages block D|pages block G D", ac_size(sizes, "G"), false, error))
        return -1;
    if (ac_check_own_memory(op, args, fused_rules, AC_COUNT(fused_rules), error) < 0) return -1;
    return find_kernel(args, "slot_mapping", args->kv_c, args->q_out->dtype, ac_size(sizes, "T"),
                       ac_size(sizes, "H") + ac_size(sizes, "G"), error);
}

static int check_fused(void *arguments, const void *plan, ac_error_t *error) {
    (void)plan;
    return check_fused_form(arguments, fused_name, false, error);
}
static int check_fused_seg(void *arguments, const void *plan, ac_error_t *error) {
    (void)plan;
    return check_fused_form(arguments, fused_seg_name, true, error);
}

static ac_dtype_t cat_q_dtype(const args_t *args) {
    if (args->q_out) return args->q_out->dtype;
    return args->q_out_dtype == AC_DTYPE_NONE ? args->q_nope->dtype : args->q_out_dtype;
}

/* Outputs of the sources' dtype, as far as they are given. */
static int check_cat_outputs(const args_t *args, ac_error_t *error) {
    const struct {
        const char *name;
        const ac_view_t *view;
    } outputs[] = {{"decode_q_pe_out", args->decode_q_pe_out},
                   {"k_pe_out", args->k_pe_out},
                   {"q_nope_zeros_out", args->q_nope_zeros_out}};
    for (int i = 0; i < AC_COUNT(outputs); i++)
        if (outputs[i].view && check_same_dtype(cat_name, outputs[i].name, outputs[i].view, args->q_nope, error) < 0)
            return -1;
    const int64_t width = ac_size(&args->sizes, "N") + ac_size(&args->sizes, "R");
    if (args->q_out && args->q_out->shape[2] != width)
        return ac_fail(error, AC_ERROR_VALUE, "%s: q_out: expected rows of %" PRId64 " elements, got %" PRId64,
                       cat_name, width, args->q_out->shape[2]);
    return 0;
}

static int check_cat_dtypes(args_t *args, ac_error_t *error) {
    const ac_dtype_set_t allowed = AC_SET(args->q_nope->dtype) | AC_FP8;
    const char *op = cat_name;
    if (args->q_out && args->q_out_dtype != AC_DTYPE_NONE && args->q_out->dtype != args->q_out_dtype &&
        ac_view_retype((ac_arg_t){op, "q_out", args->q_out}, "q_out_dtype", args->q_out_dtype, args->q_out, error) < 0)
        return -1;
    if (args->q_out && ac_check_dtype((ac_arg_t){op, "q_out", args->q_out}, allowed, error) < 0) return -1;
    if (!ac_dtype_in(cat_q_dtype(args), allowed))
        return ac_fail(error, AC_ERROR_TYPE, "%s: q_out_dtype: expected the dtype of q_nope (%s) or an fp8 one, got %s",
                       op, ac_dtype_name(args->q_nope->dtype), ac_dtype_name(cat_q_dtype(args)));
    if (check_same_dtype(op, "q_pe", args->q_pe, args->q_nope, error) < 0) return -1;
    if (check_same_dtype(op, "k_nope", args->k_nope, args->q_nope, error) < 0) return -1;
    if (check_same_dtype(op, "k_pe", args->k_pe, args->q_nope, error) < 0) return -1;
    return check_out_dtype(op, "kv_cache", "kv_dtype", args->kv_cache, args->kv_dtype, allowed, error);
}

static int check_cat(void *arguments, const void *plan, ac_error_t *error) {
    args_t *args = arguments;
    ac_sizes_t *sizes = &args->sizes;
    const char *op = cat_name;
    (void)plan;
    if (begin(args, op, "q_nope", args->q_nope, error) < 0) return -1;
    if (args->shuffled_kv_cache)
        return ac_fail(error, AC_ERROR_UNSUPPORTED, "%s: shuffled_kv_cache: expected False, got True", op);
    if (check_cat_dtypes(args, error) < 0) return -1;
    ac_size_bind(sizes, "n", args->num_decode_toks_for_zeros, "num_decode_toks_for_zeros");
    if (ac_check_tensors(args, cat_rules, CAT_INPUTS, sizes, error) < 0) return -1;
    const int64_t tokens = ac_size(sizes, "T"), keys = ac_size(sizes, "K"), rope = ac_size(sizes, "R");
    if (ac_check_int(op, "num_decode_toks_for_zeros", args->num_decode_toks_for_zeros, 0, tokens, error) < 0) return -1;
    if (ac_check_int(op, "k_nope.shape[0]", keys, tokens, INT64_MAX, error) < 0) return -1;
    if (ac_check_int(op, "slot_mapping.shape[0]", ac_size(sizes, "S"), 0, keys, error) < 0) return -1;
    if (check_widths(args, "k_nope.shape[-1]", "k_pe.shape[-1]", error) < 0) return -1;
    if (ac_check_int(op, "q_nope.shape[-1]", ac_size(sizes, "N"), 1, MAX_WIDTH, error) < 0) return -1;
    if (ac_check_int(op, "q_nope.shape[1]", ac_size(sizes, "H"), 1, INT32_MAX, error) < 0) return -1;
    if (ac_check_int(op, "k_nope.shape[1]", ac_size(sizes, "G"), 1, INT32_MAX, error) < 0) return -1;
    if (check_angles(args, "cos", args->cos, "sin", args->sin, error) < 0) return -1;
    if (ac_size(sizes, "angles") != rope / 2 && ac_size(sizes, "angles") != rope)
        return ac_fail(error, AC_ERROR_VALUE,
                       "%s: cos: expected rows of %" PRId64 " or %" PRId64 " angles, got %" PRId64, op, rope / 2, rope,
                       ac_size(sizes, "angles"));
    if (ac_check_tensors(args, cat_rules + CAT_INPUTS, CAT_OUTPUTS, sizes, error) < 0) return -1;
    if (check_cat_outputs(args, error) < 0) return -1;
    if (describe_rows(args, "slots G D|pages block G D", ac_size(sizes, "G"), true, error) < 0) return -1;
    if (ac_check_own_memory(op, args, cat_rules, AC_COUNT(cat_rules), error) < 0) return -1;
    return find_kernel(args, "k_nope", args->k_nope, cat_q_dtype(args), keys, ac_size(sizes, "H") + ac_size(sizes, "G"),
                       error);
}

static int find_workspaces(const void *arguments, const void *plan, ac_workspace_t *out, ac_error_t *error) {
    const args_t *args = arguments;
    const ac_sizes_t *sizes = &args->sizes;
    const int64_t T = ac_size(sizes, "T"), H = ac_size(sizes, "H"), L = ac_size(sizes, "L"), R = ac_size(sizes, "R");
    const int64_t n = args->num_decode_toks_for_zeros, N = ac_size(sizes, "N");
    const ac_dtype_t dtype = args->q_nope->dtype;
    (void)plan, (void)error;
    out[0] = (ac_workspace_t){!args->q_out, cat_q_dtype(args), 3, {T, H, N + R}};
    out[1] = (ac_workspace_t){!args->decode_q_pe_out, dtype, 3, {n, H, R}};
    out[2] = (ac_workspace_t){!args->k_pe_out, dtype, 3, {ac_size(sizes, "K"), ac_size(sizes, "G"), R}};
    out[3] = (ac_workspace_t){!args->q_nope_zeros_out && n > 0, dtype, 3, {n, H, L}};
    return 0;
}

/* [tokens, ..] or [tokens, heads, ..] */
static int64_t head_stride(const ac_view_t *view) { return view->ndim == 3 ? ac_stride_bytes(view, 1) : 0; }

static ac_row_source_t source_of(const ac_view_t *latent, const ac_view_t *rope, int64_t heads) {
    return (ac_row_source_t){
        .latent = latent->data,
        .rope = rope->data,
        .latent_stride = ac_stride_bytes(latent, 0),
        .latent_head_stride = head_stride(latent),
        .rope_stride = ac_stride_bytes(rope, 0),
        .rope_head_stride = head_stride(rope),
        .heads = (int32_t)heads,
        .latent_dim = (int32_t)latent->shape[latent->ndim - 1],
    };
}

static ac_row_target_t target_of(const ac_view_t *view) {
    if (!view) return (ac_row_target_t){0};
    return (ac_row_target_t){view->data, ac_stride_bytes(view, 0), ac_stride_bytes(view, 1)};
}

static int64_t entry_stride(const ac_view_t *view) { return view->shape[0] > 1 ? view->stride[0] : 0; }
static const int64_t *longs(const ac_view_t *view) { return (const int64_t *)(const void *)view->data; }

/* What all forms have. `key_scale` is that of an fp8 cache. */
static void fill_keys(const args_t *args, const ac_view_t *latent, int64_t heads, const ac_scale_arg_t *key_scale,
                      ac_cache_write_params_t *p) {
    const ac_view_t *slots = args->slot_mapping;
    p->num_rows = args->num_rows;
    p->dtype = (int32_t)latent->dtype;
    p->rope_dim = (int32_t)ac_size(&args->sizes, "R");
    p->key = source_of(latent, args->k_pe, heads);
    p->slots = longs(slots);
    p->slots_stride = entry_stride(slots);
    p->num_mapped = slots->shape[0];
    p->cache = args->cache;
    p->cache_head_stride = args->cache_head_stride;
    p->key_scale = ac_scale_for(key_scale, (ac_dtype_t)args->cache.latent_dtype, args->target.device);
    if (args->cache.scale_groups) p->key_scale = (ac_scale_t){NULL, 1};
}

static void fill_rope(const args_t *args, const ac_view_t *positions, const ac_view_t *cos, const ac_view_t *sin,
                      ac_cache_write_params_t *p) {
    const int64_t pairs = p->rope_dim / 2;
    p->rope = (ac_rope_t){
        .positions = longs(positions),
        .positions_stride = entry_stride(positions),
        .cos = cos->data,
        .sin = sin->data,
        .rows = cos->shape[0],
        .cos_stride = ac_stride_bytes(cos, 0),
        .sin_stride = ac_stride_bytes(sin, 0),
        .dtype = (int32_t)cos->dtype,
        .pairs = (int32_t)pairs,
        .neox = args->is_neox,
        .own = pairs > 0 && cos->shape[cos->ndim - 1] != pairs,
    };
}

static void fill_queries(const args_t *args, const ac_scale_arg_t *scale, bool latent_first,
                         ac_cache_write_params_t *p) {
    const int64_t bytes = ac_dtype_bytes(args->q_out->dtype), latent = ac_size(&args->sizes, "N");
    p->query = source_of(args->q_nope, args->q_pe, ac_size(&args->sizes, "H"));
    p->num_queries = ac_size(&args->sizes, "T");
    p->query_dtype = (int32_t)args->q_out->dtype;
    p->query_out = target_of(args->q_out);
    p->query_latent_offset = latent_first ? 0 : p->rope_dim * bytes;
    p->query_rope_offset = latent_first ? latent * bytes : 0;
    p->query_scale = ac_scale_for(scale, args->q_out->dtype, args->target.device);
}

static int launch(const args_t *args, const ac_cache_write_params_t *p, intptr_t stream, ac_error_t *error) {
    const ac_launch_t launch = {
        .kernel = args->kernel,
        .params = p,
        .params_bytes = sizeof *p,
        .grid = ac_kernel_tiles(args->kernel, p->num_rows),
        .stream = stream,
        .writes = AC_WRITES_FINAL,
        .final_rows = p->cache.base       ? p->cache.base
                      : p->query_out.data ? p->query_out.data
                                          : p->key_rope.data,
    };
    if (p->num_rows == 0 || !launch.final_rows) return 0;
    return ac_launch(&args->target, &launch, error);
}

static int run_concat(void *arguments, const void *plan, intptr_t stream, ac_error_t *error) {
    const args_t *args = arguments;
    ac_cache_write_params_t p = {.key_divides = 1};
    (void)plan;
    fill_keys(args, args->kv_c, 1, &args->scale, &p);
    return launch(args, &p, stream, error);
}

static int run_fused(void *arguments, const void *plan, intptr_t stream, ac_error_t *error) {
    const args_t *args = arguments;
    ac_cache_write_params_t p = {.num_rotated = ac_size(&args->sizes, "T"), .writes_all = args->compute_all_q_rope};
    (void)plan;
    fill_keys(args, args->kv_c, ac_size(&args->sizes, "G"), &args->k_scale, &p);
    fill_rope(args, args->positions, args->cos_cache, args->sin_cache, &p);
    fill_queries(args, &args->q_scale, args->is_nope_first, &p);
    return launch(args, &p, stream, error);
}

static int run_cat(void *arguments, const void *plan, intptr_t stream, ac_error_t *error) {
    args_t *args = arguments;
    static const ac_scale_arg_t one = {NULL, 1};
    const int64_t tokens = ac_size(&args->sizes, "T");
    ac_cache_write_params_t p = {.num_rotated = tokens, .writes_all = 1};
    (void)plan;
    /* A test's allocator gives anything. */
    if (ac_check_tensors(args, cat_rules + CAT_INPUTS, CAT_OUTPUTS, &args->sizes, error) < 0) return -1;
    if (check_cat_outputs(args, error) < 0) return -1;
    if (ac_check_own_memory(cat_name, args, cat_rules, AC_COUNT(cat_rules), error) < 0) return -1;
    fill_keys(args, args->k_nope, ac_size(&args->sizes, "G"), args->apply_scale ? &args->k_scale : &one, &p);
    fill_rope(args, args->pos, args->cos, args->sin, &p);
    fill_queries(args, &one, true, &p);
    p.key_rope = target_of(args->k_pe_out);
    p.num_decoded = args->num_decode_toks_for_zeros;
    p.query_rope = target_of(args->decode_q_pe_out);
    p.zeros = target_of(args->q_nope_zeros_out);
    return launch(args, &p, stream, error);
}

#define RAISES                                                                                                         \
    "Returns None. Raises TypeError, ValueError, BufferError, UnsupportedError, DeviceError; a refused call writes\n"  \
    "nothing."
#define SLOTS                                                                                                          \
    "Token t goes to slot_mapping[t], row slot % page_size of page slot // page_size. fp8 is rounded to nearest "      \
    "even,\n"                                                                                                          \
    "saturates at the largest finite value and keeps NaN.\n\n"
#define TURNED                                                                                                         \
    "A pair (a, b) of a rope part turns to (a cos - b sin, b cos + a sin) in fp32, each operation rounded. "           \
    "A token\nwithout a slot is skipped, "

#define AC_OP concat_and_cache_mla
#define AC_OP_ARGS args_t
#define AC_OP_PARAMS "cache_write/params_concat.inc"
#define AC_OP_SUMMARY "Write latent and rope part of each token's key into a row of the cache."
#define AC_OP_NOTES SLOTS RAISES
#include "../define_op.inc"

#define AC_OP concat_and_cache_mla_seg
#define AC_OP_ARGS args_t
#define AC_OP_PARAMS "cache_write/params_concat_seg.inc"
#define AC_OP_SUMMARY "Write latent and rope part of each token's key into a cache whose pages hold them apart."
#define AC_OP_NOTES SLOTS RAISES
#include "../define_op.inc"

#define AC_OP fused_qk_rope_concat_and_cache_mla
#define AC_OP_ARGS args_t
#define AC_OP_PARAMS "cache_write/params_fused.inc"
#define AC_OP_SUMMARY "Turn the rope parts of queries and keys, join each with its latent, and write both."
#define AC_OP_NOTES SLOTS TURNED "but for q_out where compute_all_q_rope says so. " RAISES
#include "../define_op.inc"

#define AC_OP fused_qk_rope_concat_and_cache_mla_seg
#define AC_OP_ARGS args_t
#define AC_OP_PARAMS "cache_write/params_fused_seg.inc"
#define AC_OP_SUMMARY "The same into a cache whose pages hold latents and rope parts apart."
#define AC_OP_NOTES SLOTS TURNED "its q_out as well. " RAISES
#include "../define_op.inc"

#define AC_OP fused_qk_rope_cat_and_cache_mla
#define AC_OP_ARGS args_t
#define AC_OP_PARAMS "cache_write/params_cat.inc"
#define AC_OP_SUMMARY                                                                                                  \
    "Turn the rope parts of queries and keys, join each with its latent, and write both: Triton's form."
#define AC_OP_NOTES                                                                                                    \
    SLOTS TURNED "as far as the cache goes; everything else is written of all tokens. Keys of tokens\n"                \
                 "from T on are not turned. Returns (q_out, decode_q_pe_out, k_pe_out, q_nope_zeros_out or "           \
                 "None). " RAISES
#include "../define_op.inc"

#define OP(op, check_function, run_function, returned)                                                                 \
    const ac_op_t ac_op_##op = {                                                                                       \
        .name = #op,                                                                                                   \
        .user_name = #op,                                                                                              \
        .doc = doc_##op,                                                                                               \
        .params = params_##op,                                                                                         \
        .param_count = AC_COUNT(params_##op),                                                                          \
        .args_bytes = sizeof(args_t),                                                                                  \
        .returns = returned,                                                                                           \
        .check = check_function,                                                                                       \
        .workspaces = returned == AC_RETURNS_WORKSPACES ? find_workspaces : NULL,                                      \
        .run = run_function,                                                                                           \
    }
OP(concat_and_cache_mla, check_concat, run_concat, AC_RETURNS_NONE);
OP(concat_and_cache_mla_seg, check_concat_seg, run_concat, AC_RETURNS_NONE);
OP(fused_qk_rope_concat_and_cache_mla, check_fused, run_fused, AC_RETURNS_NONE);
OP(fused_qk_rope_concat_and_cache_mla_seg, check_fused_seg, run_fused, AC_RETURNS_NONE);
OP(fused_qk_rope_cat_and_cache_mla, check_cat, run_cat, AC_RETURNS_WORKSPACES);
