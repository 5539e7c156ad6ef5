/* See log.h. Called only where somebody asked for it: nothing here has to be fast. */
#define _POSIX_C_SOURCE 200809L
#include "log.h"

#include <stdio.h>
#include <string.h>
#include <time.h>

#include "../device/device.h"
#include "../device/text.h"
#include "argparse.h"
#include "errors.h"

int64_t ac_log_now(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

static double us_since(int64_t begin) { return (double)(ac_log_now() - begin) * 1e-3; }

static void append_tensor(char *text, size_t size, const char *name, const ac_view_t *view) {
    char shape[192], place[32];
    ac_append(text, size, "%s%s %s%s", text[0] ? ", " : "", name, ac_dtype_name(view->dtype),
              ac_shape_text(view, shape, sizeof shape));
    if (!ac_view_is_contiguous(view)) {
        ac_append(text, size, " strides");
        for (int i = 0; i < view->ndim; i++) ac_append(text, size, "%s%lld", i ? "," : " ", (long long)view->stride[i]);
    }
    if (view->device.type != AC_DEVICE_CPU)
        ac_append(text, size, " %s", ac_device_text(view->device, place, sizeof place));
}

/* str() or repr() of an object, or what stands for it; never an exception. */
static void append_object(char *text, size_t size, PyObject *string) {
    Py_ssize_t length = 0;
    const char *bytes = string ? PyUnicode_AsUTF8AndSize(string, &length) : NULL;
    if (!bytes) PyErr_Clear();
    ac_append(text, size, "%s", bytes ? bytes : "?");
    Py_XDECREF(string);
}

/* "ValueError: the text", of the live exception; it is gone then. */
static void append_exception(char *text, size_t size, PyObject *type, PyObject *value) {
    append_object(text, size, PyObject_GetAttrString(type, "__name__"));
    ac_append(text, size, ": ");
    append_object(text, size, value ? PyObject_Str(value) : NULL);
}

/* The first device that is no CPU has to be done, unless its work goes into a graph. Microseconds from `begin` on, or
 * below 0. */
static double wait_for_device(const ac_logged_call_t *call) {
    for (int i = 0; i < call->tensor_count; i++) {
        const ac_device_t device = call->tensors[i].view.device;
        const char *reason;
        ac_error_t error = {0};
        bool capturing = true;
        if (device.type == AC_DEVICE_CPU) continue;
        const ac_runtime_t *runtime = ac_runtime_for(device.type, &reason);
        if (!runtime || runtime->is_capturing(runtime, device.index, call->stream, &capturing, &error) < 0 || capturing)
            return -1;
        return runtime->synchronize(runtime, device.index, &error) < 0 ? -1 : us_since(call->begin);
    }
    return -1;
}

void ac_log_call(const ac_logged_call_t *call) {
    char tensors[1400] = "", rest[480] = "";
    PyObject *type, *value, *trace;
    const double host = us_since(call->begin);
    PyErr_Fetch(&type, &value, &trace);
    for (int i = 0; i < call->tensor_count; i++)
        append_tensor(tensors, sizeof tensors, call->names[i], &call->tensors[i].view);
    if (type) {
        append_exception(rest, sizeof rest, type, value);
    } else {
        ac_append(rest, sizeof rest, "%.1f us", host);
        const double whole = ac_log_level >= 3 ? wait_for_device(call) : -1;
        if (whole >= 0) ac_append(rest, sizeof rest, ", %.1f us until the device was done", whole);
    }
    ac_log("%s: %s: %s", call->op, tensors[0] ? tensors : "no tensors", rest);
    if (ac_log_level >= 2 && call->plan) {
        rest[0] = '\0';
        append_object(rest, sizeof rest, PyObject_Repr(call->plan));
        ac_log("%s:   %s", call->op, rest);
    }
    PyErr_Restore(type, value, trace);
}

void ac_observe_call(ac_state_t *state, const ac_logged_call_t *call) {
    PyObject *observer = Py_NewRef(state->observer), *type, *value, *trace; /* it may put another in its place */
    PyErr_Fetch(&type, &value, &trace);
    PyObject *done = PyObject_CallFunction(observer, "sO", call->function, call->plan ? call->plan : Py_None);
    if (!done) PyErr_WriteUnraisable(observer);
    Py_XDECREF(done);
    Py_DECREF(observer);
    PyErr_Restore(type, value, trace);
}

PyObject *py_set_call_observer(PyObject *module, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames) {
    ac_state_t *state = ac_state(module);
    PyObject *values[1];
    if (ac_bind(ac_function_signature(state, AC_FN_set_call_observer), args, nargs, kwnames, values) < 0) return NULL;
    if (values[0] != Py_None && !PyCallable_Check(values[0])) {
        ac_expected("set_call_observer", "observer", "a callable or None", values[0]);
        return NULL;
    }
    PyObject *before = state->observer ? state->observer : Py_NewRef(Py_None);
    state->observer = values[0] == Py_None ? NULL : Py_NewRef(values[0]);
    return before;
}
