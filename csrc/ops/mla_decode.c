#include "mla_decode.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "../core/check.h"
#include "../core/fault.h"
#include "../core/mla_work.h"
#include "../device/device.h"
#include "kv_cache.h"

#define OP "mla_decode_fwd"
#define ARG(field) ((ac_arg_t){OP, #field, args->field})
#define TRY(check) \
    if ((check) < 0) return -1

static const uint32_t minus_infinity = 0xff800000u; /* fp32 bits */

/* What the shapes say. */
typedef struct {
    int64_t T, B;
    int32_t H;
    ac_kv_kind_t kv;
    const ac_runtime_t *runtime;
    ac_device_t device;
    ac_device_facts_t facts;
} shape_t;

static int check_int32(const char *name, int64_t value, int64_t low, ac_error_t *error) {
    return ac_check_int(OP, name, value, low, INT32_MAX, error);
}

static int check_index_tensor(ac_arg_t arg, ac_error_t *error) {
    static const ac_dim_t dims[] = {{"n", AC_ANY_SIZE}};
    TRY(ac_check_given(arg, error));
    TRY(ac_check_dtype(arg, AC_SET(AC_INT32), error));
    TRY(ac_check_shape(arg, 1, dims, error));
    return ac_check_dense_rows(arg, error);
}

static int find_runtime(ac_arg_t arg, const ac_runtime_t **out_runtime, ac_error_t *error) {
    const char *reason;
    char text[64];
    *out_runtime = ac_runtime_for(arg.view->device.type, &reason);
    if (*out_runtime) return 0;
    return ac_fail(error, AC_ERROR_UNSUPPORTED, "%s: %s: expected a device with a runtime, got %s: %s", arg.op,
                   arg.name, ac_device_text(arg.view->device, text, sizeof text), reason);
}

/* Puts the op and the argument before the text of a refusal that knows neither; the error of a driver is no refusal. */
static int name_refusal(const char *op, const char *name, int status, ac_error_t *error) {
    char text[sizeof error->text];
    if (status == 0 || error->kind == AC_ERROR_DEVICE) return status;
    memcpy(text, error->text, sizeof text);
    return ac_fail(error, error->kind, "%s: %s: %s", op, name, text);
}

/* `name`: the argument that chose the device. */
static int find_facts(const char *op, const char *name, const ac_runtime_t *runtime, ac_device_t device,
                      ac_device_facts_t *out_facts, ac_error_t *error) {
    return name_refusal(op, name, runtime->facts(runtime, device.index, out_facts, error), error);
}

/* q, kv_buffer, qo_indptr and the numbers: all that a plan is made from. */
static int read_shape(const ac_mla_decode_args_t *args, shape_t *out, ac_error_t *error) {
    TRY(check_int32("max_seqlen_q", args->max_seqlen_q, 1, error));
    TRY(check_int32("page_size", args->page_size, 1, error));
    TRY(ac_check_given(ARG(q), error));
    TRY(ac_check_given(ARG(kv_buffer), error));
    if (args->nhead_kv != 1)
        return ac_fail(error, AC_ERROR_UNSUPPORTED, OP ": nhead_kv: expected 1 (MLA has one latent head), got %" PRId64,
                       args->nhead_kv);
    if (!(args->logit_cap <= 0))
        return ac_fail(error, AC_ERROR_UNSUPPORTED, OP ": logit_cap: expected 0 (no soft cap), got %g",
                       args->logit_cap);
    TRY(find_runtime(ARG(q), &out->runtime, error));
    out->device = args->q->device;
    TRY(find_facts(OP, "q", out->runtime, out->device, &out->facts, error));
    TRY(ac_kv_cache_kind(ARG(kv_buffer), args->kv_format, args->page_size, &out->kv, error));
    TRY(ac_check_dtype(ARG(q), AC_HALF | AC_FP8 | AC_SET(AC_FLOAT32), error));
    const ac_dim_t dims[] = {{"T", AC_ANY_SIZE}, {"H", AC_ANY_SIZE}, {"D", out->kv.row_width}};
    TRY(ac_check_shape(ARG(q), 3, dims, error));
    out->T = args->q->shape[0];
    TRY(ac_check_int(OP, "q.shape[1]", args->q->shape[1], 1, INT32_MAX, error));
    out->H = (int32_t)args->q->shape[1];
    TRY(check_index_tensor(ARG(qo_indptr), error));
    TRY(ac_check_min_size(ARG(qo_indptr), 0, 1, "batch + 1", error));
    out->B = args->qo_indptr->shape[0] - 1;
    return check_int32("qo_indptr", out->B, 0, error);
}

int ac_mla_plan_for_device(const ac_mla_request_t *request, ac_device_t device, ac_mla_plan_t *out_plan,
                           ac_error_t *error) {
    const char *reason;
    char text[64];
    ac_device_facts_t facts;
    const ac_runtime_t *runtime = ac_runtime_for(device.type, &reason);
    if (!runtime)
        return ac_fail(error, AC_ERROR_UNSUPPORTED, "mla_plan: device: expected a device with a runtime, got %s: %s",
                       ac_device_text(device, text, sizeof text), reason);
    TRY(find_facts("mla_plan", "device", runtime, device, &facts, error));
    return ac_mla_plan("mla_plan", request, &(ac_plan_target_t){facts.arch, facts.compute_units}, out_plan, error);
}

int ac_mla_decode_plan(const ac_mla_decode_args_t *args, ac_mla_plan_t *out_plan, ac_error_t *error) {
    shape_t s;
    TRY(read_shape(args, &s, error));
    TRY(check_index_tensor(ARG(kv_indices), error));
    if (args->num_kv_splits != AC_MLA_AUTO_SPLITS && (args->num_kv_splits < 1 || args->num_kv_splits > INT32_MAX))
        return ac_fail(error, AC_ERROR_VALUE,
                       OP ": num_kv_splits: expected None or -1 (automatic) or 1 to 2147483647, got %" PRId64,
                       args->num_kv_splits);
    int64_t total_kv;
    if (__builtin_mul_overflow(args->kv_indices->shape[0], args->page_size, &total_kv)) total_kv = INT64_MAX;
    const ac_mla_request_t request = {
        .batch = (int32_t)s.B,
        .num_heads = s.H,
        .max_seqlen_q = (int32_t)args->max_seqlen_q,
        .page_size = (int32_t)args->page_size,
        .q_dtype = args->q->dtype,
        .kv_dtype = s.kv.dtype,
        .o_dtype = args->o ? args->o->dtype : AC_DTYPE_NONE,
        .kv_format = s.kv.format,
        .kv_lora_rank = AC_MLA_DV,
        .rope_dim = s.kv.rope_dim,
        .num_kv_splits = (int32_t)args->num_kv_splits,
        .total_kv = total_kv,
        .return_lse = args->return_lse,
        .deterministic = args->deterministic,
    };
    return ac_mla_plan(OP, &request, &(ac_plan_target_t){s.facts.arch, s.facts.compute_units}, out_plan, error);
}

static int plan_differs(const char *field, const char *planned, const char *got, ac_error_t *error) {
    return ac_fail(error, AC_ERROR_VALUE, OP ": plan.%s: expected a plan made for %s, got one made for %s", field, got,
                   planned);
}

static int check_arch(const ac_mla_plan_t *plan, const ac_device_facts_t *facts, ac_error_t *error) {
    if (facts->arch == plan->target.arch) return 0;
    return plan_differs("arch", ac_arch_name(plan->target.arch), ac_arch_name(facts->arch), error);
}

/* Refuses a call that the plan was not made for, by the name of the field. */
static int check_plan(const ac_mla_decode_args_t *args, const shape_t *s, const ac_mla_plan_t *plan,
                      ac_error_t *error) {
    const ac_mla_request_t *r = &plan->request;
    const struct {
        const char *field;
        int64_t planned, got;
    } numbers[] = {
        {"batch", r->batch, s->B},
        {"num_heads", r->num_heads, s->H},
        {"max_seqlen_q", r->max_seqlen_q, args->max_seqlen_q},
        {"page_size", r->page_size, args->page_size},
        {"qk_rope_head_dim", r->rope_dim, s->kv.rope_dim},
    };
    const bool wants_lse = args->lse != NULL;
    for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++) {
        char planned[24], got[24];
        if (numbers[i].planned == numbers[i].got) continue;
        snprintf(planned, sizeof planned, "%" PRId64, numbers[i].planned);
        snprintf(got, sizeof got, "%" PRId64, numbers[i].got);
        return plan_differs(numbers[i].field, planned, got, error);
    }
    if (wants_lse != (bool)r->return_lse)
        return plan_differs("return_lse", wants_lse ? "False" : "True", wants_lse ? "True" : "False", error);
    TRY(check_arch(plan, &s->facts, error));
    if (r->q_dtype != args->q->dtype)
        return plan_differs("q_dtype", ac_dtype_name(r->q_dtype), ac_dtype_name(args->q->dtype), error);
    if (r->kv_format != s->kv.format)
        return plan_differs("kv_format", ac_kv_format_name(r->kv_format), ac_kv_format_name(s->kv.format), error);
    if (r->kv_dtype != s->kv.dtype)
        return plan_differs("kv_dtype", ac_dtype_name(r->kv_dtype), ac_dtype_name(s->kv.dtype), error);
    return 0;
}

static int check_scale(const char *name, const ac_scale_arg_t *scale, ac_device_t device, ac_error_t *error) {
    const ac_arg_t arg = {OP, name, scale->view};
    if (!arg.view) return 0;
    TRY(ac_check_dtype(arg, AC_SET(AC_FLOAT32), error));
    if (ac_view_numel(arg.view) != 1) {
        char text[96];
        return ac_fail(error, AC_ERROR_VALUE, OP ": %s: expected one element, got shape %s", name,
                       ac_shape_text(arg.view, text, sizeof text));
    }
    return arg.view->device.type == AC_DEVICE_CPU ? 0 : ac_check_device(arg, device, "q", error);
}

/* A host scale is read now, a device scale by the kernel; 1 when the operand is not fp8. */
static ac_scale_t scale_for(const ac_scale_arg_t *scale, bool is_fp8, ac_device_t device) {
    if (!is_fp8) return (ac_scale_t){NULL, 1};
    if (!scale->view) return (ac_scale_t){NULL, (float)scale->value};
    if (scale->view->device.type == AC_DEVICE_CPU && device.type != AC_DEVICE_CPU)
        return (ac_scale_t){NULL, *(const float *)(const void *)scale->view->data};
    return (ac_scale_t){(const float *)(const void *)scale->view->data, 1};
}

/* o, lse and the partials: dtype, shape, device, writable. */
static int check_outputs(const ac_mla_decode_args_t *args, int64_t T, int64_t H, ac_device_t device,
                         const ac_mla_plan_t *plan, ac_error_t *error) {
    const int64_t S = plan->num_kv_splits;
    const ac_dim_t o[] = {{"T", T}, {"H", H}, {"512", AC_MLA_DV}};
    const ac_dim_t lse[] = {{"T", T}, {"H", H}};
    const ac_dim_t logits[] = {{"T", T}, {"S", S}, {"H", H}, {"512", AC_MLA_DV}};
    const ac_dim_t attn_lse[] = {{"T", T}, {"S", S}, {"H", H}, {"1", 1}};
    const struct {
        ac_arg_t arg;
        bool needed;
        ac_dtype_set_t dtypes;
        int ndim;
        const ac_dim_t *dims;
        bool contiguous;
    } outputs[] = {
        {ARG(o), true, plan->stage1->o_dtypes, 3, o, false},
        {ARG(lse), false, AC_SET(AC_FLOAT32), 2, lse, true},
        {ARG(logits), !plan->writes_output, AC_SET(AC_FLOAT32), 4, logits, true},
        {ARG(attn_lse), !plan->writes_output, AC_SET(AC_FLOAT32), 4, attn_lse, true},
    };
    for (size_t i = 0; i < sizeof outputs / sizeof *outputs; i++) {
        const ac_arg_t arg = outputs[i].arg;
        if (!arg.view && !outputs[i].needed) continue;
        TRY(ac_check_given(arg, error));
        TRY(ac_check_dtype(arg, outputs[i].dtypes, error));
        TRY(ac_check_shape(arg, outputs[i].ndim, outputs[i].dims, error));
        TRY(outputs[i].contiguous ? ac_check_contiguous(arg, error) : ac_check_dense_rows(arg, error));
        TRY(ac_check_device(arg, device, "q", error));
        TRY(ac_check_output(arg, error));
    }
    return 0;
}

/* The index tensors: dtype, rank, length; longer ones are fine, their tails are not read. */
static int check_indices(const ac_mla_decode_args_t *args, const shape_t *s, ac_error_t *error) {
    const bool paged = args->page_size > 1; /* at page size 1 kv_last_page_lens is not looked at */
    TRY(check_index_tensor(ARG(kv_indptr), error));
    TRY(check_index_tensor(ARG(kv_indices), error));
    TRY(ac_check_min_size(ARG(kv_indptr), 0, s->B + 1, "batch + 1, from qo_indptr", error));
    TRY(ac_check_device(ARG(qo_indptr), s->device, "q", error));
    TRY(ac_check_device(ARG(kv_indptr), s->device, "q", error));
    TRY(ac_check_device(ARG(kv_indices), s->device, "q", error));
    if (paged) {
        TRY(check_index_tensor(ARG(kv_last_page_lens), error));
        TRY(ac_check_min_size(ARG(kv_last_page_lens), 0, s->B, "batch, from qo_indptr", error));
        TRY(ac_check_device(ARG(kv_last_page_lens), s->device, "q", error));
    }
    if (args->num_kv_splits_indptr) {
        TRY(check_index_tensor(ARG(num_kv_splits_indptr), error));
        TRY(ac_check_min_size(ARG(num_kv_splits_indptr), 0, s->B + 1, "batch + 1, from qo_indptr", error));
        TRY(ac_check_device(ARG(num_kv_splits_indptr), s->device, "q", error));
    }
    return 0;
}

static int check_aliasing(const ac_mla_decode_args_t *args, ac_error_t *error) {
    ac_arg_t inputs[] = {ARG(q), ARG(kv_buffer), ARG(qo_indptr), ARG(kv_indptr), ARG(kv_indices),
                         ARG(kv_last_page_lens), ARG(num_kv_splits_indptr),
                         {OP, "q_scale", args->q_scale.view}, {OP, "kv_scale", args->kv_scale.view}};
    const ac_arg_t outputs[] = {ARG(o), ARG(lse), ARG(logits), ARG(attn_lse)};
    if (args->page_size == 1) inputs[5].view = NULL;
    return ac_check_no_overlap(inputs, sizeof inputs / sizeof *inputs, outputs, sizeof outputs / sizeof *outputs,
                               error);
}

static int32_t tiles_of(int64_t rows_per_request, const ac_kernel_t *kernel) {
    return (int32_t)((rows_per_request + kernel->tile_rows - 1) / kernel->tile_rows);
}

/* Query rows of a request at most: rows past T do not exist, so max_seqlen_q beyond T would only add empty work. */
static int32_t served_rows(const ac_mla_plan_t *plan, int64_t T) {
    return (int32_t)ac_min64(plan->request.max_seqlen_q, T);
}

/* Work items of stage 1; not more than plan->grid, which the planner kept below 2**63. */
static int64_t decode_grid(const ac_mla_plan_t *plan, int64_t T) {
    const int64_t row_tiles = tiles_of((int64_t)served_rows(plan, T) * plan->request.num_heads, plan->stage1);
    return (int64_t)plan->request.batch * plan->num_kv_splits * row_tiles;
}

/* Work items of stage 2. */
static int64_t merge_grid(const ac_mla_plan_t *plan, int64_t T) {
    const int64_t rows = (int64_t)plan->request.batch * served_rows(plan, T);
    int64_t grid;
    return __builtin_mul_overflow(rows, tiles_of(plan->request.num_heads, plan->stage2), &grid) ? INT64_MAX : grid;
}

/* Both stages fit the device: asked before stage 1 writes anything. */
static int check_grids(const ac_mla_plan_t *plan, int64_t T, const ac_device_facts_t *facts, ac_error_t *error) {
    TRY(name_refusal(OP, "plan.grid", ac_check_grid(plan->stage1, decode_grid(plan, T), facts, error), error));
    if (plan->writes_output) return 0;
    return name_refusal(OP, "plan.grid", ac_check_grid(plan->stage2, merge_grid(plan, T), facts, error), error);
}

static float *floats(const ac_view_t *view) { return view ? (float *)(void *)view->data : NULL; }
static const int32_t *ints(const ac_view_t *view) { return view ? (const int32_t *)(const void *)view->data : NULL; }

static void fill_params(const ac_mla_decode_args_t *args, const shape_t *s, const ac_mla_plan_t *plan,
                        ac_mla_decode_params_t *p) {
    const int32_t served = served_rows(plan, s->T);
    p->q = args->q->data;
    p->q_row_stride = ac_stride_bytes(args->q, 0);
    p->q_head_stride = ac_stride_bytes(args->q, 1);
    p->qo_indptr = ints(args->qo_indptr);
    p->kv_indptr = ints(args->kv_indptr);
    p->kv_indices = ints(args->kv_indices);
    p->kv_last_page_lens = args->page_size > 1 ? ints(args->kv_last_page_lens) : NULL;
    p->splits = (ac_splits_t){ints(args->num_kv_splits_indptr), plan->num_kv_splits, plan->split_count,
                              plan->split_min_rows, plan->split_granule};
    p->o = args->o->data;
    p->o_row_stride = ac_stride_bytes(args->o, 0);
    p->o_head_stride = ac_stride_bytes(args->o, 1);
    p->lse = floats(args->lse);
    p->partial_o = plan->writes_output ? NULL : floats(args->logits);
    p->partial_lse = plan->writes_output ? NULL : floats(args->attn_lse);
    p->q_scale = scale_for(&args->q_scale, ac_dtype_in(args->q->dtype, AC_FP8), s->device);
    p->kv_scale = scale_for(&args->kv_scale, ac_dtype_in(s->kv.dtype, AC_FP8), s->device);
    p->sm_scale = (float)(args->has_sm_scale ? args->sm_scale : 1.0 / sqrt((double)s->kv.row_width));
    p->num_rows = s->T;
    p->num_indices = args->kv_indices->shape[0];
    p->batch = (int32_t)s->B;
    p->num_heads = s->H;
    p->max_seqlen_q = served;
    p->row_tiles = tiles_of((int64_t)served * s->H, plan->stage1);
    p->q_dtype = (int32_t)args->q->dtype;
    p->o_dtype = (int32_t)args->o->dtype;
    p->causal = args->causal;
    p->writes_output = plan->writes_output;
    /* ROCm/aiter#2983: with one split the kernel writes the final rows, and the host merges scratch over them. */
    if (AC_FAULT("merge_after_direct") && plan->num_kv_splits == 1) p->writes_output = 1;
    /* ROCm/aiter#2585: below 16 heads the rows of the tile are filled by repeating heads. */
    if (AC_FAULT("heads_below_16") && s->H < 16) p->q_head_stride = 0;
}

int ac_mla_decode_stage1(const ac_mla_decode_args_t *args, const ac_mla_plan_t *plan, intptr_t stream,
                         ac_error_t *error) {
    shape_t s;
    ac_mla_decode_params_t params = {0};
    TRY(read_shape(args, &s, error));
    TRY(check_plan(args, &s, plan, error));
    TRY(ac_check_dense_rows(ARG(q), error));
    TRY(ac_check_device(ARG(kv_buffer), s.device, "q", error));
    TRY(ac_kv_cache_describe(ARG(kv_buffer), &s.kv, args->page_size, &params.kv, error));
    TRY(check_indices(args, &s, error));
    TRY(check_scale("q_scale", &args->q_scale, s.device, error));
    TRY(check_scale("kv_scale", &args->kv_scale, s.device, error));
    TRY(check_outputs(args, s.T, s.H, s.device, plan, error));
    TRY(check_aliasing(args, error));
    TRY(check_grids(plan, s.T, &s.facts, error));
    fill_params(args, &s, plan, &params);

    const ac_launch_t launch = {plan->stage1, &params, sizeof params, decode_grid(plan, s.T), stream};
    if (params.lse) /* rows that no request owns keep this */
        TRY(s.runtime->fill32(s.runtime, s.device.index, params.lse, minus_infinity, s.T * s.H, stream, error));
    /* ROCm/aiter#2983: the path of one split gets no output pointer. */
    if (AC_FAULT("skip_direct_output") && plan->writes_output) return 0;
    return s.runtime->launch(s.runtime, s.device.index, &launch, error);
}

int ac_mla_decode_stage2(const ac_mla_decode_args_t *args, const ac_mla_plan_t *plan, intptr_t stream,
                         ac_error_t *error) {
    const ac_runtime_t *runtime;
    if (plan->writes_output)
        return ac_fail(error, AC_ERROR_VALUE,
                       OP ": plan.writes_output: expected a plan with partials to merge, got one "
                          "whose stage 1 writes the output");
    TRY(ac_check_given(ARG(o), error));
    TRY(find_runtime(ARG(o), &runtime, error));
    const ac_device_t device = args->o->device;
    ac_device_facts_t facts;
    TRY(find_facts(OP, "o", runtime, device, &facts, error));
    TRY(check_arch(plan, &facts, error));
    const ac_dim_t dims[] = {{"T", AC_ANY_SIZE}, {"H", plan->request.num_heads}, {"512", AC_MLA_DV}};
    TRY(ac_check_shape(ARG(o), 3, dims, error));
    const int64_t T = args->o->shape[0], H = plan->request.num_heads;
    TRY(check_outputs(args, T, H, device, plan, error));
    TRY(check_index_tensor(ARG(qo_indptr), error));
    TRY(ac_check_min_size(ARG(qo_indptr), 0, (int64_t)plan->request.batch + 1, "plan.batch + 1", error));
    TRY(ac_check_device(ARG(qo_indptr), device, "o", error));
    const ac_arg_t inputs[] = {ARG(qo_indptr)};
    const ac_arg_t outputs[] = {ARG(logits), ARG(attn_lse), ARG(o), ARG(lse)};
    TRY(ac_check_no_overlap(inputs, 1, outputs, 4, error));

    const ac_mla_merge_params_t params = {
        .partial_o = floats(args->logits),
        .partial_lse = floats(args->attn_lse),
        .qo_indptr = ints(args->qo_indptr),
        .o = args->o->data,
        .o_row_stride = ac_stride_bytes(args->o, 0),
        .o_head_stride = ac_stride_bytes(args->o, 1),
        .lse = floats(args->lse),
        .num_rows = T,
        .batch = plan->request.batch,
        .num_heads = (int32_t)H,
        .max_seqlen_q = served_rows(plan, T),
        .num_splits = plan->num_kv_splits,
        .head_tiles = tiles_of(H, plan->stage2),
        .o_dtype = (int32_t)args->o->dtype,
    };
    const ac_launch_t launch = {plan->stage2, &params, sizeof params, merge_grid(plan, T), stream};
    return runtime->launch(runtime, device.index, &launch, error);
}
