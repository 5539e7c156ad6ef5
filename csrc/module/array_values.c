/* The protocols through which Python reads the values of an Array: buffer, __array__, numbers, comparison, indexing. */
#include "array_values.h"

#include "argparse.h"
#include "array.h"
#include "numpy_api.h"

/* Raises `type` for an Array on a device, whose values Python cannot see. */
static int check_on_cpu(PyObject *type, const char *what, const ac_view_t *view) {
    char text[48];
    if (view->device.type == AC_DEVICE_CPU) return 0;
    PyErr_Format(type, "%s: expected an array on the cpu, got one on %s; Array.numpy() copies it", what,
                 ac_device_text(view->device, text, sizeof text));
    return -1;
}

/* The struct module's letter, or NULL. Complex numbers in NumPy's spelling. */
static const char *format_of(ac_dtype_t dtype) {
    switch (dtype) {
    case AC_FLOAT16: return "e";
    case AC_FLOAT32: return "f";
    case AC_FLOAT64: return "d";
    case AC_INT8: return "b";
    case AC_INT16: return "h";
    case AC_INT32: return "i";
    case AC_INT64: return "q";
    case AC_UINT8: return "B";
    case AC_UINT16: return "H";
    case AC_UINT32: return "I";
    case AC_UINT64: return "Q";
    case AC_BOOL: return "?";
    case AC_COMPLEX64: return "Zf";
    case AC_COMPLEX128: return "Zd";
    default: return NULL;
    }
}

/* Column-major order is the same as row-major for at most one dimension that counts. */
static bool is_fortran(const ac_view_t *view) {
    int counting = 0;
    for (int i = 0; i < view->ndim; i++) counting += view->shape[i] != 1;
    return counting <= 1 || ac_view_numel(view) == 0;
}

static int check_request(const ac_view_t *view, int flags) {
    if (check_on_cpu(PyExc_BufferError, "Array", view) < 0) return -1;
    if ((flags & PyBUF_FORMAT) && !format_of(view->dtype)) {
        PyErr_Format(PyExc_BufferError, "Array: expected a dtype of the buffer protocol, got %s; Array.numpy() has it",
                     ac_dtype_name(view->dtype));
        return -1;
    }
    if ((flags & PyBUF_F_CONTIGUOUS) == PyBUF_F_CONTIGUOUS && !is_fortran(view)) {
        PyErr_SetString(PyExc_BufferError, "Array: expected a request for row-major order, got one for column-major");
        return -1;
    }
    return 0;
}

/* What a buffer's pointers point to. */
typedef struct {
    Py_ssize_t shape[AC_MAX_NDIM], strides[AC_MAX_NDIM];
} layout_t;

int ac_array_getbuffer(PyObject *self, Py_buffer *buffer, int flags) {
    static char nothing; /* an address for no elements */
    ac_view_t view;
    ac_array_view(self, &view);
    buffer->obj = NULL;
    if (check_request(&view, flags) < 0) return -1;
    layout_t *layout = PyMem_Malloc(sizeof *layout);
    if (!layout) {
        PyErr_NoMemory();
        return -1;
    }
    const Py_ssize_t bytes = ac_dtype_bytes(view.dtype);
    for (int i = 0; i < view.ndim; i++) {
        layout->shape[i] = (Py_ssize_t)view.shape[i];
        layout->strides[i] = (Py_ssize_t)view.stride[i] * bytes;
    }
    *buffer = (Py_buffer){
        .buf = view.data ? view.data : &nothing,
        .obj = Py_NewRef(self),
        .len = (Py_ssize_t)ac_view_numel(&view) * bytes,
        .itemsize = bytes,
        .ndim = view.ndim,
        .format = flags & PyBUF_FORMAT ? (char *)format_of(view.dtype) : NULL,
        .shape = flags & PyBUF_ND ? layout->shape : NULL,
        .strides = (flags & PyBUF_STRIDES) == PyBUF_STRIDES ? layout->strides : NULL,
        .internal = layout,
    };
    return 0;
}

void ac_array_releasebuffer(PyObject *Py_UNUSED(self), Py_buffer *buffer) { PyMem_Free(buffer->internal); }

/* `array` as `dtype`, a new reference; the same array where that is its dtype. */
static PyObject *as_dtype(PyObject *array, PyObject *dtype) {
    if (ac_is_none(dtype)) return Py_NewRef(array);
    return PyObject_CallMethod(array, "astype", "OssOO", dtype, "K", "unsafe", Py_True, Py_False);
}

PyObject *ac_array_dunder_array(PyObject *self, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames) {
    static const char name[] = "Array.__array__";
    PyObject *values[2];
    ac_view_t view;
    int copy = -1; /* as needed */
    const ac_signature_t *signature = ac_function_signature(ac_state_of(self), AC_FN___array__);
    if (ac_bind(signature, args, nargs, kwnames, values) < 0) return NULL;
    if (!ac_is_none(values[1]) && ac_to_bool(name, "copy", values[1], &copy) < 0) return NULL;
    ac_array_view(self, &view);
    if (check_on_cpu(PyExc_TypeError, name, &view) < 0) return NULL;
    PyObject *array = ac_numpy_from_view("Array", &view, self);
    PyObject *result = array ? as_dtype(array, values[0]) : NULL;
    if (result && result != array && copy == 0) {
        PyErr_Format(PyExc_ValueError, "%s: copy: expected None or True for another dtype than %s, got False", name,
                     ac_dtype_name(view.dtype));
        Py_CLEAR(result);
    } else if (result && result == array && copy == 1) {
        Py_DECREF(result);
        result = PyObject_CallMethod(array, "copy", NULL);
    }
    Py_XDECREF(array);
    return result;
}

/* The only element as a Python or NumPy number. */
static PyObject *only_value(PyObject *self, const char *what) {
    ac_view_t view;
    char text[128];
    ac_array_view(self, &view);
    if (ac_view_numel(&view) != 1) {
        PyErr_Format(PyExc_TypeError, "%s: expected an array of one element, got shape %s", what,
                     ac_shape_text(&view, text, sizeof text));
        return NULL;
    }
    if (check_on_cpu(PyExc_TypeError, what, &view) < 0) return NULL;
    PyObject *array = ac_numpy_from_view("Array", &view, self);
    PyObject *value = array ? PyObject_CallMethod(array, "item", NULL) : NULL;
    Py_XDECREF(array);
    return value;
}

int ac_array_bool(PyObject *self) {
    PyObject *value = only_value(self, "Array.__bool__");
    int truth = value ? PyObject_IsTrue(value) : -1;
    Py_XDECREF(value);
    return truth;
}

PyObject *ac_array_int(PyObject *self) {
    PyObject *value = only_value(self, "Array.__int__");
    PyObject *number = value ? PyNumber_Long(value) : NULL;
    Py_XDECREF(value);
    return number;
}

PyObject *ac_array_float(PyObject *self) {
    PyObject *value = only_value(self, "Array.__float__");
    PyObject *number = value ? PyNumber_Float(value) : NULL;
    Py_XDECREF(value);
    return number;
}

PyObject *ac_array_richcompare(PyObject *Py_UNUSED(self), PyObject *other, int operation) {
    if (other == Py_None || (operation != Py_EQ && operation != Py_NE)) return Py_NewRef(Py_NotImplemented);
    PyErr_SetString(PyExc_TypeError, "Array: == and != do not compare values; compare Array.numpy(), or use `is`");
    return NULL;
}

Py_hash_t ac_array_hash(PyObject *self) { return ((hashfunc)PyType_GetSlot(&PyBaseObject_Type, Py_tp_hash))(self); }

static void refuse_index(void) {
    PyErr_SetString(PyExc_TypeError, "Array: expected no index; index Array.numpy() or a framework's from_dlpack()");
}

PyObject *ac_array_subscript(PyObject *Py_UNUSED(self), PyObject *Py_UNUSED(key)) {
    refuse_index();
    return NULL;
}

int ac_array_ass_subscript(PyObject *Py_UNUSED(self), PyObject *Py_UNUSED(key), PyObject *Py_UNUSED(value)) {
    refuse_index();
    return -1;
}
