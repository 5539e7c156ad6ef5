/* aiter_c.Array: its memory, its fields, copies between host and device. */
#include "array.h"

#include <string.h>

#include "../device/device.h"
#include "argparse.h"
#include "array_dlpack.h"
#include "array_docs.h"
#include "array_values.h"
#include "dtype_arg.h"
#include "errors.h"
#include "numpy_api.h"
#include "tensor.h"

typedef struct {
    PyObject_HEAD
    ac_view_t view;
    const ac_runtime_t *runtime;     /* frees view.data */
    DLManagedTensorVersioned *owner; /* of another framework's memory; NULL: it is the array's own */
} array_t;

void ac_array_view(PyObject *array, ac_view_t *out_view) { *out_view = ((array_t *)array)->view; }

/* The runtime of a device that exists, else an exception. */
static const ac_runtime_t *runtime_of(const ac_state_t *state, const char *op, ac_device_t device) {
    const char *reason = NULL;
    char text[48];
    const ac_runtime_t *runtime = ac_runtime_for(device.type, &reason);
    ac_device_text(device, text, sizeof text);
    if (!runtime) {
        PyErr_Format(state->unsupported_error, "%s: device: no runtime serves %s: %s", op, text, reason);
        return NULL;
    }
    ac_error_t error = {0};
    int count;
    if (runtime->device_count(runtime, &count, &error) < 0) {
        ac_raise(state, &error);
        return NULL;
    }
    if (device.index >= count) {
        ac_runtime_info_t info; /* its note says why there is none */
        ac_runtime_describe(device.type, &info);
        PyErr_Format(PyExc_ValueError, "%s: device: expected one of %d %s devices, got %s%s%s", op, count,
                     runtime->name, text, info.note[0] ? "; " : "", info.note);
        return NULL;
    }
    return runtime;
}

/* An uninitialised Array. `shape` is checked here: sizes >= 0, less than 2**63 bytes together. */
static PyObject *new_array(const ac_state_t *state, const char *op, ac_dtype_t dtype, ac_device_t device, int ndim,
                           const int64_t *shape) {
    ac_error_t error = {0};
    int64_t bytes = ac_dtype_bytes(dtype), stride = 1;
    bool empty = false, overflow = false;
    const ac_runtime_t *runtime = runtime_of(state, op, device);
    if (!runtime) return NULL;
    for (int i = 0; i < ndim; i++) {
        if (shape[i] < 0) {
            PyErr_Format(PyExc_ValueError, "%s: shape: expected sizes >= 0, got %lld in dimension %d", op,
                         (long long)shape[i], i);
            return NULL;
        }
        empty |= shape[i] == 0;
        overflow |= __builtin_mul_overflow(bytes, shape[i] ? shape[i] : 1, &bytes);
    }
    if (overflow) {
        PyErr_Format(PyExc_ValueError, "%s: shape: expected less than 2**63 bytes in all", op);
        return NULL;
    }
    array_t *array = PyObject_GC_New(array_t, state->array_type);
    if (!array) return NULL;
    array->runtime = runtime;
    array->owner = NULL;
    array->view = (ac_view_t){.dtype = dtype, .device = device, .ndim = ndim};
    for (int i = ndim - 1; i >= 0; i--) {
        array->view.shape[i] = shape[i];
        array->view.stride[i] = stride;
        stride *= shape[i] ? shape[i] : 1;
    }
    if (!empty) {
        void *data = NULL;
        int status;
        Py_BEGIN_ALLOW_THREADS
        status = runtime->alloc(runtime, device.index, (size_t)bytes, &data, &error);
        Py_END_ALLOW_THREADS
        if (status < 0) {
            ac_raise(state, &error);
            Py_DECREF(array);
            return NULL;
        }
        array->view.data = data;
    }
    PyObject_GC_Track(array);
    return (PyObject *)array;
}

PyObject *ac_array_over(const ac_state_t *state, const ac_view_t *view, DLManagedTensorVersioned *owner) {
    const char *reason;
    const ac_runtime_t *runtime = ac_runtime_for(view->device.type, &reason);
    array_t *array = runtime ? PyObject_GC_New(array_t, state->array_type) : NULL;
    if (!array) {
        if (!runtime) PyErr_Format(state->unsupported_error, "aiter_c: device: no runtime: %s", reason);
        if (owner->deleter) owner->deleter(owner);
        return NULL;
    }
    array->runtime = runtime;
    array->owner = owner;
    array->view = *view;
    PyObject_GC_Track(array);
    return (PyObject *)array;
}

static int array_traverse(PyObject *self, visitproc visit, void *arg) {
    Py_VISIT(Py_TYPE(self));
    return 0;
}

static void array_dealloc(PyObject *self) {
    PyTypeObject *type = Py_TYPE(self);
    array_t *array = (array_t *)self;
    PyObject_GC_UnTrack(self);
    if (array->owner) {
        PyObject *error_type, *value, *traceback;
        PyErr_Fetch(&error_type, &value, &traceback); /* a deleter may run Python */
        if (array->owner->deleter) array->owner->deleter(array->owner);
        PyErr_Restore(error_type, value, traceback);
    } else if (array->view.data && array->view.device.type == AC_DEVICE_CPU) {
        array->runtime->free(array->runtime, 0, array->view.data);
    } else if (array->view.data) {
        Py_BEGIN_ALLOW_THREADS /* it waits for the device, which may wait for somebody who wants the interpreter */
        array->runtime->free(array->runtime, array->view.device.index, array->view.data);
        Py_END_ALLOW_THREADS
    }
    PyObject_GC_Del(self);
    Py_DECREF((PyObject *)type);
}

PyObject *ac_sizes(const int64_t *values, int ndim) {
    PyObject *tuple = PyTuple_New(ndim);
    for (int i = 0; tuple && i < ndim; i++) {
        PyObject *value = PyLong_FromLongLong(values[i]);
        if (!value || PyTuple_SetItem(tuple, i, value) < 0) Py_CLEAR(tuple);
    }
    return tuple;
}

static PyObject *device_name(ac_device_t device) {
    char text[48];
    return PyUnicode_FromString(ac_device_text(device, text, sizeof text));
}

static PyObject *get_shape(PyObject *self, void *Py_UNUSED(closure)) {
    const ac_view_t *view = &((array_t *)self)->view;
    return ac_sizes(view->shape, view->ndim);
}

static PyObject *get_strides(PyObject *self, void *Py_UNUSED(closure)) {
    const ac_view_t *view = &((array_t *)self)->view;
    return ac_sizes(view->stride, view->ndim);
}

static PyObject *get_dtype(PyObject *self, void *Py_UNUSED(closure)) {
    return PyUnicode_FromString(ac_dtype_name(((array_t *)self)->view.dtype));
}

static PyObject *get_device(PyObject *self, void *Py_UNUSED(closure)) {
    return device_name(((array_t *)self)->view.device);
}

static PyObject *get_ndim(PyObject *self, void *Py_UNUSED(closure)) {
    return PyLong_FromLong(((array_t *)self)->view.ndim);
}

static PyObject *get_nbytes(PyObject *self, void *Py_UNUSED(closure)) {
    const ac_view_t *view = &((array_t *)self)->view;
    return PyLong_FromLongLong(ac_view_numel(view) * ac_dtype_bytes(view->dtype));
}

static PyObject *array_repr(PyObject *self) {
    const ac_view_t *view = &((array_t *)self)->view;
    char device[48];
    PyObject *shape = ac_sizes(view->shape, view->ndim);
    if (!shape) return NULL;
    PyObject *text = PyUnicode_FromFormat("aiter_c.Array(shape=%R, dtype='%s', device='%s')", shape,
                                          ac_dtype_name(view->dtype),
                                          ac_device_text(view->device, device, sizeof device));
    Py_DECREF(shape);
    return text;
}

static Py_ssize_t array_length(PyObject *self) {
    const ac_view_t *view = &((array_t *)self)->view;
    if (view->ndim > 0) return (Py_ssize_t)view->shape[0];
    PyErr_SetString(PyExc_TypeError, "Array.__len__: expected an array with dimensions, got shape []");
    return -1;
}

/* Copies between the memory of an Array and memory of the same size on the host or its device, after all work that the
 * device has so far, and waits until it is done: an Array does not know which streams use it. */
static int copy_waiting(const ac_state_t *state, const array_t *array, void *to, const void *from) {
    const ac_runtime_t *runtime = array->runtime;
    const size_t bytes = (size_t)(ac_view_numel(&array->view) * ac_dtype_bytes(array->view.dtype));
    const int index = array->view.device.index;
    ac_error_t error = {0};
    int status;
    if (bytes == 0) return 0;
    Py_BEGIN_ALLOW_THREADS
    status = runtime->synchronize(runtime, index, &error);
    if (status == 0) status = runtime->copy(runtime, index, to, from, bytes, 0, &error);
    if (status == 0) status = runtime->synchronize(runtime, index, &error);
    Py_END_ALLOW_THREADS
    if (status < 0) ac_raise(state, &error);
    return status;
}

/* A new Array with the elements of `array`, on its device or on the host. */
static PyObject *duplicate(const ac_state_t *state, const char *op, const array_t *array, ac_device_t device) {
    const ac_view_t *view = &array->view;
    PyObject *copy = new_array(state, op, view->dtype, device, view->ndim, view->shape);
    if (copy && copy_waiting(state, array, ((array_t *)copy)->view.data, view->data) < 0) Py_CLEAR(copy);
    return copy;
}

static PyObject *array_numpy(PyObject *self, PyObject *Py_UNUSED(ignored)) {
    const ac_view_t *view = &((array_t *)self)->view;
    if (view->device.type == AC_DEVICE_CPU) return ac_numpy_from_view("Array.numpy", view, self);
    PyObject *host = duplicate(ac_state_of(self), "Array.numpy", (array_t *)self, (ac_device_t){AC_DEVICE_CPU, 0});
    PyObject *result = host ? ac_numpy_from_view("Array.numpy", &((array_t *)host)->view, host) : NULL;
    Py_XDECREF(host);
    return result;
}

/* Of the elements, on the same device: what copy.copy and copy.deepcopy give. */
static PyObject *array_copy(PyObject *self, PyObject *Py_UNUSED(memo)) {
    const array_t *array = (array_t *)self;
    return duplicate(ac_state_of(self), "Array.__copy__", array, array->view.device);
}

/* from_host(NumPy array, device): loading needs the device again. */
static PyObject *array_reduce(PyObject *self, PyObject *Py_UNUSED(ignored)) {
    PyObject *module = PyType_GetModule(Py_TYPE(self)), *made = NULL;
    PyObject *from_host = module ? PyObject_GetAttrString(module, "from_host") : NULL;
    PyObject *values = from_host ? array_numpy(self, NULL) : NULL;
    PyObject *device = values ? get_device(self, NULL) : NULL;
    if (device) made = Py_BuildValue("(O(OO))", from_host, values, device);
    Py_XDECREF(from_host);
    Py_XDECREF(values);
    Py_XDECREF(device);
    return made;
}

static int wait_for_device(const ac_state_t *state, const array_t *array) {
    ac_error_t error = {0};
    int status;
    Py_BEGIN_ALLOW_THREADS
    status = array->runtime->synchronize(array->runtime, array->view.device.index, &error);
    Py_END_ALLOW_THREADS
    if (status < 0) ac_raise(state, &error);
    return status;
}

static PyObject *array_dlpack(PyObject *self, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames) {
    const array_t *array = (array_t *)self;
    ac_state_t *state = ac_state_of(self);
    ac_export_t request;
    PyObject *copy = NULL;
    if (ac_export_parse(state, args, nargs, kwnames, &array->view, &request) < 0) return NULL;
    if (request.copy) {
        copy = duplicate(state, "Array.__dlpack__", array, array->view.device);
        if (!copy) return NULL;
    } else if (request.wait && wait_for_device(state, array) < 0) {
        return NULL;
    }
    PyObject *exported = copy ? copy : self;
    PyObject *capsule = ac_export(exported, &((array_t *)exported)->view, &request);
    Py_XDECREF(copy);
    return capsule;
}

static PyObject *array_dlpack_device(PyObject *self, PyObject *Py_UNUSED(ignored)) {
    const ac_device_t device = ((array_t *)self)->view.device;
    return Py_BuildValue("(ii)", device.type, device.index);
}

/* An int or a sequence of ints. */
static int parse_shape(const char *op, PyObject *object, int64_t *out_shape, int *out_ndim) {
    if (PyIndex_Check(object)) {
        *out_ndim = 1;
        return ac_to_int64(op, "shape", object, out_shape);
    }
    if (!PySequence_Check(object) || PyUnicode_Check(object))
        return ac_expected(op, "shape", "int or a sequence of int", object);
    Py_ssize_t ndim = PySequence_Size(object);
    if (ndim < 0) return -1;
    if (ndim > AC_MAX_NDIM) {
        PyErr_Format(PyExc_ValueError, "%s: shape: expected at most %d dimensions, got %zd", op, AC_MAX_NDIM, ndim);
        return -1;
    }
    for (Py_ssize_t i = 0; i < ndim; i++) {
        PyObject *size = PySequence_GetItem(object, i);
        int failed = !size || ac_to_int64(op, "shape", size, &out_shape[i]) < 0;
        Py_XDECREF(size);
        if (failed) return -1;
    }
    *out_ndim = (int)ndim;
    return 0;
}

PyObject *py_empty(PyObject *module, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames) {
    ac_state_t *state = ac_state(module);
    PyObject *values[3];
    int64_t shape[AC_MAX_NDIM];
    int ndim;
    ac_dtype_t dtype;
    ac_device_t device;
    if (ac_bind(ac_function_signature(state, AC_FN_empty), args, nargs, kwnames, values) < 0) return NULL;
    if (parse_shape("empty", values[0], shape, &ndim) < 0) return NULL;
    if (ac_to_dtype("empty", "dtype", values[1], &dtype) < 0) return NULL;
    if (ac_to_device("empty", "device", values[2], &device) < 0) return NULL;
    return new_array(state, "empty", dtype, device, ndim, shape);
}

/* The elements of `view` from dimension `dim` on in row-major order; returns the end of what was written. */
static char *gather(char *to, const char *from, const ac_view_t *view, int dim, size_t bytes) {
    bool last = dim == view->ndim - 1;
    if (dim == view->ndim || (last && (view->shape[dim] <= 1 || view->stride[dim] == 1))) {
        size_t run = bytes * (size_t)(last ? view->shape[dim] : 1);
        memcpy(to, from, run);
        return to + run;
    }
    for (int64_t i = 0; i < view->shape[dim]; i++)
        to = gather(to, from + i * view->stride[dim] * (int64_t)bytes, view, dim + 1, bytes);
    return to;
}

/* A contiguous copy of host memory in a new Array on the host. */
static PyObject *gathered(const ac_state_t *state, const ac_view_t *view) {
    const ac_device_t host = {AC_DEVICE_CPU, 0};
    PyObject *copy = new_array(state, "from_host", view->dtype, host, view->ndim, view->shape);
    if (!copy || ac_view_numel(view) == 0) return copy;
    Py_BEGIN_ALLOW_THREADS
    gather(((array_t *)copy)->view.data, view->data, view, 0, (size_t)ac_dtype_bytes(view->dtype));
    Py_END_ALLOW_THREADS
    return copy;
}

/* A copy of host memory in a new Array on `device`; what is not contiguous makes a stop on the host. */
static PyObject *copy_to(const ac_state_t *state, const ac_view_t *view, ac_device_t device) {
    if (device.type == AC_DEVICE_CPU) return gathered(state, view);
    PyObject *host = NULL, *array = NULL;
    if (!ac_view_is_contiguous(view)) {
        host = gathered(state, view);
        if (!host) return NULL;
        view = &((array_t *)host)->view;
    }
    array = new_array(state, "from_host", view->dtype, device, view->ndim, view->shape);
    if (array && copy_waiting(state, (array_t *)array, ((array_t *)array)->view.data, view->data) < 0) Py_CLEAR(array);
    Py_XDECREF(host);
    return array;
}

PyObject *py_from_host(PyObject *module, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames) {
    ac_state_t *state = ac_state(module);
    PyObject *values[2], *array = NULL;
    ac_tensor_t source;
    ac_device_t device;
    char text[48];
    if (ac_bind(ac_function_signature(state, AC_FN_from_host), args, nargs, kwnames, values) < 0) return NULL;
    if (ac_to_device("from_host", "device", values[1], &device) < 0) return NULL;
    if (ac_tensor_import(state, "from_host", "array", values[0], AC_TENSOR_INPUT, &source) < 0) return NULL;
    if (source.view.device.type == AC_DEVICE_CPU) array = copy_to(state, &source.view, device);
    else
        PyErr_Format(PyExc_ValueError, "from_host: array: expected a tensor on the cpu, got one on %s",
                     ac_device_text(source.view.device, text, sizeof text));
    ac_tensor_release(&source, 1);
    return array;
}

static PyGetSetDef array_fields[] = {
    {"shape", get_shape, NULL, "Sizes, as a tuple of int.", NULL},
    {"strides", get_strides, NULL, "Strides in elements, as a tuple of int.", NULL},
    {"dtype", get_dtype, NULL, "The name of the element type, such as 'bfloat16'.", NULL},
    {"device", get_device, NULL, "The device, such as 'cpu'.", NULL},
    {"ndim", get_ndim, NULL, "The number of dimensions.", NULL},
    {"nbytes", get_nbytes, NULL, "Bytes of all elements together.", NULL},
    {0},
};

static PyMethodDef array_methods[] = {
    {"numpy", array_numpy, METH_NOARGS, AC_DOC_numpy},
    {"__array__", (PyCFunction)(void (*)(void))ac_array_dunder_array, METH_FASTCALL | METH_KEYWORDS, AC_DOC___array__},
    {"__dlpack__", (PyCFunction)(void (*)(void))array_dlpack, METH_FASTCALL | METH_KEYWORDS, AC_DOC___dlpack__},
    {"__copy__", array_copy, METH_NOARGS, NULL},
    {"__deepcopy__", array_copy, METH_O, NULL},
    {"__reduce__", array_reduce, METH_NOARGS, NULL},
    {"__dlpack_device__", array_dlpack_device, METH_NOARGS, AC_DOC___dlpack_device__},
    {0},
};

static PyType_Slot array_slots[] = {
    {Py_tp_doc, (void *)AC_DOC_Array},
    {Py_tp_dealloc, array_dealloc},
    {Py_tp_traverse, array_traverse},
    {Py_tp_repr, array_repr},
    {Py_tp_getset, array_fields},
    {Py_tp_methods, array_methods},
    {Py_tp_richcompare, ac_array_richcompare},
    {Py_tp_hash, ac_array_hash},
    {Py_mp_length, array_length},
    {Py_mp_subscript, ac_array_subscript},
    {Py_mp_ass_subscript, ac_array_ass_subscript},
    {Py_nb_bool, ac_array_bool},
    {Py_nb_int, ac_array_int},
    {Py_nb_float, ac_array_float},
    {Py_bf_getbuffer, ac_array_getbuffer},
    {Py_bf_releasebuffer, ac_array_releasebuffer},
    {0, NULL},
};

PyType_Spec ac_array_spec = {
    .name = "aiter_c.Array",
    .basicsize = sizeof(array_t),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_IMMUTABLETYPE | Py_TPFLAGS_DISALLOW_INSTANTIATION,
    .slots = array_slots,
};
