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

/* (name, like, shape, dtype, stream) -> tensor */
static PyObject *allocate_by(PyObject *function, const ac_buffer_t *buffer) {
    const ac_workspace_t *workspace = buffer->workspace;
    PyObject *stream = buffer->stream ? buffer->stream : Py_None, *tensor = NULL;
    PyObject *name = function ? PyUnicode_InternFromString(buffer->name) : NULL;
    PyObject *shape = name ? ac_sizes(workspace->shape, workspace->ndim) : NULL;
    PyObject *dtype = shape ? PyUnicode_InternFromString(ac_dtype_name(workspace->dtype)) : NULL;
    if (dtype) tensor = PyObject_CallFunctionObjArgs(function, name, buffer->like, shape, dtype, stream, NULL);
    Py_XDECREF(name);
    Py_XDECREF(shape);
    Py_XDECREF(dtype);
    return tensor;
}

static PyObject *imported(ac_state_t *state, const ac_buffer_t *buffer, PyObject *made, unsigned flags,
                          ac_tensor_t *out_tensor) {
    if (made && ac_tensor_import(state, buffer->op, buffer->name, made, flags, out_tensor) < 0) Py_CLEAR(made);
    return made;
}

/* What an exchange API calls when it cannot allocate. */
static void set_error(void *context, const char *kind, const char *message) {
    (void)context;
    PyErr_Format(PyExc_MemoryError, "%s: %s", kind, message);
}

static DLManagedTensorVersioned *allocate_managed(const ac_buffer_t *buffer) {
    const ac_workspace_t *workspace = buffer->workspace;
    const ac_device_t device = buffer->tensor->view.device;
    DLManagedTensorVersioned *managed = NULL;
    int64_t shape[AC_MAX_NDIM];
    int code, bits;
    for (int i = 0; i < workspace->ndim; i++) shape[i] = workspace->shape[i];
    ac_dtype_to_dlpack(workspace->dtype, &code, &bits);
    DLTensor prototype = {
        .device = {device.type, device.index},
        .ndim = workspace->ndim,
        .dtype = {(uint8_t)code, (uint8_t)bits, 1},
        .shape = shape,
    };
    if (buffer->tensor->api->managed_tensor_allocator(&prototype, &managed, NULL, set_error) == 0 && managed)
        return managed;
    if (!PyErr_Occurred()) PyErr_NoMemory();
    return NULL;
}

static PyObject *to_object(const DLPackExchangeAPI *api, DLManagedTensorVersioned *managed) {
    void *object = NULL;
    /* Takes `managed` over, whether it fails or not. */
    if (api->managed_tensor_to_py_object_no_sync(managed, &object) == 0 && object) return object;
    if (!PyErr_Occurred()) PyErr_NoMemory();
    return NULL;
}

static PyObject *allocate_by_exchange(ac_state_t *state, const ac_buffer_t *buffer, bool is_torch,
                                      ac_tensor_t *out_tensor) {
    const DLPackExchangeAPI *api = buffer->tensor->api;
    DLManagedTensorVersioned *managed = allocate_managed(buffer);
    if (!managed) return NULL;
    if (!is_torch)
        return imported(state, buffer, to_object(api, managed), AC_TENSOR_OUTPUT | AC_TENSOR_FRESH, out_tensor);
    /* torch's object has the memory of the tensor that it is made of. */
    if (ac_tensor_borrow(buffer->op, buffer->name, &managed->dl_tensor, out_tensor) < 0) {
        if (managed->deleter) managed->deleter(managed);
        return NULL;
    }
    return buffer->scratch ? ac_array_over(state, &out_tensor->view, managed) : to_object(api, managed);
}

static PyObject *allocate_by_numpy(const ac_buffer_t *buffer, ac_tensor_t *out_tensor) {
    const ac_workspace_t *workspace = buffer->workspace;
    char *data = NULL;
    PyObject *array = ac_numpy_empty(workspace->shape, workspace->ndim, workspace->dtype, &data);
    if (array)
        ac_tensor_fill(data, workspace->dtype, buffer->tensor->view.device, workspace->ndim, workspace->shape,
                       out_tensor);
    return array;
}

PyObject *ac_allocate(ac_state_t *state, const ac_buffer_t *buffer, ac_tensor_t *out_tensor) {
    const DLPackExchangeAPI *api = buffer->tensor->api;
    const bool is_current = ac_is_none(buffer->stream) || buffer->tensor->view.device.type == AC_DEVICE_CPU;
    ac_type_entry_t entry;
    if (state->allocator) {
        PyObject *allocator = Py_NewRef(state->allocator); /* it may replace itself while it runs */
        PyObject *made = allocate_by(allocator, buffer);
        Py_DECREF(allocator);
        return imported(state, buffer, made, AC_TENSOR_OUTPUT, out_tensor); /* anybody's tensor */
    }
    if (ac_type_lookup(state, buffer->op, "out", Py_TYPE(buffer->like), &entry) < 0) return NULL;
    if (api && is_current && api->managed_tensor_allocator && api->managed_tensor_to_py_object_no_sync)
        return allocate_by_exchange(state, buffer, entry.torch == AC_TORCH_PLAIN, out_tensor);
    if (entry.path == AC_PATH_NUMPY && ac_numpy_can_make(buffer->workspace->dtype))
        return allocate_by_numpy(buffer, out_tensor);
    return imported(state, buffer, allocate_by(python_function(state), buffer), AC_TENSOR_OUTPUT | AC_TENSOR_FRESH,
                    out_tensor);
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
