#include "py_mla.h"

#include "../core/float_env.h"
#include "../ops/mla_decode.h"
#include "argparse.h"
#include "dtype_arg.h"
#include "errors.h"
#include "exchange.h"
#include "plan.h"
#include "stream.h"
#include "tensor.h"

static const char op[] = "mla_decode_fwd"; /* the name by which users know the op and its stages */

#define ARG(name, value) PLAN_##name,
enum { AC_ARGS_mla_decode_plan(ARG, ) PLAN_COUNT };
#undef ARG
#define ARG(name, value) STAGE1_##name,
enum { AC_ARGS_mla_decode_stage1(ARG, ) STAGE1_COUNT };
#undef ARG
#define ARG(name, value) STAGE2_##name,
enum { AC_ARGS_mla_decode_stage2(ARG, ) STAGE2_COUNT };
#undef ARG

/* A tensor argument and the field of ac_mla_decode_args_t that points to its view. */
typedef struct {
    int arg;
    unsigned flags;
    size_t field;
} tensor_arg_t;

#define VIEW(function, name, flags) {function##_##name, flags, offsetof(ac_mla_decode_args_t, name)}
#define SCALE(function, name) {function##_##name, AC_TENSOR_OPTIONAL, offsetof(ac_mla_decode_args_t, name.view)}
#define WRITTEN AC_TENSOR_OUTPUT
#define OPTIONAL AC_TENSOR_OPTIONAL

static const tensor_arg_t plan_tensors[] = {
    VIEW(PLAN, q, 0), VIEW(PLAN, kv_buffer, 0), VIEW(PLAN, qo_indptr, 0), VIEW(PLAN, kv_indices, 0)};

static const tensor_arg_t stage1_tensors[] = {
    VIEW(STAGE1, q, 0),
    VIEW(STAGE1, kv_buffer, 0),
    VIEW(STAGE1, o, WRITTEN),
    VIEW(STAGE1, qo_indptr, 0),
    VIEW(STAGE1, kv_indptr, 0),
    VIEW(STAGE1, kv_indices, 0),
    VIEW(STAGE1, kv_last_page_lens, OPTIONAL),
    VIEW(STAGE1, num_kv_splits_indptr, OPTIONAL),
    VIEW(STAGE1, logits, OPTIONAL | WRITTEN),
    VIEW(STAGE1, attn_lse, OPTIONAL | WRITTEN),
    VIEW(STAGE1, lse, OPTIONAL | WRITTEN),
    SCALE(STAGE1, q_scale),
    SCALE(STAGE1, kv_scale),
};

/* The partials may be None, so that a plan that has none is refused by its field. */
static const tensor_arg_t stage2_tensors[] = {
    VIEW(STAGE2, logits, OPTIONAL), VIEW(STAGE2, attn_lse, OPTIONAL), VIEW(STAGE2, o, WRITTEN),
    VIEW(STAGE2, lse, OPTIONAL | WRITTEN), VIEW(STAGE2, qo_indptr, 0)};

#define MAX_TENSORS ((int)(sizeof stage1_tensors / sizeof stage1_tensors[0]))

/* One call: the arguments of the op, and the tensors that their views lie in. tensors[0] decides the stream. */
typedef struct {
    ac_mla_decode_args_t args;
    ac_tensor_t tensors[MAX_TENSORS];
    int tensor_count; /* imported, to be released */
} call_t;

/* Imports the tensors of the table. After a failure those imported so far are still the call's. */
static int import_tensors(ac_state_t *state, ac_function_t function, const tensor_arg_t *table, int count,
                          PyObject *const *values, call_t *call) {
    const char *const *names = state->signatures[function].texts;
    for (int i = 0; i < count; i++) {
        int arg = table[i].arg;
        ac_tensor_t *tensor = &call->tensors[call->tensor_count];
        if (ac_is_none(values[arg]) && (table[i].flags & OPTIONAL)) continue;
        if (ac_tensor_import(state, op, names[arg], values[arg], table[i].flags, tensor) < 0) return -1;
        call->tensor_count++;
        *(const ac_view_t **)((char *)&call->args + table[i].field) = &tensor->view;
    }
    return 0;
}

/* A scale that is a number. Then the value is no tensor to import: *value becomes None. */
static int number_scale(ac_state_t *state, const char *name, PyObject **value, ac_scale_arg_t *out_scale) {
    out_scale->value = 1;
    if (ac_is_none(*value)) return 0;
    if (!PyFloat_Check(*value) && !PyLong_Check(*value)) {
        ac_type_entry_t entry;
        if (ac_type_lookup(state, Py_TYPE(*value), &entry) < 0) return -1;
        if (entry.path != AC_PATH_NONE) return 0;
        if (!PyNumber_Check(*value)) return ac_expected(op, name, "float or a one-element tensor", *value);
    }
    if (ac_to_double(op, name, *value, &out_scale->value) < 0) return -1;
    *value = Py_None;
    return 0;
}

/* None and -1 are automatic. */
static int to_splits(const char *op_name, PyObject *object, int64_t *out_splits) {
    *out_splits = AC_MLA_AUTO_SPLITS;
    return ac_is_none(object) ? 0 : ac_to_int64(op_name, "num_kv_splits", object, out_splits);
}

/* kv_format=, q_dtype=, kv_dtype=. The records stay uint8, whatever they hold. */
static int apply_formats(PyObject *kv_format, PyObject *q_dtype, PyObject *kv_dtype, call_t *call) {
    ac_mla_decode_args_t *args = &call->args;
    ac_dtype_t dtype;
    if (ac_to_kv_format(op, "kv_format", kv_format, &args->kv_format) < 0) return -1;
    if (!ac_is_none(q_dtype)) {
        if (ac_to_dtype(op, "q_dtype", q_dtype, &dtype) < 0) return -1;
        if (ac_tensor_retype(op, "q", "q_dtype", dtype, (ac_view_t *)args->q) < 0) return -1;
    }
    if (!ac_is_none(kv_dtype)) {
        bool records = args->kv_format > AC_KV_PLAIN;
        if (ac_to_dtype(op, "kv_dtype", kv_dtype, &dtype) < 0) return -1;
        if (records && dtype != AC_UINT8) {
            PyErr_Format(PyExc_TypeError, "%s: kv_dtype: expected uint8 or None for kv_format='%s', got %s", op,
                         ac_kv_format_name((ac_kv_format_t)args->kv_format), ac_dtype_name(dtype));
            return -1;
        }
        if (ac_tensor_retype(op, "kv_buffer", "kv_dtype", dtype, (ac_view_t *)args->kv_buffer) < 0) return -1;
    }
    return 0;
}

PyObject *py_mla_decode_plan(PyObject *module, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames) {
    ac_state_t *state = ac_state(module);
    PyObject *values[PLAN_COUNT], *result = NULL;
    ac_error_t error = {0};
    ac_mla_plan_t plan = {0};
    call_t call;
    ac_mla_decode_args_t *a = &call.args;
    call.tensor_count = 0;
    *a = (ac_mla_decode_args_t){.page_size = 1, .nhead_kv = 1, .q_scale.value = 1, .kv_scale.value = 1};
    if (ac_bind(state, AC_FN_mla_decode_plan, args, nargs, kwnames, values) < 0) return NULL;
    if (ac_to_int64(op, "max_seqlen_q", values[PLAN_max_seqlen_q], &a->max_seqlen_q) < 0) return NULL;
    if (ac_to_int64(op, "page_size", values[PLAN_page_size], &a->page_size) < 0) return NULL;
    if (ac_to_int64(op, "nhead_kv", values[PLAN_nhead_kv], &a->nhead_kv) < 0) return NULL;
    if (to_splits(op, values[PLAN_num_kv_splits], &a->num_kv_splits) < 0) return NULL;
    if (ac_to_bool(op, "return_lse", values[PLAN_return_lse], &a->return_lse) < 0) return NULL;
    if (ac_to_bool(op, "deterministic", values[PLAN_deterministic], &a->deterministic) < 0) return NULL;
    int count = (int)(sizeof plan_tensors / sizeof plan_tensors[0]);
    if (import_tensors(state, AC_FN_mla_decode_plan, plan_tensors, count, values, &call) < 0) goto done;
    if (apply_formats(values[PLAN_kv_format], values[PLAN_q_dtype], values[PLAN_kv_dtype], &call) < 0) goto done;
    const ac_float_env_t saved = ac_float_env_enter();
    const int status = ac_mla_decode_plan(a, &plan, &error);
    ac_float_env_leave(&saved);
    if (status < 0)
        ac_raise(state, &error);
    else
        result = ac_plan_new(state, &plan, a->q->device);
done:
    ac_tensor_release(call.tensors, call.tensor_count);
    return result;
}

/* The numbers of stage 1; what the plan decided is taken from the plan. */
static int stage1_numbers(ac_state_t *state, PyObject **values, const ac_mla_plan_t *plan, ac_mla_decode_args_t *a) {
    *a = (ac_mla_decode_args_t){
        .num_kv_splits = plan->request.num_kv_splits,
        .deterministic = plan->request.deterministic,
        .return_lse = !ac_is_none(values[STAGE1_lse]),
        .has_sm_scale = !ac_is_none(values[STAGE1_sm_scale]),
    };
    if (ac_to_int64(op, "max_seqlen_q", values[STAGE1_max_seqlen_q], &a->max_seqlen_q) < 0) return -1;
    if (ac_to_int64(op, "page_size", values[STAGE1_page_size], &a->page_size) < 0) return -1;
    if (ac_to_int64(op, "nhead_kv", values[STAGE1_nhead_kv], &a->nhead_kv) < 0) return -1;
    if (a->has_sm_scale && ac_to_double(op, "sm_scale", values[STAGE1_sm_scale], &a->sm_scale) < 0) return -1;
    if (ac_to_double(op, "logit_cap", values[STAGE1_logit_cap], &a->logit_cap) < 0) return -1;
    if (ac_to_bool(op, "causal", values[STAGE1_causal], &a->causal) < 0) return -1;
    if (number_scale(state, "q_scale", &values[STAGE1_q_scale], &a->q_scale) < 0) return -1;
    return number_scale(state, "kv_scale", &values[STAGE1_kv_scale], &a->kv_scale);
}

typedef int stage_t(const ac_mla_decode_args_t *args, const ac_mla_plan_t *plan, intptr_t stream, ac_error_t *error);

/* Runs a stage on the stream that was passed, else on the current one of the framework of tensors[0]. */
static int run_stage(const ac_state_t *state, stage_t *stage, const call_t *call, const ac_mla_plan_t *plan,
                     PyObject *stream, intptr_t *out_stream) {
    ac_error_t error;
    int status;
    error.kind = AC_ERROR_NONE; /* the rest is large, and filled on failure */
    if (ac_stream_resolve(op, stream, &call->tensors[0], out_stream) < 0) return -1;
    const ac_float_env_t saved = ac_float_env_enter();
    Py_BEGIN_ALLOW_THREADS
    status = stage(&call->args, plan, *out_stream, &error);
    Py_END_ALLOW_THREADS
    ac_float_env_leave(&saved);
    if (status < 0) ac_raise(state, &error);
    return status;
}

PyObject *py_mla_decode_stage1(PyObject *module, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames) {
    ac_state_t *state = ac_state(module);
    PyObject *values[STAGE1_COUNT], *result = NULL;
    const ac_mla_plan_t *plan;
    intptr_t stream;
    call_t call;
    call.tensor_count = 0;
    if (ac_bind(state, AC_FN_mla_decode_stage1, args, nargs, kwnames, values) < 0) return NULL;
    plan = ac_to_plan(state, op, values[STAGE1_plan]);
    if (!plan || stage1_numbers(state, values, plan, &call.args) < 0) return NULL;
    if (import_tensors(state, AC_FN_mla_decode_stage1, stage1_tensors, MAX_TENSORS, values, &call) < 0) goto done;
    if (apply_formats(values[STAGE1_kv_format], values[STAGE1_q_dtype], values[STAGE1_kv_dtype], &call) < 0) goto done;
    if (run_stage(state, ac_mla_decode_stage1, &call, plan, values[STAGE1_stream], &stream) == 0)
        result = PyLong_FromLongLong(stream);
done:
    ac_tensor_release(call.tensors, call.tensor_count);
    return result;
}

PyObject *py_mla_decode_stage2(PyObject *module, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames) {
    ac_state_t *state = ac_state(module);
    PyObject *values[STAGE2_COUNT], *result = NULL;
    const ac_mla_plan_t *plan;
    intptr_t stream;
    call_t call;
    int count = (int)(sizeof stage2_tensors / sizeof stage2_tensors[0]);
    call.tensor_count = 0;
    if (ac_bind(state, AC_FN_mla_decode_stage2, args, nargs, kwnames, values) < 0) return NULL;
    plan = ac_to_plan(state, op, values[STAGE2_plan]);
    if (!plan) return NULL;
    call.args = (ac_mla_decode_args_t){
        .max_seqlen_q = plan->request.max_seqlen_q,
        .page_size = plan->request.page_size,
        .nhead_kv = 1,
        .num_kv_splits = plan->request.num_kv_splits,
        .deterministic = plan->request.deterministic,
        .return_lse = !ac_is_none(values[STAGE2_lse]),
        .q_scale.value = 1,
        .kv_scale.value = 1,
        .kv_format = (int)plan->request.kv_format,
    };
    if (import_tensors(state, AC_FN_mla_decode_stage2, stage2_tensors, count, values, &call) < 0) goto done;
    if (run_stage(state, ac_mla_decode_stage2, &call, plan, values[STAGE2_stream], &stream) == 0)
        result = Py_NewRef(Py_None);
done:
    ac_tensor_release(call.tensors, call.tensor_count);
    return result;
}

/* A cache by its format's name ("fp8_ds_mla") or its dtype. */
static int to_kv_dtype(PyObject *object, ac_mla_request_t *request) {
    if (PyUnicode_Check(object)) {
        const char *utf8 = PyUnicode_AsUTF8AndSize(object, NULL);
        if (!utf8) return -1;
        ac_kv_format_t format = ac_kv_format_from_name(utf8);
        if (format != AC_KV_FORMAT_COUNT && format != AC_KV_PLAIN) {
            request->kv_format = format;
            request->kv_dtype = AC_UINT8;
            return 0;
        }
    }
    request->kv_format = AC_KV_PLAIN;
    return ac_to_dtype("mla_plan", "kv_dtype", object, &request->kv_dtype);
}

/* The upper bound of all KV lengths together, or -1 where max_kv_len is None. */
static int to_total_kv(PyObject *max_kv_len, int32_t batch, int64_t *out_total_kv) {
    int64_t length = 0;
    *out_total_kv = -1;
    if (ac_is_none(max_kv_len)) return 0;
    if (ac_to_int64("mla_plan", "max_kv_len", max_kv_len, &length) < 0) return -1;
    if (length < 0 || __builtin_mul_overflow(length, (int64_t)(batch < 0 ? 0 : batch), out_total_kv)) {
        PyErr_Format(PyExc_ValueError, "mla_plan: max_kv_len: expected 0 or more and batch * max_kv_len below 2**63, "
                     "got %lld", (long long)length);
        return -1;
    }
    return 0;
}

PyObject *py_mla_plan(PyObject *module, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames) {
#define ARG(name, value) A_##name,
    enum { AC_ARGS_mla_plan(ARG, ) A_COUNT };
#undef ARG
    static const char name[] = "mla_plan";
    ac_state_t *state = ac_state(module);
    PyObject *values[A_COUNT];
    ac_mla_request_t request = {.o_dtype = AC_DTYPE_NONE, .kv_lora_rank = 512, .rope_dim = 64};
    ac_mla_plan_t plan = {0};
    ac_error_t error = {0};
    ac_device_t device;
    if (ac_bind(state, AC_FN_mla_plan, args, nargs, kwnames, values) < 0) return NULL;
    request.num_kv_splits = AC_MLA_AUTO_SPLITS;
    PyObject *splits = values[A_num_kv_splits];
    if (ac_to_int32(name, "batch", values[A_batch], &request.batch) < 0 ||
        ac_to_int32(name, "num_heads", values[A_num_heads], &request.num_heads) < 0 ||
        ac_to_int32(name, "max_seqlen_q", values[A_max_seqlen_q], &request.max_seqlen_q) < 0 ||
        ac_to_int32(name, "page_size", values[A_page_size], &request.page_size) < 0 ||
        ac_to_dtype(name, "q_dtype", values[A_q_dtype], &request.q_dtype) < 0 ||
        to_kv_dtype(values[A_kv_dtype], &request) < 0 ||
        (!ac_is_none(splits) && ac_to_int32(name, "num_kv_splits", splits, &request.num_kv_splits) < 0) ||
        to_total_kv(values[A_max_kv_len], request.batch, &request.total_kv) < 0 ||
        ac_to_int32(name, "kv_lora_rank", values[A_kv_lora_rank], &request.kv_lora_rank) < 0 ||
        ac_to_int32(name, "qk_rope_head_dim", values[A_qk_rope_head_dim], &request.rope_dim) < 0 ||
        ac_to_bool(name, "return_lse", values[A_return_lse], &request.return_lse) < 0 ||
        ac_to_bool(name, "deterministic", values[A_deterministic], &request.deterministic) < 0 ||
        ac_to_device(name, "device", values[A_device], &device) < 0)
        return NULL;
    const ac_float_env_t saved = ac_float_env_enter();
    const int status = ac_mla_plan_for_device(&request, device, &plan, &error);
    ac_float_env_leave(&saved);
    if (status < 0) return ac_raise(state, &error);
    return ac_plan_new(state, &plan, device);
}

PyObject *py_choose_kv_splits(PyObject *module, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames) {
#define ARG(name, value) A_##name,
    enum { AC_ARGS_choose_kv_splits(ARG, ) A_COUNT };
#undef ARG
    static const char name[] = "choose_kv_splits";
    ac_state_t *state = ac_state(module);
    PyObject *values[A_COUNT];
    int64_t batch = 0, total_kv = 0;
    int32_t splits = AC_MLA_AUTO_SPLITS, heads = 0, seqlen = 0, groups = 0, units = 0;
    int is_fp8 = 0, ignore = 0;
    if (ac_bind(state, AC_FN_choose_kv_splits, args, nargs, kwnames, values) < 0) return NULL;
    PyObject *given = values[A_num_kv_splits];
    if ((!ac_is_none(given) && ac_to_int32(name, "num_kv_splits", given, &splits) < 0) ||
        ac_to_int64(name, "batch", values[A_batch], &batch) < 0 ||
        ac_to_int64(name, "total_kv", values[A_total_kv], &total_kv) < 0 ||
        ac_to_int32(name, "num_heads", values[A_num_heads], &heads) < 0 ||
        ac_to_int32(name, "max_seqlen_q", values[A_max_seqlen_q], &seqlen) < 0 ||
        ac_to_bool(name, "is_fp8", values[A_is_fp8], &is_fp8) < 0 ||
        ac_to_int32(name, "groups", values[A_groups], &groups) < 0 ||
        ac_to_bool(name, "ignore_total_kv", values[A_ignore_total_kv], &ignore) < 0 ||
        ac_to_int32(name, "compute_units", values[A_compute_units], &units) < 0)
        return NULL;
    const ac_float_env_t saved = ac_float_env_enter();
    splits = ac_mla_choose_splits(splits, batch, total_kv, heads, seqlen, is_fp8, groups, ignore, units);
    ac_float_env_leave(&saved);
    return PyLong_FromLong(splits);
}
