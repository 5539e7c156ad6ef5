/* Workspaces: NumPy and frameworks with an exchange API are asked in C, which takes a fraction of their Python calls;
 * others, and those that have to be told a stream, through aiter_c._call. */
#include "allocate.h"

#include "argparse.h"
#include "array.h"
#include "errors.h"
#include "exchange.h"
#include "numpy_api.h"

/* aiter_c._call.allocate, borrowed. Imported when it is first needed: the package imports this module. */
static PyObject *python_function(ac_state_t *state) {
    if (!state->allocate) {
        PyObject *module = PyImport_ImportModule("aiter_c._call");
        if (module) state->allocate = PyObject_GetAttrString(module, "allocate");
        Py_XDECREF(module);
    }
    return state->allocate;
}

static PyObject *allocate_by(PyObject *function, PyObject *name, PyObject *like, const ac_workspace_t *workspace,
                             PyObject *stream) {
    PyObject *shape = function ? ac_sizes(workspace->shape, workspace->ndim) : NULL;
    PyObject *dtype = shape ? PyUnicode_InternFromString(ac_dtype_name(workspace->dtype)) : NULL;
    PyObject *tensor = NULL;
    if (dtype)
        tensor = PyObject_CallFunctionObjArgs(function, name, like, shape, dtype, stream ? stream : Py_None, NULL);
    Py_XDECREF(shape);
    Py_XDECREF(dtype);
    return tensor;
}

/* What an exchange API calls when it cannot allocate. */
static void set_error(void *context, const char *kind, const char *message) {
    (void)context;
    PyErr_Format(PyExc_MemoryError, "%s: %s", kind, message);
}

static PyObject *allocate_by_exchange(const ac_tensor_t *like, const ac_workspace_t *workspace) {
    const DLPackExchangeAPI *api = like->api;
    DLManagedTensorVersioned *managed = NULL;
    void *object = NULL;
    int64_t shape[AC_MAX_NDIM];
    int code, bits;
    for (int i = 0; i < workspace->ndim; i++) shape[i] = workspace->shape[i];
    ac_dtype_to_dlpack(workspace->dtype, &code, &bits);
    DLTensor prototype = {
        .device = {like->view.device.type, like->view.device.index},
        .ndim = workspace->ndim,
        .dtype = {(uint8_t)code, (uint8_t)bits, 1},
        .shape = shape,
    };
    if (api->managed_tensor_allocator(&prototype, &managed, NULL, set_error) != 0 || !managed) {
        if (!PyErr_Occurred()) PyErr_NoMemory();
        return NULL;
    }
    /* Takes `managed` over, whether it fails or not. */
    if (api->managed_tensor_to_py_object_no_sync(managed, &object) == 0 && object) return object;
    if (!PyErr_Occurred()) PyErr_NoMemory();
    return NULL;
}

PyObject *ac_allocate(ac_state_t *state, const char *op, PyObject *name, PyObject *like, const ac_tensor_t *tensor,
                      const ac_workspace_t *workspace, PyObject *stream) {
    const DLPackExchangeAPI *api = tensor->api;
    const bool is_current = ac_is_none(stream) || tensor->view.device.type == AC_DEVICE_CPU;
    ac_type_entry_t entry;
    if (state->allocator) {
        PyObject *allocator = Py_NewRef(state->allocator); /* it may replace itself while it runs */
        PyObject *made = allocate_by(allocator, name, like, workspace, stream);
        Py_DECREF(allocator);
        return made;
    }
    if (api && is_current && api->managed_tensor_allocator && api->managed_tensor_to_py_object_no_sync)
        return allocate_by_exchange(tensor, workspace);
    if (ac_type_lookup(state, op, "out", Py_TYPE(like), &entry) < 0) return NULL;
    if (entry.path == AC_PATH_NUMPY && ac_numpy_can_make(workspace->dtype))
        return ac_numpy_empty(workspace->shape, workspace->ndim, workspace->dtype);
    return allocate_by(python_function(state), name, like, workspace, stream);
}

PyObject *py_set_allocator(PyObject *module, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames) {
    ac_state_t *state = ac_state(module);
    PyObject *values[1];
    if (ac_bind(ac_function_signature(state, AC_FN_set_allocator), args, nargs, kwnames, values) < 0) return NULL;
    if (values[0] != Py_None && !PyCallable_Check(values[0])) {
        ac_expected("set_allocator", "allocator", "a callable or None", values[0]);
        return NULL;
    }
    PyObject *before = state->allocator ? state->allocator : Py_NewRef(Py_None);
    state->allocator = values[0] == Py_None ? NULL : Py_NewRef(values[0]);
    return before;
}
