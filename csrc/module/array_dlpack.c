/* __dlpack__ of an Array: its arguments, its capsules and their ends. */
#include "array_dlpack.h"

#include "argparse.h"

static const char op[] = "Array.__dlpack__";

#define ARG(name, value) EXPORT_##name,
enum { AC_ARGS___dlpack__(ARG, ) EXPORT_COUNT };
#undef ARG

/* The consumer's stream: -1 asks for no waiting; None is the default stream. Which numbers stand for default streams
 * depends on the device: 1 and 2 with CUDA, where 0 could be either; 0 with HIP. An Array does not know on which
 * streams it was written, so every stream but -1 means waiting for all of them. */
static int parse_stream(PyObject *stream, const ac_view_t *view, bool *out_wait) {
    int64_t value = 0;
    bool cuda = view->device.type == AC_DEVICE_CUDA;
    if (view->device.type == AC_DEVICE_CPU) {
        if (ac_is_none(stream)) return 0;
        PyErr_Format(PyExc_ValueError, "%s: stream: expected None for an array on the cpu, got %R", op, stream);
        return -1;
    }
    *out_wait = true;
    if (ac_is_none(stream)) return 0;
    if (ac_to_int64(op, "stream", stream, &value) < 0) return -1;
    *out_wait = value != -1;
    if (value >= -1 && (cuda ? value != 0 : value != 1 && value != 2)) return 0;
    PyErr_Format(PyExc_ValueError, "%s: stream: expected None, -1, %s or a stream's handle, got %lld", op,
                 cuda ? "1, 2" : "0", (long long)value);
    return -1;
}

int ac_export_parse(const ac_state_t *state, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames,
                    const ac_view_t *view, ac_export_t *out_request) {
    PyObject *values[EXPORT_COUNT];
    int major, minor, type, index, copy = 0;
    if (ac_bind(ac_function_signature(state, AC_FN___dlpack__), args, nargs, kwnames, values) < 0) return -1;
    PyObject *stream = values[EXPORT_stream], *version = values[EXPORT_max_version];
    PyObject *device = values[EXPORT_dl_device], *copies = values[EXPORT_copy];
    *out_request = (ac_export_t){false, false, false};
    if (parse_stream(stream, view, &out_request->wait) < 0) return -1;
    if (!ac_is_none(version)) {
        if (!PyTuple_Check(version)) return ac_expected(op, "max_version", "a tuple (major, minor)", version);
        if (!PyArg_ParseTuple(version, "ii;Array.__dlpack__: max_version: expected (major, minor)", &major, &minor))
            return -1;
        out_request->versioned = major >= 1;
    }
    if (!ac_is_none(device)) {
        if (!PyTuple_Check(device)) return ac_expected(op, "dl_device", "a tuple (device type, id)", device);
        if (!PyArg_ParseTuple(device, "ii;Array.__dlpack__: dl_device: expected (device type, id)", &type, &index))
            return -1;
        if (type != view->device.type || index != view->device.index) {
            PyErr_Format(PyExc_BufferError, "%s: dl_device: expected (%d, %d), where the array is, got (%d, %d)", op,
                         view->device.type, view->device.index, type, index);
            return -1;
        }
    }
    if (!ac_is_none(copies) && ac_to_bool(op, "copy", copies, &copy) < 0) return -1;
    out_request->copy = copy;
    return 0;
}

/* Deleters may come from any thread, and after the interpreter ended: then the memory goes with the process. */
static void drop(void *managed, PyObject *array) {
    if (!Py_IsInitialized()) return;
    PyGILState_STATE gil = PyGILState_Ensure();
    Py_DECREF(array);
    PyMem_Free(managed);
    PyGILState_Release(gil);
}

static void delete_versioned(DLManagedTensorVersioned *managed) { drop(managed, managed->manager_ctx); }
static void delete_legacy(DLManagedTensor *managed) { drop(managed, managed->manager_ctx); }

/* A capsule that nobody took; a consumer renames it. */
static void destroy_versioned(PyObject *capsule) {
    if (!PyCapsule_IsValid(capsule, "dltensor_versioned")) return;
    delete_versioned(PyCapsule_GetPointer(capsule, "dltensor_versioned"));
}

static void destroy_legacy(PyObject *capsule) {
    if (!PyCapsule_IsValid(capsule, "dltensor")) return;
    delete_legacy(PyCapsule_GetPointer(capsule, "dltensor"));
}

static DLTensor dltensor_of(const ac_view_t *view) {
    int code, bits;
    ac_dtype_to_dlpack(view->dtype, &code, &bits);
    return (DLTensor){
        .data = view->data,
        .device = {view->device.type, view->device.index},
        .ndim = view->ndim,
        .dtype = {(uint8_t)code, (uint8_t)bits, 1},
        .shape = (int64_t *)view->shape, /* in the Array, which manager_ctx keeps */
        .strides = (int64_t *)view->stride,
    };
}

PyObject *ac_export(PyObject *array, const ac_view_t *view, const ac_export_t *request) {
    PyObject *capsule;
    if (request->versioned) {
        DLManagedTensorVersioned *managed = PyMem_Malloc(sizeof *managed);
        if (!managed) return PyErr_NoMemory();
        *managed = (DLManagedTensorVersioned){
            .version = {DLPACK_MAJOR_VERSION, DLPACK_MINOR_VERSION},
            .manager_ctx = array,
            .deleter = delete_versioned,
            .flags = request->copy ? DLPACK_FLAG_BITMASK_IS_COPIED : 0,
            .dl_tensor = dltensor_of(view),
        };
        capsule = PyCapsule_New(managed, "dltensor_versioned", destroy_versioned);
        if (!capsule) PyMem_Free(managed);
    } else {
        DLManagedTensor *managed = PyMem_Malloc(sizeof *managed);
        if (!managed) return PyErr_NoMemory();
        *managed = (DLManagedTensor){.dl_tensor = dltensor_of(view), .manager_ctx = array, .deleter = delete_legacy};
        capsule = PyCapsule_New(managed, "dltensor", destroy_legacy);
        if (!capsule) PyMem_Free(managed);
    }
    if (capsule) Py_INCREF(array); /* owned by the managed tensor */
    return capsule;
}
