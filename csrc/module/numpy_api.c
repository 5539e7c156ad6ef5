/* The only file that knows NumPy. Compiled against the headers of NumPy 2, it runs with 1.26 and later: where the two
 * differ (the size of an element in a dtype) NumPy's accessors look at the version that is imported. */
#include "numpy_api.h"

#include <stdio.h> /* NumPy's headers mean FILE, and Python.h brings it under the full API only */

#define NPY_NO_DEPRECATED_API NPY_2_0_API_VERSION
#define NPY_TARGET_VERSION NPY_1_25_API_VERSION /* that of 1.26, too */
#include <numpy/arrayobject.h>

#include "errors.h"
#include "loaded.h"

/* NumPy's numbers of the dtypes that ml_dtypes registered: process-wide, as the numbers are. */
#define USER_TYPES 16
static struct {
    int number;
    ac_dtype_t dtype;
} user_types[USER_TYPES];
static int user_type_count;

/* NumPy's own macro would print the reason instead of keeping it; and its function leaves the table of a NumPy that it
 * refuses in place, for the next call to use. */
static int import_c_api(const char *op) {
    if (PyArray_API || _import_array() == 0) return 0;
    PyArray_API = NULL;
    return ac_raise_from_live(PyExc_ImportError, op, "numpy", "expected NumPy 1.26 or newer");
}

int ac_numpy_is_array_type(PyTypeObject *type, bool *out_is_array) {
    *out_is_array = false;
    if (!PyArray_API) { /* an array's type has NumPy's names, and then NumPy is there */
        PyObject *base = ac_base_named(type, "numpy", "ndarray");
        if (!base) return PyErr_Occurred() ? -1 : 0;
        Py_DECREF(base);
        if (import_c_api("aiter_c") < 0) return -1;
    }
    *out_is_array = PyType_IsSubtype(type, &PyArray_Type);
    return 0;
}

/* By the name of the scalar type ("bfloat16"): the numbers of user dtypes differ from process to process. */
static int user_dtype(const PyArray_Descr *descr, ac_dtype_t *out_dtype) {
    for (int i = 0; i < user_type_count; i++) {
        if (user_types[i].number != descr->type_num) continue;
        *out_dtype = user_types[i].dtype;
        return 0;
    }
    PyObject *name = PyType_GetName(descr->typeobj);
    const char *text = name ? PyUnicode_AsUTF8AndSize(name, NULL) : NULL;
    if (!text) {
        Py_XDECREF(name);
        return -1;
    }
    ac_dtype_t dtype = ac_dtype_from_name(text);
    Py_DECREF(name);
    if (dtype < AC_DTYPE_COUNT && PyDataType_ELSIZE(descr) != ac_dtype_bytes(dtype)) dtype = AC_DTYPE_NONE;
    if (user_type_count < USER_TYPES) {
        user_types[user_type_count].number = descr->type_num;
        user_types[user_type_count++].dtype = dtype;
    }
    *out_dtype = dtype;
    return 0;
}

/* NumPy's own types, of which two may be one of ours (long and long long): 1 + the dtype; 0: none. */
#define SAME(c_type, b32, b64) (sizeof(c_type) == 8 ? b64 : b32) + 1
static const unsigned char own_types[] = {
    [NPY_BOOL] = AC_BOOL + 1,
    [NPY_BYTE] = AC_INT8 + 1,
    [NPY_UBYTE] = AC_UINT8 + 1,
    [NPY_SHORT] = AC_INT16 + 1,
    [NPY_USHORT] = AC_UINT16 + 1,
    [NPY_INT] = AC_INT32 + 1,
    [NPY_UINT] = AC_UINT32 + 1,
    [NPY_LONG] = SAME(long, AC_INT32, AC_INT64),
    [NPY_ULONG] = SAME(long, AC_UINT32, AC_UINT64),
    [NPY_LONGLONG] = AC_INT64 + 1,
    [NPY_ULONGLONG] = AC_UINT64 + 1,
    [NPY_HALF] = AC_FLOAT16 + 1,
    [NPY_FLOAT] = AC_FLOAT32 + 1,
    [NPY_DOUBLE] = AC_FLOAT64 + 1,
    [NPY_CFLOAT] = AC_COMPLEX64 + 1,
    [NPY_CDOUBLE] = AC_COMPLEX128 + 1,
};

static int array_dtype(const PyArray_Descr *descr, ac_dtype_t *out_dtype) {
    const int number = descr->type_num;
    if (PyTypeNum_ISUSERDEF(number)) return user_dtype(descr, out_dtype);
    const bool known = number >= 0 && number < (int)sizeof own_types && own_types[number] != 0;
    *out_dtype = known ? (ac_dtype_t)(own_types[number] - 1) : AC_DTYPE_NONE;
    return 0;
}

int ac_numpy_view(const char *op, const char *name, PyObject *object, ac_view_t *out_view) {
    PyArrayObject *array = (PyArrayObject *)object;
    const PyArray_Descr *descr = PyArray_DESCR(array);
    int ndim = PyArray_NDIM(array);
    ac_dtype_t dtype;
    if (array_dtype(descr, &dtype) < 0) return -1;
    if (dtype == AC_DTYPE_NONE || !PyArray_ISNOTSWAPPED(array)) {
        PyErr_Format(PyExc_TypeError, "%s: %s: expected a native dtype of aiter_c, got NumPy dtype %S", op, name,
                     descr);
        return -1;
    }
    if (ndim > AC_MAX_NDIM) {
        PyErr_Format(PyExc_ValueError, "%s: %s: expected at most %d dimensions, got %d", op, name, AC_MAX_NDIM, ndim);
        return -1;
    }
    const int bytes = ac_dtype_bytes(dtype), shift = __builtin_ctz((unsigned)bytes); /* a power of two */
    const npy_intp *shape = PyArray_DIMS(array), *strides = PyArray_STRIDES(array);
    out_view->data = PyArray_BYTES(array);
    out_view->dtype = dtype;
    out_view->device = (ac_device_t){AC_DEVICE_CPU, 0};
    out_view->ndim = ndim;
    out_view->read_only = !PyArray_ISWRITEABLE(array);
    for (int i = 0; i < ndim; i++) {
        out_view->shape[i] = shape[i];
        out_view->stride[i] = strides[i] >> shift;
        if ((strides[i] & (bytes - 1)) != 0 && shape[i] > 1) {
            PyErr_Format(PyExc_ValueError, "%s: %s: expected strides in multiples of %d bytes, got %zd in dimension %d",
                         op, name, bytes, (Py_ssize_t)strides[i], i);
            return -1;
        }
    }
    return 0;
}

/* A new reference to the scalar type that a package has for a dtype of ours. */
static PyObject *scalar_type(const char *op, const char *package, ac_dtype_t dtype) {
    char text[96];
    PyObject *library = PyImport_ImportModule(package);
    PyObject *type = library ? PyObject_GetAttrString(library, ac_dtype_name(dtype)) : NULL;
    Py_XDECREF(library);
    if (type) return type;
    snprintf(text, sizeof text, "expected to be installed, for %s (pip install %s)", ac_dtype_name(dtype), package);
    ac_raise_from_live(PyExc_ImportError, op, package, text);
    return NULL;
}

/* A new reference to the NumPy dtype of ours. */
static PyArray_Descr *descr_of(const char *op, ac_dtype_t dtype) {
    int code, bits;
    ac_dtype_to_dlpack(dtype, &code, &bits);
    bool numpy_has_it = code <= 2 || code == 5 || code == 6;
    PyObject *type = scalar_type(op, numpy_has_it ? "numpy" : "ml_dtypes", dtype);
    PyArray_Descr *descr = NULL;
    if (type && !PyArray_DescrConverter(type, &descr)) descr = NULL;
    Py_XDECREF(type);
    return descr;
}

PyObject *ac_numpy_from_view(const char *op, const ac_view_t *view, PyObject *base) {
    npy_intp shape[AC_MAX_NDIM], strides[AC_MAX_NDIM];
    if (import_c_api(op) < 0) return NULL;
    PyArray_Descr *descr = descr_of(op, view->dtype);
    if (!descr) return NULL;
    for (int i = 0; i < view->ndim; i++) {
        shape[i] = view->shape[i];
        strides[i] = view->stride[i] * ac_dtype_bytes(view->dtype);
    }
    PyObject *array = PyArray_NewFromDescr(&PyArray_Type, descr, view->ndim, shape, strides, view->data,
                                           view->read_only ? 0 : NPY_ARRAY_WRITEABLE, NULL); /* steals descr */
    if (!array) return NULL;
    if (PyArray_SetBaseObject((PyArrayObject *)array, Py_NewRef(base)) < 0) { /* steals the reference */
        Py_DECREF(array);
        return NULL;
    }
    return array;
}

static int type_number(ac_dtype_t dtype) {
    switch (dtype) {
    case AC_FLOAT32: return NPY_FLOAT32;
    case AC_FLOAT16: return NPY_FLOAT16;
    case AC_INT32: return NPY_INT32;
    case AC_INT64: return NPY_INT64;
    case AC_UINT8: return NPY_UINT8;
    default: return NPY_NOTYPE;
    }
}

bool ac_numpy_can_make(ac_dtype_t dtype) { return PyArray_API && type_number(dtype) != NPY_NOTYPE; }

PyObject *ac_numpy_empty(const int64_t *shape, int ndim, ac_dtype_t dtype, char **out_data) {
    npy_intp sizes[AC_MAX_NDIM];
    for (int i = 0; i < ndim; i++) sizes[i] = (npy_intp)shape[i];
    PyObject *array = PyArray_EMPTY(ndim, sizes, type_number(dtype), 0);
    if (array) *out_data = PyArray_BYTES((PyArrayObject *)array);
    return array;
}
