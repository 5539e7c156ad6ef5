/* A call of an op: arguments -> the op's args struct by the rows of its parameters, then its steps. Each tensor is
 * imported once, and released when the call returns. */
#include "call.h"

#include <string.h>

#include "../core/float_env.h"
#include "allocate.h"
#include "argparse.h"
#include "dtype_arg.h"
#include "errors.h"
#include "exchange.h"
#include "plan.h"
#include "stream.h"
#include "tensor.h"

/* One call. tensors[0] decides the stream, and whose framework gives the workspaces. */
typedef struct {
    ac_state_t *state;
    const ac_op_t *op;
    const ac_signature_t *signature;
    PyObject *values[AC_MAX_PARAMS];
    PyObject *plan_object;                   /* strong; NULL: the op has none */
    PyObject *workspaces[AC_MAX_WORKSPACES]; /* strong: passed or allocated; NULL: none */
    PyObject *stream_object;                 /* borrowed, or NULL */
    intptr_t stream;
    int tensor_count; /* imported, to be released */
    ac_tensor_t tensors[AC_MAX_TENSORS];
    _Alignas(16) unsigned char args[AC_MAX_ARGS_BYTES];
} call_t;

static void *field_of(call_t *call, const ac_param_t *param) { return call->args + param->offset; }

/* The place of the next tensor, which counts once it is imported; NULL with an exception where there is no room. */
static ac_tensor_t *next_tensor(call_t *call) {
    if (call->tensor_count < AC_MAX_TENSORS) return &call->tensors[call->tensor_count];
    PyErr_Format(PyExc_SystemError, "%s: more than %d tensors", call->op->name, AC_MAX_TENSORS);
    return NULL;
}

static int import_tensor(call_t *call, const char *name, PyObject *object, unsigned flags, ac_view_t **field) {
    ac_tensor_t *tensor = next_tensor(call);
    if (!tensor || ac_tensor_import(call->state, call->op->user_name, name, object, flags, tensor) < 0) return -1;
    call->tensor_count++;
    *field = &tensor->view;
    return 0;
}

/* A number, or else a tensor. */
static int convert_scale(call_t *call, const ac_param_t *param, PyObject *object, ac_scale_arg_t *out_scale) {
    const char *op = call->op->user_name;
    if (!PyFloat_Check(object) && !PyLong_Check(object)) {
        ac_type_entry_t entry;
        if (ac_type_lookup(call->state, op, param->name, Py_TYPE(object), &entry) < 0) return -1;
        if (entry.path != AC_PATH_NONE)
            return import_tensor(call, param->name, object, AC_TENSOR_INPUT, &out_scale->view);
        if (!PyNumber_Check(object)) return ac_expected(op, param->name, "float or a one-element tensor", object);
    }
    if (ac_to_double(op, param->name, object, &out_scale->value) < 0) return -1;
    return param->flags & AC_FINITE ? ac_check_finite(op, param->name, out_scale->value) : 0;
}

static int convert_float(call_t *call, const ac_param_t *param, PyObject *object, double *out_value) {
    if (ac_to_double(call->op->user_name, param->name, object, out_value) < 0) return -1;
    return param->flags & AC_FINITE ? ac_check_finite(call->op->user_name, param->name, *out_value) : 0;
}

static int convert_int(call_t *call, const ac_param_t *param, PyObject *object, int64_t *out_value) {
    if (ac_to_int64(call->op->user_name, param->name, object, out_value) < 0) return -1;
    if (*out_value != AC_NO_INT) return 0;
    PyErr_Format(PyExc_ValueError, "%s: %s: expected an integer above -2**63, got it", call->op->user_name,
                 param->name);
    return -1;
}

static int refuse_value(const call_t *call, const char *name) {
    PyErr_Format(call->state->unsupported_error, "%s: %s: expected None (not served in this version), got a value",
                 call->op->user_name, name);
    return -1;
}

/* `object` is not None. */
static int refuse_values(const call_t *call, const ac_param_t *param, PyObject *object) {
    if (!param->choices) return refuse_value(call, param->name);
    if (!PyTuple_Check(object)) return ac_expected(call->op->user_name, param->name, "tuple or None", object);
    const Py_ssize_t size = PyTuple_Size(object);
    for (Py_ssize_t i = 0; i < size && param->choices[i]; i++)
        if (PyTuple_GetItem(object, i) != Py_None) return refuse_value(call, param->choices[i]);
    return 0;
}

static int convert(call_t *call, const ac_param_t *param, PyObject *object) {
    const char *op = call->op->user_name;
    void *field = field_of(call, param);
    switch (param->kind) {
    case AC_KIND_TENSOR:
        return import_tensor(call, param->name, object, param->flags & AC_OUTPUT ? AC_TENSOR_OUTPUT : AC_TENSOR_INPUT,
                             field);
    case AC_KIND_INT: return convert_int(call, param, object, field);
    case AC_KIND_FLOAT: return convert_float(call, param, object, field);
    case AC_KIND_BOOL: return ac_to_bool(op, param->name, object, field);
    case AC_KIND_DTYPE: return ac_to_dtype_or_choice(op, param->name, object, param->choices, field);
    case AC_KIND_CHOICE: return ac_to_choice(op, param->name, object, param->choices, field);
    case AC_KIND_DEVICE: return ac_to_device(op, param->name, object, field);
    case AC_KIND_SCALE: return convert_scale(call, param, object, field);
    case AC_KIND_PLAN:
        if (!ac_to_plan(call->state, call->op->plan_kind, op, object)) return -1;
        call->plan_object = Py_NewRef(object);
        return 0;
    case AC_KIND_STREAM: call->stream_object = object; return 0;
    case AC_KIND_IGNORED: return 0;
    case AC_KIND_UNSERVED: return refuse_values(call, param, object);
    }
    return -1;
}

/* A field without a value keeps its default, which is also what None means where it may be passed. */
static int convert_all(call_t *call) {
    const ac_signature_t *signature = call->signature;
    memcpy(call->args, signature->defaults, call->op->args_bytes);
    for (int i = 0; i < signature->count; i++) {
        PyObject *value = call->values[i];
        if (!value || (value == Py_None && signature->takes_none[i])) continue;
        if (convert(call, signature->params[i], value) < 0) return -1;
    }
    return 0;
}

static const void *plan_of(const call_t *call) { return call->plan_object ? ac_plan_bytes(call->plan_object) : NULL; }

/* The steps of the op before it runs, in its float environment. `made`: room for a plan, where the caller passed none.
 */
static int take_steps(call_t *call, void *made, ac_workspace_t *out_workspaces, ac_error_t *error) {
    const ac_op_t *op = call->op;
    const void *plan = plan_of(call);
    if (op->check && op->check(call->args, plan, error) < 0) return -1;
    if (!plan && op->make_plan) {
        if (op->make_plan(call->args, made, error) < 0) return -1;
        plan = made;
    }
    return op->workspaces ? op->workspaces(call->args, plan, out_workspaces, error) : 0;
}

/* The end of steps of the op: leaves its float environment, and raises its error. */
static int end_steps(const call_t *call, const ac_float_env_t *saved, int status, const ac_error_t *error) {
    ac_float_env_leave(saved);
    if (status < 0) ac_raise(call->state, error);
    return status;
}

static int prepare(call_t *call, ac_workspace_t *out_workspaces, ac_error_t *error) {
    _Alignas(16) unsigned char made[AC_MAX_PLAN_BYTES];
    const bool makes_plan = !call->plan_object && call->op->make_plan;
    for (int i = 0; i < call->signature->workspace_count; i++) out_workspaces[i].needed = false;
    if (makes_plan) memset(made, 0, call->op->plan_kind->bytes);
    const ac_float_env_t saved = ac_float_env_enter();
    if (end_steps(call, &saved, take_steps(call, made, out_workspaces, error), error) < 0) return -1;
    if (makes_plan) call->plan_object = ac_plan_new(call->state, call->op->plan_kind, made);
    return makes_plan && !call->plan_object ? -1 : 0;
}

static int allocate(call_t *call, const ac_param_t *param, const ac_workspace_t *workspace, PyObject **out_object) {
    const ac_buffer_t buffer = {
        .op = call->op->user_name,
        .name = param->name,
        .workspace = workspace,
        .like = call->values[0],
        .tensor = &call->tensors[0],
        .stream = call->stream_object,
        .scratch = param->flags & AC_SCRATCH,
    };
    ac_tensor_t *tensor = next_tensor(call);
    *out_object = tensor ? ac_allocate(call->state, &buffer, tensor) : NULL;
    if (!*out_object) return -1;
    call->tensor_count++;
    *(ac_view_t **)field_of(call, param) = &tensor->view;
    return 0;
}

/* Workspaces that were passed stay as they are; those that the plan needs besides are allocated. */
static int find_workspaces(call_t *call, const ac_workspace_t *needed) {
    const ac_signature_t *signature = call->signature;
    for (int i = 0; i < signature->workspace_count; i++) {
        const int at = signature->workspaces[i];
        PyObject *given = call->values[at];
        if (!ac_is_none(given)) call->workspaces[i] = Py_NewRef(given);
        else if (needed[i].needed && allocate(call, signature->params[at], &needed[i], &call->workspaces[i]) < 0)
            return -1;
    }
    return 0;
}

/* (plan, stream, workspaces): made before the op runs, so that its own memory cannot run out after it wrote. */
static PyObject *stage_result(const call_t *call) {
    const int workspace_count = call->signature->workspace_count;
    PyObject *result = PyTuple_New(2 + workspace_count), *stream = PyLong_FromLongLong(call->stream);
    if (!result || !stream) {
        Py_XDECREF(result);
        Py_XDECREF(stream);
        return NULL;
    }
    PyTuple_SetItem(result, 0, Py_NewRef(call->plan_object));
    PyTuple_SetItem(result, 1, stream);
    for (int i = 0; i < workspace_count; i++)
        PyTuple_SetItem(result, 2 + i, Py_NewRef(call->workspaces[i] ? call->workspaces[i] : Py_None));
    return result;
}

static PyObject *prepare_result(const call_t *call) {
    switch (call->op->returns) {
    case AC_RETURNS_PLAN: return Py_NewRef(call->plan_object);
    case AC_RETURNS_STAGE: return stage_result(call);
    default: return Py_NewRef(Py_None);
    }
}

static int run(call_t *call, ac_error_t *error) {
    const void *plan = plan_of(call);
    int status;
    if (!call->op->run) return 0;
    const ac_float_env_t saved = ac_float_env_enter();
    Py_BEGIN_ALLOW_THREADS
    status = call->op->run(call->args, plan, call->stream, error);
    Py_END_ALLOW_THREADS
    end_steps(call, &saved, status, error);
    /* Without memory, by the device or by a signal an op may end after it began to write. */
    const bool refused = status < 0 && error->kind != AC_ERROR_MEMORY && error->kind != AC_ERROR_DEVICE &&
                         error->kind != AC_ERROR_INTERRUPTED;
    if (refused) return status;
    int told = ac_tensors_written(call->state, call->tensors, call->tensor_count);
    return status < 0 ? status : told;
}

static PyObject *call_op(call_t *call) {
    ac_error_t error;
    ac_workspace_t needed[AC_MAX_WORKSPACES];
    PyObject *result;
    error.kind = AC_ERROR_NONE; /* the rest is large, and filled on failure */
    if (convert_all(call) < 0) return NULL;
    if (prepare(call, needed, &error) < 0) return NULL;
    if (call->tensor_count > 0 &&
        ac_stream_resolve(call->op->user_name, call->stream_object, &call->tensors[0], &call->stream) < 0)
        return NULL;
    if (call->op->workspaces && find_workspaces(call, needed) < 0) return NULL;
    result = prepare_result(call);
    if (result && run(call, &error) < 0) Py_CLEAR(result);
    if (!result || call->op->returns != AC_RETURNS_INT) return result;
    Py_DECREF(result);
    return PyLong_FromLongLong(*(const int64_t *)(const void *)call->args);
}

static PyObject *ac_call(PyObject *module, int number, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames) {
    call_t call;
    PyObject *result;
    call.state = ac_state(module);
    call.op = ac_ops[number];
    call.signature = &call.state->op_signatures[number];
    call.plan_object = call.stream_object = NULL;
    memset(call.workspaces, 0, sizeof call.workspaces);
    call.stream = 0;
    call.tensor_count = 0;
    if (ac_bind(call.signature, args, nargs, kwnames, call.values) < 0) return NULL;
    result = call_op(&call);
    ac_tensor_release(call.tensors, call.tensor_count);
    Py_XDECREF(call.plan_object);
    for (int i = 0; i < AC_MAX_WORKSPACES; i++) Py_XDECREF(call.workspaces[i]);
    return result;
}

/* One function per op, as the method table wants it. */
enum {
#define KERNELS(name)
#define PLAN(name)
#define OP(name) OP_##name,
#include "../ops/ops.inc"
#undef OP
    OP_COUNT
};
#define OP(name)                                                                                                       \
    static PyObject *call_##name(PyObject *module, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames) {       \
        return ac_call(module, OP_##name, args, nargs, kwnames);                                                       \
    }
#include "../ops/ops.inc"
#undef OP

static PyMethodDef methods[] = {
#define OP(name) {#name, (PyCFunction)(void (*)(void))call_##name, METH_FASTCALL | METH_KEYWORDS, NULL},
#include "../ops/ops.inc"
#undef OP
    {0},
};
_Static_assert(OP_COUNT <= AC_MAX_OPS, "AC_MAX_OPS");

int ac_calls_init(ac_state_t *state, PyObject *module) {
    for (int i = 0; i < OP_COUNT; i++) {
        methods[i].ml_doc = ac_ops[i]->doc;
        if (ac_signature_from_params(&state->op_signatures[i], ac_ops[i]) < 0) return -1;
    }
    return PyModule_AddFunctions(module, methods);
}
