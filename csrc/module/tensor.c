/* Python objects as views: the paths by which a tensor comes in, and what all of them must give. */
#include "tensor.h"

#include <string.h>

#include "argparse.h"
#include "array.h"
#include "errors.h"
#include "exchange.h"
#include "numpy_api.h"
#include "torch_tensor.h"

#define FLOAT8 (AC_FP8 | AC_SET(AC_FLOAT8_E5M2) | AC_SET(AC_FLOAT8_E5M2FNUZ) | AC_SET(AC_FLOAT8_E8M0FNU))

static const char refused[] = "the producer refused DLPack export";

/* Refuses a size below 0, and an extent or a number of elements whose bytes do not fit 63 bits. The extent is that of
 * the elements if there are any: [*out_low, *out_high) from the first element's address. */
static inline int measure(const char *op, const char *name, const ac_view_t *view, int64_t bytes, int64_t *out_low,
                          int64_t *out_high, bool *out_empty) {
    int64_t all = bytes, low = 0, high = bytes, length;
    bool overflow = false, empty = false;
    for (int i = 0; i < view->ndim; i++) {
        const int64_t size = view->shape[i];
        int64_t reach;
        if (size < 0) {
            PyErr_Format(PyExc_ValueError, "%s: %s: expected sizes >= 0, got %lld in dimension %d", op, name,
                         (long long)size, i);
            return -1;
        }
        empty |= size == 0;
        if (size <= 1) continue;
        overflow |= __builtin_mul_overflow(all, size, &all);
        overflow |= __builtin_mul_overflow(size - 1, view->stride[i], &reach);
        overflow |= __builtin_mul_overflow(reach, bytes, &reach);
        overflow |= reach < 0 ? __builtin_add_overflow(low, reach, &low) : __builtin_add_overflow(high, reach, &high);
    }
    *out_low = low;
    *out_high = high;
    *out_empty = empty;
    if (!overflow && !__builtin_sub_overflow(high, low, &length)) return 0;
    char shape[128];
    PyErr_Format(PyExc_ValueError, "%s: %s: expected a tensor within 2**63 bytes, got shape %s", op, name,
                 ac_shape_text(view, shape, sizeof shape));
    return -1;
}

/* No element, no layout: NumPy's strides are 0 then. A compact one, so that no check stumbles over it. */
static void set_compact(ac_view_t *view) {
    int64_t stride = 1;
    for (int i = view->ndim - 1; i >= 0; i--) {
        view->stride[i] = stride;
        stride *= view->shape[i] ? view->shape[i] : 1;
    }
}

/* What every path must give, so that no later arithmetic on sizes and addresses can overflow: sizes >= 0, an extent
 * that fits the address space, memory where there are elements, elements at multiples of their size. */
static inline int check_geometry(const char *op, const char *name, ac_view_t *view) {
    const int64_t bytes = ac_dtype_bytes(view->dtype); /* a power of two */
    const uintptr_t address = (uintptr_t)view->data;
    int64_t low, high;
    bool empty;
    if (measure(op, name, view, bytes, &low, &high, &empty) < 0) return -1;
    if (empty) {
        view->low = view->high = address;
        set_compact(view);
        return 0;
    }
    view->low = address + (uintptr_t)low;
    view->high = address + (uintptr_t)high;
    if (address != 0 && (address & (uintptr_t)(bytes - 1)) == 0) return 0;
    if (address == 0)
        PyErr_Format(PyExc_ValueError, "%s: %s: expected a tensor with memory, got a null pointer", op, name);
    else
        PyErr_Format(PyExc_ValueError, "%s: %s: expected data aligned to %d bytes (%s), got address %p", op, name,
                     (int)bytes, ac_dtype_name(view->dtype), (void *)view->data);
    return -1;
}

/* Pinned memory is plain memory to the ops: it mixes with the rest of the host's. */
static bool is_host(int type) {
    return type == AC_DEVICE_CPU || type == AC_DEVICE_CUDA_HOST || type == AC_DEVICE_HIP_HOST;
}

/* Copies: a DLTensor may live in the producer's own object, which need not survive the next call into it. */
static inline int view_from_dlpack(const char *op, const char *name, const DLTensor *tensor, ac_view_t *out_view) {
    const DLDataType type = tensor->dtype;
    int ndim = tensor->ndim;
    if (ndim < 0 || ndim > AC_MAX_NDIM) {
        PyErr_Format(PyExc_ValueError, "%s: %s: expected at most %d dimensions, got %d", op, name, AC_MAX_NDIM, ndim);
        return -1;
    }
    if (ndim > 0 && !tensor->shape) {
        PyErr_Format(PyExc_BufferError, "%s: %s: expected the sizes of %d dimensions, got none", op, name, ndim);
        return -1;
    }
    out_view->dtype = ac_dtype_from_dlpack(type.code, type.bits, type.lanes);
    if (out_view->dtype == AC_DTYPE_NONE) {
        PyErr_Format(PyExc_TypeError,
                     "%s: %s: expected a dtype of aiter_c, got DLPack type (code %d, bits %d, lanes %d)", op, name,
                     type.code, type.bits, type.lanes);
        return -1;
    }
    out_view->data = tensor->data ? (char *)tensor->data + tensor->byte_offset : NULL;
    out_view->device = (ac_device_t){tensor->device.device_type, tensor->device.device_id};
    if (is_host(tensor->device.device_type)) out_view->device = (ac_device_t){AC_DEVICE_CPU, 0};
    out_view->ndim = ndim;
    out_view->read_only = false;
    for (int i = 0; i < ndim; i++) out_view->shape[i] = tensor->shape[i];
    if (!tensor->strides) {
        int64_t compact = 1;
        for (int i = ndim - 1; i >= 0; i--) {
            out_view->stride[i] = compact;
            if (__builtin_mul_overflow(compact, tensor->shape[i], &compact)) compact = 0; /* is refused */
        }
        return 0;
    }
    for (int i = 0; i < ndim; i++) out_view->stride[i] = tensor->strides[i];
    return 0;
}

/* Takes over `managed`: it is released here when it cannot be used. */
static int import_versioned(const char *op, const char *name, DLManagedTensorVersioned *managed,
                            ac_tensor_t *out_tensor) {
    out_tensor->versioned = managed;
    if (managed->version.major != DLPACK_MAJOR_VERSION) {
        PyErr_Format(PyExc_BufferError, "%s: %s: expected DLPack version %d, got %u.%u", op, name, DLPACK_MAJOR_VERSION,
                     managed->version.major, managed->version.minor);
        return -1;
    }
    if (view_from_dlpack(op, name, &managed->dl_tensor, &out_tensor->view) < 0) return -1;
    out_tensor->view.read_only = managed->flags & DLPACK_FLAG_BITMASK_READ_ONLY;
    return 0;
}

/* Inputs take the borrowed form, which allocates nothing; outputs of a caller the managed one, which tells read-only.
 * *out_next is AC_PATH_NONE, or the path to take when the type's first tensor showed that its exporter cannot be
 * trusted: then the view is not filled. */
static int import_exchange(ac_state_t *state, const char *op, const char *name, PyObject *object, unsigned flags,
                           const ac_type_entry_t *entry, ac_tensor_t *out_tensor, ac_path_t *out_next) {
    const DLPackExchangeAPI *api = entry->api;
    ac_expected_shape_t expected;
    DLManagedTensorVersioned *managed = NULL;
    DLTensor borrowed = {0};
    const DLTensor *tensor = &borrowed;
    bool first = !entry->checked;
    *out_next = AC_PATH_NONE;
    out_tensor->api = api;
    if (first && ac_expected_shape(state, op, name, object, &expected) < 0) return -1;
    /* Only the managed form tells whether a tensor is read-only. What is fresh is not, and no tensor of torch is. */
    const bool borrows = !(flags & AC_TENSOR_OUTPUT) || (flags & AC_TENSOR_FRESH) || entry->torch == AC_TORCH_PLAIN;
    if (api->dltensor_from_py_object_no_sync && borrows) {
        if (api->dltensor_from_py_object_no_sync(object, &borrowed) != 0)
            return ac_raise_from_live(PyExc_BufferError, op, name, refused);
    } else {
        if (api->managed_tensor_from_py_object_no_sync(object, &managed) != 0)
            return ac_raise_from_live(PyExc_BufferError, op, name, refused);
        if (!managed) {
            PyErr_Format(PyExc_BufferError, "%s: %s: %s: no tensor, and no error", op, name, refused);
            return -1;
        }
        out_tensor->versioned = managed;
        tensor = &managed->dl_tensor;
        first &= managed->version.major == DLPACK_MAJOR_VERSION; /* else it is refused below, with no field read */
    }
    if (first && !ac_shape_is_expected(&expected, tensor)) {
        if (ac_exchange_distrust(state, Py_TYPE(object), out_next) < 0) return -1;
        if (*out_next != AC_PATH_NONE) return 0;
        PyErr_Format(PyExc_BufferError, "%s: %s: the exchange API contradicts .shape, and there is no __dlpack__", op,
                     name);
        return -1;
    }
    if (first) ac_exchange_trust(state, Py_TYPE(object));
    if (managed) return import_versioned(op, name, managed, out_tensor);
    return view_from_dlpack(op, name, &borrowed, &out_tensor->view);
}

/* __dlpack__(max_version=(1, 3)[, stream=-1]). -1, no synchronisation: the op runs on the stream on which the caller
 * says the tensor is ready, and an event recorded elsewhere would break graph capture. Host memory has no stream. */
static PyObject *call_dlpack(const ac_state_t *state, PyObject *object) {
    PyObject *method = NULL, *where = NULL, *keywords = NULL, *empty = NULL, *capsule = NULL, *minus_one = NULL;
    int type = AC_DEVICE_CPU, index = 0;
    method = PyObject_GetAttr(object, state->str_dlpack);
    where = method ? PyObject_CallMethodObjArgs(object, state->str_dlpack_device, NULL) : NULL;
    if (!where) goto done;
    empty = PyTuple_New(0);
    keywords = PyDict_New();
    if (!empty || !keywords || !PyTuple_Check(where)) {
        if (empty && keywords) PyErr_SetString(PyExc_TypeError, "__dlpack_device__() returned no tuple");
        goto done;
    }
    if (!PyArg_ParseTuple(where, "ii", &type, &index)) goto done;
    if (PyDict_SetItem(keywords, state->str_max_version, state->max_version) < 0) goto done;
    if (!is_host(type)) {
        minus_one = PyLong_FromLong(-1);
        if (!minus_one || PyDict_SetItem(keywords, state->str_stream, minus_one) < 0) goto done;
    }
    capsule = PyObject_Call(method, empty, keywords);
    /* An exporter older than DLPack 1.0 does not know max_version. Only its TypeError means that. */
    if (!capsule && PyErr_ExceptionMatches(PyExc_TypeError)) {
        PyErr_Clear();
        PyDict_DelItem(keywords, state->str_max_version);
        capsule = PyObject_Call(method, empty, minus_one ? keywords : NULL);
    }
done:
    Py_XDECREF(method);
    Py_XDECREF(where);
    Py_XDECREF(keywords);
    Py_XDECREF(empty);
    Py_XDECREF(minus_one);
    return capsule;
}

static PyObject *capsule_of(const ac_state_t *state, PyObject *object, ac_torch_kind_t torch) {
    PyObject *capsule = torch == AC_TORCH_PLAIN ? ac_torch_capsule(object) : NULL;
    return capsule || PyErr_Occurred() ? capsule : call_dlpack(state, object);
}

/* A legacy capsule cannot say that its memory is read-only. Frameworks whose tensors are always writable are trusted
 * with an output, others (JAX's arrays are immutable) are not. 1, 0, or -1 with an exception. */
static int is_always_writable(PyTypeObject *type, ac_torch_kind_t torch) {
    if (torch == AC_TORCH_PLAIN) return 1;
    PyObject *module = PyObject_GetAttrString((PyObject *)type, "__module__");
    const char *text = module && PyUnicode_Check(module) ? PyUnicode_AsUTF8AndSize(module, NULL) : "";
    int result = !text || !module ? -1 : strncmp(text, "torch", 5) == 0 || strncmp(text, "cupy", 4) == 0;
    Py_XDECREF(module);
    return result;
}

static int import_legacy(const char *op, const char *name, PyTypeObject *type, ac_torch_kind_t torch, unsigned flags,
                         ac_tensor_t *out_tensor) {
    int writable = flags & AC_TENSOR_OUTPUT ? is_always_writable(type, torch) : 1;
    if (writable < 0) return -1;
    if (view_from_dlpack(op, name, &out_tensor->legacy->dl_tensor, &out_tensor->view) < 0) return -1;
    if (writable) return 0;
    PyErr_Format(PyExc_BufferError,
                 "%s: %s: expected an output whose exporter says that it is writable (DLPack 1.0 or later), got a "
                 "legacy DLPack capsule",
                 op, name);
    return -1;
}

/* The managed tensor is ours from the renaming on: the capsule's destructor then leaves it alone. */
static int import_dlpack(const ac_state_t *state, const char *op, const char *name, PyObject *object, unsigned flags,
                         ac_torch_kind_t torch, ac_tensor_t *out_tensor) {
    int result = -1;
    PyObject *capsule = capsule_of(state, object, torch);
    if (!capsule) return ac_raise_from_live(PyExc_BufferError, op, name, refused);
    if (PyCapsule_IsValid(capsule, "dltensor_versioned")) {
        DLManagedTensorVersioned *managed = PyCapsule_GetPointer(capsule, "dltensor_versioned");
        if (PyCapsule_SetName(capsule, "used_dltensor_versioned") < 0) goto done;
        result = import_versioned(op, name, managed, out_tensor);
    } else if (PyCapsule_IsValid(capsule, "dltensor")) {
        out_tensor->legacy = PyCapsule_GetPointer(capsule, "dltensor");
        if (PyCapsule_SetName(capsule, "used_dltensor") < 0) {
            out_tensor->legacy = NULL;
            goto done;
        }
        result = import_legacy(op, name, Py_TYPE(object), torch, flags, out_tensor);
    } else {
        PyErr_Format(PyExc_BufferError, "%s: %s: expected a fresh DLPack capsule from __dlpack__, got %R", op, name,
                     capsule);
    }
done:
    Py_DECREF(capsule);
    return result;
}

static int import_by_path(ac_state_t *state, const char *op, const char *name, PyObject *object, unsigned flags,
                          const ac_type_entry_t *entry, ac_tensor_t *out_tensor) {
    ac_path_t path = entry->path;
    if (path == AC_PATH_EXCHANGE) {
        int result = import_exchange(state, op, name, object, flags, entry, out_tensor, &path);
        if (result < 0 || path == AC_PATH_NONE) return result;
        ac_tensor_release(out_tensor, 1);
        out_tensor->api = NULL;
    }
    switch (path) {
    case AC_PATH_OWN: ac_array_view(object, &out_tensor->view); return 0;
    case AC_PATH_NUMPY: return ac_numpy_view(op, name, object, &out_tensor->view);
    case AC_PATH_DLPACK: return import_dlpack(state, op, name, object, flags, entry->torch, out_tensor);
    default: return ac_expected(op, name, "a tensor (DLPack or NumPy)", object);
    }
}

static inline void clear_owners(ac_tensor_t *tensor) {
    tensor->api = NULL;
    tensor->versioned = NULL;
    tensor->legacy = NULL;
    tensor->torch_output = NULL;
}

int ac_tensor_borrow(const char *op, const char *name, const DLTensor *borrowed, ac_tensor_t *out_tensor) {
    clear_owners(out_tensor);
    if (view_from_dlpack(op, name, borrowed, &out_tensor->view) < 0) return -1;
    return check_geometry(op, name, &out_tensor->view);
}

void ac_tensor_fill(char *data, ac_dtype_t dtype, ac_device_t device, int ndim, const int64_t *shape,
                    ac_tensor_t *out_tensor) {
    ac_view_t *view = &out_tensor->view;
    clear_owners(out_tensor);
    view->data = data;
    view->dtype = dtype;
    view->device = device;
    view->ndim = ndim;
    view->read_only = false;
    for (int i = 0; i < ndim; i++) view->shape[i] = shape[i];
    set_compact(view);
    view->low = view->high = (uintptr_t)data;
    view->high += (uintptr_t)(ac_view_numel(view) * ac_dtype_bytes(dtype));
}

int ac_tensor_import(ac_state_t *state, const char *op, const char *name, PyObject *object, unsigned flags,
                     ac_tensor_t *out_tensor) {
    ac_type_entry_t entry;
    const bool output = flags & AC_TENSOR_OUTPUT;
    clear_owners(out_tensor);
    if (ac_type_lookup(state, op, name, Py_TYPE(object), &entry) < 0) return -1;
    if (entry.torch == AC_TORCH_DISPATCH) return ac_torch_refuse_type(op, name, object);
    if (import_by_path(state, op, name, object, flags, &entry, out_tensor) < 0) goto fail;
    if (check_geometry(op, name, &out_tensor->view) < 0) goto fail;
    if (output && out_tensor->view.read_only) {
        PyErr_Format(PyExc_BufferError, "%s: %s: expected a writable tensor, got a read-only one", op, name);
        goto fail;
    }
    if (entry.torch == AC_TORCH_NONE || (flags & AC_TENSOR_FRESH)) return 0;
    const bool asks = output || ac_dtype_in(out_tensor->view.dtype, AC_TORCH_MAY_BE_NEGATIVE);
    if (asks && ac_torch_check(state, op, name, object, out_tensor->view.dtype, output) < 0) goto fail;
    if (output) out_tensor->torch_output = object;
    return 0;
fail:
    ac_tensor_release(out_tensor, 1);
    if (entry.torch != AC_TORCH_NONE) ac_torch_explain(op, name, object);
    return -1;
}

int ac_tensors_written(ac_state_t *state, const ac_tensor_t *tensors, int count) {
    PyObject *type, *value, *traceback;
    Py_ssize_t written = 0;
    for (int i = 0; i < count; i++) written += tensors[i].torch_output != NULL;
    if (written == 0) return 0;
    const bool live = PyErr_Occurred() != NULL;
    if (live) PyErr_Fetch(&type, &value, &traceback);
    PyObject *outputs = PyTuple_New(written);
    for (int i = count - 1; outputs && i >= 0; i--)
        if (tensors[i].torch_output) PyTuple_SetItem(outputs, --written, Py_NewRef(tensors[i].torch_output));
    int result = outputs ? ac_torch_written(state, outputs) : -1;
    Py_XDECREF(outputs);
    if (live) PyErr_Restore(type, value, traceback);
    return result;
}

void ac_tensor_release(ac_tensor_t *tensors, int count) {
    PyObject *type, *value, *traceback;
    bool owners = false;
    for (int i = 0; i < count; i++) owners |= tensors[i].versioned || tensors[i].legacy;
    if (!owners) return;
    PyErr_Fetch(&type, &value, &traceback); /* a deleter may run Python */
    for (int i = 0; i < count; i++) {
        DLManagedTensorVersioned *versioned = tensors[i].versioned;
        DLManagedTensor *legacy = tensors[i].legacy;
        tensors[i].versioned = NULL;
        tensors[i].legacy = NULL;
        if (versioned && versioned->deleter) versioned->deleter(versioned);
        if (legacy && legacy->deleter) legacy->deleter(legacy);
    }
    PyErr_Restore(type, value, traceback);
}

int ac_tensor_retype(const char *op, const char *name, const char *keyword, ac_dtype_t dtype, ac_view_t *view) {
    if (dtype == view->dtype) return 0;
    if (view->dtype != AC_UINT8 || !ac_dtype_in(dtype, FLOAT8)) {
        PyErr_Format(PyExc_TypeError, "%s: %s: expected uint8 data to read as %s=%s, got %s", op, name, keyword,
                     ac_dtype_name(dtype), ac_dtype_name(view->dtype));
        return -1;
    }
    view->dtype = dtype;
    return 0;
}
