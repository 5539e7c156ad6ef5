/* A call of an op: arguments -> the op's args struct by the rows of its parameters, then its steps. Each tensor is
 * imported once, and released when the call returns. */
#include "call.h"

#include <stdio.h>
#include <string.h>

#include "../core/float_env.h"
#include "allocate.h"
#include "argparse.h"
#include "dtype_arg.h"
#include "errors.h"
#include "exchange.h"
#include "log.h"
#include "plan.h"
#include "stream.h"
#include "tensor.h"

#define AC_MAX_SEQUENCES 4 /* of a call */

/* One call. The first tensor decides the stream, and its framework gives the workspaces. */
typedef struct {
    ac_state_t *state;
    const ac_op_t *op;
    const ac_signature_t *signature;
    PyObject *values[AC_MAX_PARAMS];
    PyObject *plan_object;                   /* strong; NULL: the op has none */
    PyObject *workspaces[AC_MAX_WORKSPACES]; /* strong: passed or allocated; NULL: none */
    PyObject *stream_object;                 /* borrowed, or NULL */
    PyObject *first;                         /* borrowed: the object of tensors[0] */
    PyObject *sequences[AC_MAX_SEQUENCES];   /* strong: keep the tensors of a list, which may change meanwhile */
    int sequence_count;
    intptr_t stream;
    int tensor_count; /* imported, to be released */
    ac_tensor_t tensors[AC_MAX_TENSORS];
    const char *names[AC_MAX_TENSORS]; /* of the parameters */
    _Alignas(16) unsigned char args[AC_MAX_ARGS_BYTES];
} call_t;

static void *field_of(call_t *call, const ac_param_t *param) { return call->args + param->offset; }

/* The place of the next tensor, which counts once it is imported; NULL with an exception where there is no room. */
static ac_tensor_t *next_tensor(call_t *call) {
    if (call->tensor_count < AC_MAX_TENSORS) return &call->tensors[call->tensor_count];
    PyErr_Format(PyExc_SystemError, "%s: more than %d tensors", call->op->name, AC_MAX_TENSORS);
    return NULL;
}

/* `name`: the parameter's, or that of a member of a group or a sequence. */
static int import_tensor(call_t *call, const char *name, PyObject *object, unsigned flags, ac_view_t **field) {
    ac_tensor_t *tensor = next_tensor(call);
    if (!tensor || ac_tensor_import(call->state, call->op->user_name, name, object, flags, tensor) < 0) return -1;
    if (call->tensor_count == 0) call->first = object;
    call->names[call->tensor_count++] = name;
    *field = &tensor->view;
    return 0;
}

static int import_sequence(call_t *call, const char *name, PyObject *object, ac_tensors_arg_t *out_tensors) {
    PyObject *items = call->sequence_count < AC_MAX_SEQUENCES ? PySequence_Tuple(object) : NULL;
    if (!items) {
        if (!PyErr_Occurred())
            PyErr_Format(PyExc_SystemError, "%s: more than %d sequences", call->op->name, AC_MAX_SEQUENCES);
        return -1;
    }
    call->sequences[call->sequence_count++] = items;
    const Py_ssize_t count = PyTuple_Size(items);
    if (count < 1 || count > AC_MAX_SEQUENCE) {
        PyErr_Format(PyExc_ValueError, "%s: %s: expected 1 to %d tensors, got %zd", call->op->user_name, name,
                     AC_MAX_SEQUENCE, count);
        return -1;
    }
    out_tensors->is_sequence = true;
    for (int i = 0; i < count; i++) {
        char text[AC_MAX_NAME];
        snprintf(text, sizeof text, "%s[%d]", name, i);
        if (import_tensor(call, text, PyTuple_GetItem(items, i), AC_TENSOR_INPUT, &out_tensors->views[i]) < 0)
            return -1;
        call->names[call->tensor_count - 1] = name; /* which lives on */
        out_tensors->count++;
    }
    return 0;
}

static int convert_tensors(call_t *call, const char *name, PyObject *object, ac_tensors_arg_t *out_tensors) {
    ac_type_entry_t entry;
    if (PyList_Check(object) || PyTuple_Check(object)) return import_sequence(call, name, object, out_tensors);
    if (ac_type_lookup(call->state, call->op->user_name, name, Py_TYPE(object), &entry) < 0) return -1;
    if (entry.path == AC_PATH_NONE)
        return ac_expected(call->op->user_name, name, "a tensor, or a list or tuple of tensors", object);
    out_tensors->count = 1;
    return import_tensor(call, name, object, AC_TENSOR_INPUT, &out_tensors->views[0]);
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

/* `object` is not None. */
static int convert_group(call_t *call, const ac_param_t *param, PyObject *object, ac_view_t **fields) {
    Py_ssize_t count = 0;
    while (param->choices[count]) count++;
    if (!PyTuple_Check(object) || PyTuple_Size(object) != count) {
        PyErr_Format(PyExc_TypeError, "%s: %s: expected a tuple of %zd tensors or None, got %R", call->op->user_name,
                     param->name, count, object);
        return -1;
    }
    for (Py_ssize_t i = 0; i < count; i++) {
        PyObject *member = PyTuple_GetItem(object, i);
        if (member == Py_None) continue;
        if (import_tensor(call, param->choices[i], member, AC_TENSOR_INPUT, &fields[i]) < 0) return -1;
    }
    return 0;
}

static int convert(call_t *call, const ac_param_t *param, PyObject *object) {
    const char *op = call->op->user_name;
    void *field = field_of(call, param);
    switch (param->kind) {
    case AC_KIND_TENSOR:
        return import_tensor(call, param->name, object, param->flags & AC_OUTPUT ? AC_TENSOR_OUTPUT : AC_TENSOR_INPUT,
                             field);
    case AC_KIND_TENSORS: return convert_tensors(call, param->name, object, field);
    case AC_KIND_INT: return convert_int(call, param, object, field);
    case AC_KIND_FLOAT: return convert_float(call, param, object, field);
    case AC_KIND_BOOL: return ac_to_bool(op, param->name, object, field);
    case AC_KIND_DTYPE: return ac_to_dtype_or_choice(op, param->name, object, param->choices, field);
    case AC_KIND_CHOICE:
        return ac_to_choice(op, param->name, object, param->choices, param->flags & AC_OPTIONAL, field);
    case AC_KIND_DEVICE: return ac_to_device(op, param->name, object, field);
    case AC_KIND_SCALE: return convert_scale(call, param, object, field);
    case AC_KIND_PLAN:
        if (!ac_to_plan(call->state, call->op->plan_kind, op, object)) return -1;
        call->plan_object = Py_NewRef(object);
        return 0;
    case AC_KIND_STREAM: call->stream_object = object; return 0;
    case AC_KIND_IGNORED: return 0;
    case AC_KIND_GROUP: return convert_group(call, param, object, field);
    }
    return -1;
}

/* A field without a value keeps its default, which is also what None means where it may be passed; that default itself
 * is mostly known by its object. */
static int convert_all(call_t *call) {
    const ac_signature_t *signature = call->signature;
    memcpy(call->args, signature->defaults, call->op->args_bytes);
    for (int i = 0; i < signature->count; i++) {
        PyObject *value = call->values[i];
        if (!value || value == signature->unset[i]) continue;
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
        .like = call->first,
        .tensor = &call->tensors[0],
        .stream = call->stream_object,
        .scratch = param->flags & AC_SCRATCH,
    };
    ac_tensor_t *tensor = next_tensor(call);
    *out_object = tensor ? ac_allocate(call->state, &buffer, tensor) : NULL;
    if (!*out_object) return -1;
    call->names[call->tensor_count++] = param->name;
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

/* `leading` entries that are still missing, then the workspaces. */
static PyObject *workspaces_result(const call_t *call, int leading) {
    const int workspace_count = call->signature->workspace_count;
    PyObject *result = PyTuple_New(leading + workspace_count);
    for (int i = 0; result && i < workspace_count; i++)
        PyTuple_SetItem(result, leading + i, Py_NewRef(call->workspaces[i] ? call->workspaces[i] : Py_None));
    return result;
}

/* (plan, stream, workspaces) */
static PyObject *stage_result(const call_t *call) {
    PyObject *result = workspaces_result(call, 2), *stream = PyLong_FromLongLong(call->stream);
    if (!result || !stream) {
        Py_XDECREF(result);
        Py_XDECREF(stream);
        return NULL;
    }
    PyTuple_SetItem(result, 0, Py_NewRef(call->plan_object ? call->plan_object : Py_None));
    PyTuple_SetItem(result, 1, stream);
    return result;
}

/* Made before the op runs, so that its own memory cannot run out after it wrote. */
static PyObject *prepare_result(const call_t *call) {
    switch (call->op->returns) {
    case AC_RETURNS_PLAN: return Py_NewRef(call->plan_object);
    case AC_RETURNS_STAGE: return stage_result(call);
    case AC_RETURNS_WORKSPACES: return workspaces_result(call, 0);
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

/* Decides the stream: the first tensor that is not on the CPU, or the first. */
static const ac_tensor_t *stream_tensor(const call_t *call) {
    for (int i = 0; i < call->tensor_count; i++)
        if (call->tensors[i].view.device.type != AC_DEVICE_CPU) return &call->tensors[i];
    return &call->tensors[0];
}

static PyObject *call_op(call_t *call) {
    ac_error_t error;
    ac_workspace_t needed[AC_MAX_WORKSPACES];
    PyObject *result;
    error.kind = AC_ERROR_NONE; /* the rest is large, and filled on failure */
    if (convert_all(call) < 0) return NULL;
    if (prepare(call, needed, &error) < 0) return NULL;
    if (call->tensor_count > 0 &&
        ac_stream_resolve(call->op->user_name, call->stream_object, stream_tensor(call), &call->stream) < 0)
        return NULL;
    if (call->op->workspaces && find_workspaces(call, needed) < 0) return NULL;
    result = prepare_result(call);
    if (result && run(call, &error) < 0) Py_CLEAR(result);
    if (!result || call->op->returns != AC_RETURNS_INT) return result;
    Py_DECREF(result);
    return PyLong_FromLongLong(*(const int64_t *)(const void *)call->args);
}

static void tell(const call_t *call, int64_t begin) {
    const ac_logged_call_t told = {
        .op = call->op->user_name,
        .function = call->op->name,
        .tensors = call->tensors,
        .names = call->names,
        .tensor_count = call->tensor_count,
        .plan = call->plan_object,
        .stream = call->stream,
        .begin = begin,
    };
    if (ac_log_level) ac_log_call(&told);
    if (call->state->observer) ac_observe_call(call->state, &told);
}

static PyObject *ac_call(PyObject *module, int number, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames) {
    call_t call;
    PyObject *result;
    call.state = ac_state(module);
    call.op = ac_ops[number];
    call.signature = &call.state->op_signatures[number];
    call.plan_object = call.stream_object = call.first = NULL;
    memset(call.workspaces, 0, sizeof call.workspaces);
    call.stream = 0;
    call.tensor_count = call.sequence_count = 0;
    const int64_t begin = ac_log_level ? ac_log_now() : 0;
    if (ac_bind(call.signature, args, nargs, kwnames, call.values) < 0) return NULL;
    result = call_op(&call);
    if (ac_log_level || call.state->observer) tell(&call, begin);
    ac_tensor_release(call.tensors, call.tensor_count);
    Py_XDECREF(call.plan_object);
    for (int i = 0; i < call.sequence_count; i++) Py_DECREF(call.sequences[i]);
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
