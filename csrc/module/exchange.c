/* Which way the tensors of a type come in: the cache of types, and the exchange API's table of a type. */
#include "exchange.h"

#include "errors.h"
#include "loaded.h"
#include "numpy_api.h"
#include "torch_tensor.h"

const char *ac_path_name(ac_path_t path) {
    static const char *const names[] = {"none", "own", "exchange", "numpy", "__dlpack__"};
    return names[path];
}

/* The table of the type that has our major version and the functions that we call, or NULL. The older attribute
 * __c_dlpack_exchange_api__ is an int that nothing can validate: such types take __dlpack__. */
static int find_api(PyTypeObject *type, const DLPackExchangeAPI **out_api) {
    PyObject *capsule = ac_attribute((PyObject *)type, "__dlpack_c_exchange_api__");
    *out_api = NULL;
    if (!capsule) return PyErr_Occurred() ? -1 : 0;
    if (PyCapsule_IsValid(capsule, "dlpack_exchange_api")) {
        const DLPackExchangeAPIHeader *header = PyCapsule_GetPointer(capsule, "dlpack_exchange_api");
        while (header && header->version.major != DLPACK_MAJOR_VERSION) header = header->prev_api;
        const DLPackExchangeAPI *api = (const DLPackExchangeAPI *)header;
        if (api && api->managed_tensor_from_py_object_no_sync && api->current_work_stream) *out_api = api;
    }
    Py_DECREF(capsule);
    return 0;
}

/* The fallback without the exchange API. */
static int find_slow_path(PyTypeObject *type, ac_path_t *out_path) {
    bool is_array = false;
    if (ac_numpy_is_array_type(type, &is_array) < 0) return -1;
    if (is_array) {
        *out_path = AC_PATH_NUMPY;
        return 0;
    }
    PyObject *method = ac_attribute((PyObject *)type, "__dlpack__");
    if (!method && PyErr_Occurred()) return -1;
    *out_path = method ? AC_PATH_DLPACK : AC_PATH_NONE;
    Py_XDECREF(method);
    return 0;
}

static int find_path(const ac_state_t *state, PyTypeObject *type, ac_type_entry_t *out_entry) {
    *out_entry = (ac_type_entry_t){.type = type};
    if (type == state->array_type) {
        out_entry->path = AC_PATH_OWN;
        return 0;
    }
    if (state->use_exchange && find_api(type, &out_entry->api) < 0) return -1;
    if (out_entry->api) {
        out_entry->path = AC_PATH_EXCHANGE;
        return 0;
    }
    return find_slow_path(type, &out_entry->path);
}

static int find_entry(const ac_state_t *state, PyTypeObject *type, ac_type_entry_t *out_entry) {
    if (find_path(state, type, out_entry) < 0) return -1;
    bool is_torch_possible = out_entry->path == AC_PATH_EXCHANGE || out_entry->path == AC_PATH_DLPACK;
    return is_torch_possible ? ac_torch_kind(type, &out_entry->torch) : 0;
}

static ac_type_entry_t *cached(ac_state_t *state, const PyTypeObject *type) {
    for (int i = 0; i < state->type_count; i++)
        if (state->types[i].type == type) return &state->types[i];
    return NULL;
}

/* Leaves the exception of a type that fails when it is looked at. */
static int look_up(ac_state_t *state, PyTypeObject *type, ac_type_entry_t *out_entry) {
    if (find_entry(state, type, out_entry) < 0) return -1;
    /* Not cached: such a call fails anyway, and the type may yet learn (NumPy not imported so far). */
    if (out_entry->path == AC_PATH_NONE) return 0;
    int at = state->type_count;
    if (at < AC_TYPE_CACHE) {
        state->type_count++;
    } else {
        at = state->next_victim;
        state->next_victim = (at + 1) % AC_TYPE_CACHE;
    }
    PyTypeObject *victim = state->types[at].type;
    Py_INCREF((PyObject *)type);
    state->types[at] = *out_entry;
    Py_XDECREF((PyObject *)victim);
    return 0;
}

int ac_type_find(ac_state_t *state, const char *op, const char *name, PyTypeObject *type, ac_type_entry_t *out_entry) {
    if (look_up(state, type, out_entry) == 0) return 0;
    if (PyErr_ExceptionMatches(PyExc_ImportError)) return -1; /* NumPy's, of a version that does not serve */
    return ac_raise_from_live(PyExc_TypeError, op, name, "expected a tensor (DLPack or NumPy)");
}

/* Leaves the exception of a shape that cannot be read. */
static int read_shape(const ac_state_t *state, PyObject *object, ac_expected_shape_t *out_expected) {
    PyObject *shape = PyObject_GetAttr(object, state->str_shape);
    int result = -1;
    out_expected->known = shape != NULL;
    if (!shape) {
        if (!PyErr_ExceptionMatches(PyExc_AttributeError)) return -1;
        PyErr_Clear();
        return 0;
    }
    if (!PySequence_Check(shape)) { /* not what we mean by a shape */
        out_expected->known = false;
        result = 0;
        goto done;
    }
    out_expected->ndim = PySequence_Size(shape);
    if (out_expected->ndim < 0) goto done;
    for (Py_ssize_t i = 0; i < out_expected->ndim && i < AC_MAX_NDIM; i++) {
        PyObject *size = PySequence_GetItem(shape, i);
        out_expected->sizes[i] = size ? PyLong_AsLongLong(size) : -1;
        Py_XDECREF(size);
        if (out_expected->sizes[i] == -1 && PyErr_Occurred()) goto done;
    }
    result = 0;
done:
    Py_DECREF(shape);
    return result;
}

int ac_expected_shape(const ac_state_t *state, const char *op, const char *name, PyObject *object,
                      ac_expected_shape_t *out_expected) {
    if (read_shape(state, object, out_expected) == 0) return 0;
    return ac_raise_from_live(PyExc_BufferError, op, name, "expected a tensor with a shape");
}

bool ac_shape_is_expected(const ac_expected_shape_t *expected, const DLTensor *tensor) {
    if (!expected->known) return true;
    if (tensor->ndim != expected->ndim) return false; /* then the sizes are not to be read */
    if (!tensor->shape) return true;                  /* no sizes: the import says so */
    for (Py_ssize_t i = 0; i < expected->ndim && i < AC_MAX_NDIM; i++)
        if (tensor->shape[i] != expected->sizes[i]) return false;
    return true;
}

void ac_exchange_trust(ac_state_t *state, const PyTypeObject *type) {
    ac_type_entry_t *entry = cached(state, type);
    if (entry) entry->checked = true;
}

int ac_exchange_distrust(ac_state_t *state, PyTypeObject *type, ac_path_t *out_path) {
    if (find_slow_path(type, out_path) < 0) return -1;
    ac_type_entry_t *entry = cached(state, type);
    if (!entry) return 0;
    entry->path = *out_path;
    entry->api = NULL;
    return 0;
}

int ac_exchange_traverse(ac_state_t *state, visitproc visit, void *arg) {
    for (int i = 0; i < state->type_count; i++) Py_VISIT(state->types[i].type);
    return 0;
}

void ac_exchange_clear(ac_state_t *state) {
    int count = state->type_count;
    state->type_count = 0;
    for (int i = 0; i < count; i++) Py_CLEAR(state->types[i].type);
}
