/* torch's tensors: which of them are plain memory, and the news that one was written to. */
#include "torch_tensor.h"

#include <string.h>

#include "errors.h"
#include "loaded.h"

int ac_torch_kind(PyTypeObject *type, ac_torch_kind_t *out_kind) {
    PyObject *tensor = ac_base_named(type, "torch", "Tensor");
    *out_kind = tensor ? AC_TORCH_PLAIN : AC_TORCH_NONE;
    if (tensor) {
        PyObject *plain = ac_attribute(tensor, "__torch_dispatch__");
        PyObject *own = plain ? ac_attribute((PyObject *)type, "__torch_dispatch__") : NULL;
        if (own && own != plain) *out_kind = AC_TORCH_DISPATCH;
        Py_XDECREF(plain);
        Py_XDECREF(own);
        Py_DECREF(tensor);
    }
    return PyErr_Occurred() ? -1 : 0;
}

int ac_torch_refuse_type(const char *op, const char *name, PyObject *tensor) {
    PyObject *type_name = PyType_GetName(Py_TYPE(tensor));
    if (!type_name) return -1;
    PyErr_Format(PyExc_BufferError,
                 "%s: %s: expected a torch.Tensor with memory of its own, got %U (it overrides __torch_dispatch__)", op,
                 name, type_name);
    Py_DECREF(type_name);
    return -1;
}

/* The truth of an attribute, or of what a method returns; false where it is missing. -1: an exception is set. */
static int truth(PyObject *value) {
    if (!value) {
        if (!PyErr_ExceptionMatches(PyExc_AttributeError)) return -1;
        PyErr_Clear();
        return 0;
    }
    int result = value == Py_False ? 0 : value == Py_True ? 1 : PyObject_IsTrue(value);
    Py_DECREF(value);
    return result;
}

/* 0 where it is false, else -1 with `text` as a BufferError. */
static int refuse(PyObject *value, const char *op, const char *name, const char *text) {
    int is = truth(value);
    if (is == 0) return 0;
    if (is < 0) return ac_raise_from_live(PyExc_BufferError, op, name, "expected a torch.Tensor that tells its state");
    PyErr_Format(PyExc_BufferError, "%s: %s: %s", op, name, text);
    return -1;
}

int ac_torch_check(const ac_state_t *state, const char *op, const char *name, PyObject *tensor, ac_dtype_t dtype,
                   bool is_output) {
    if (ac_dtype_in(dtype, AC_TORCH_MAY_BE_NEGATIVE) &&
        refuse(PyObject_CallMethodObjArgs(tensor, state->str_is_neg, NULL), op, name,
               "expected memory that holds the values, got a tensor with the negative bit (see resolve_neg)") < 0)
        return -1;
    if (ac_dtype_in(dtype, AC_TORCH_MAY_BE_CONJUGATE) &&
        refuse(PyObject_CallMethodObjArgs(tensor, state->str_is_conj, NULL), op, name,
               "expected memory that holds the values, got a tensor with the conjugate bit (see resolve_conj)") < 0)
        return -1;
    if (!is_output) return 0;
    return refuse(PyObject_GetAttr(tensor, state->str_requires_grad), op, name,
                  "expected an output that does not require grad, got one that does (see detach)");
}

/* A kind of tensor by a word in its dispatch keys; the first that fits counts. */
static const struct {
    const char *key, *kind;
} kinds[] = {
    {"FuncTorchBatched", "a tensor of torch.vmap"},
    {"FuncTorchGradWrapper", "a tensor of a torch.func transform (grad, jvp)"},
    {"Lazy", "a tensor of a lazy backend"},
    {"Functionalize", "a functional tensor"},
    {"ZeroTensor", "a zero tensor, which has no memory"},
    {"NestedTensor", "a nested tensor"},
    {"Sparse", "a sparse tensor"},
    {"Mkldnn", "an mkldnn tensor"},
    {"Quantized", "a quantized tensor"},
    {"Meta", "a meta tensor"},
};

/* The kind of the tensor where it is a special one, else NULL. Leaves no exception. */
static const char *special_kind(PyObject *tensor) {
    const char *found = NULL;
    PyObject *function = ac_loaded("torch._C", "_dispatch_keys");
    PyObject *keys = function ? PyObject_CallFunctionObjArgs(function, tensor, NULL) : NULL;
    PyObject *text = keys ? PyObject_Str(keys) : NULL;
    const char *utf8 = text ? PyUnicode_AsUTF8AndSize(text, NULL) : NULL;
    for (size_t i = 0; utf8 && !found && i < sizeof kinds / sizeof kinds[0]; i++)
        if (strstr(utf8, kinds[i].key)) found = kinds[i].kind;
    PyErr_Clear();
    Py_XDECREF(function);
    Py_XDECREF(keys);
    Py_XDECREF(text);
    return found;
}

void ac_torch_explain(const char *op, const char *name, PyObject *tensor) {
    PyObject *type, *value, *traceback;
    PyErr_Fetch(&type, &value, &traceback);
    const char *kind = special_kind(tensor);
    PyErr_Restore(type, value, traceback);
    if (!kind) return;
    char text[128];
    PyOS_snprintf(text, sizeof text, "expected a torch.Tensor with memory of its own, got %s", kind);
    ac_raise_instead(PyExc_BufferError, op, name, text);
}

PyObject *ac_torch_capsule(PyObject *tensor) {
    PyObject *function = ac_loaded("torch._C", "_to_dlpack");
    PyObject *capsule = function ? PyObject_CallFunctionObjArgs(function, tensor, NULL) : NULL;
    Py_XDECREF(function);
    return capsule;
}

/* The public form, which takes one tensor in every torch that has it. */
static int written_one_by_one(PyObject *tensors) {
    PyObject *function = ac_loaded("torch.autograd.graph", "increment_version");
    Py_ssize_t count = function ? PyTuple_Size(tensors) : 0;
    int result = 0;
    for (Py_ssize_t i = 0; result == 0 && i < count; i++) {
        PyObject *none = PyObject_CallFunctionObjArgs(function, PyTuple_GetItem(tensors, i), NULL);
        if (!none) result = -1;
        Py_XDECREF(none);
    }
    Py_XDECREF(function);
    return result;
}

int ac_torch_written(ac_state_t *state, PyObject *tensors) {
    if (!state->torch_increment_version) {
        state->torch_increment_version = ac_loaded("torch._C", "_increment_version");
        if (!state->torch_increment_version) return PyErr_Occurred() ? -1 : 0;
    }
    PyObject *none = PyObject_CallFunctionObjArgs(state->torch_increment_version, tensors, NULL);
    Py_XDECREF(none);
    if (none) return 0;
    if (!PyErr_ExceptionMatches(PyExc_Exception)) return -1;
    PyErr_Clear(); /* an older torch takes no tuple */
    return written_one_by_one(tensors);
}
