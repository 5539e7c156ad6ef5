#include "torch.h"

#include "argparse.h"

/* A module that something has imported already, as a new reference; NULL, perhaps with an exception, when not. */
static PyObject *imported(const char *name) {
    PyObject *text = PyUnicode_FromString(name);
    PyObject *module = text ? PyImport_GetModule(text) : NULL;
    Py_XDECREF(text);
    return module;
}

/* An attribute as a new reference; NULL without an exception when there is none. */
static PyObject *attribute(PyObject *object, const char *name) {
    PyObject *value = PyObject_GetAttrString(object, name);
    if (!value && PyErr_ExceptionMatches(PyExc_AttributeError)) PyErr_Clear();
    return value;
}

/* Whether the torch of this process drives devices of the type: a build has HIP or CUDA, never both. */
static bool torch_serves(int device_type) {
    PyObject *version = imported("torch.version");
    PyObject *hip = version ? attribute(version, "hip") : NULL;
    bool is_hip = hip && hip != Py_None;
    Py_XDECREF(version);
    Py_XDECREF(hip);
    return is_hip == (device_type == AC_DEVICE_HIP);
}

int ac_torch_stream(ac_device_t device, int64_t *out_stream, bool *out_found) {
    PyObject *handle = NULL, *function = NULL, *torch = imported("torch._C");
    *out_found = false;
    if (torch && torch_serves(device.type) && !PyErr_Occurred())
        function = attribute(torch, "_cuda_getCurrentRawStream");
    if (function) handle = PyObject_CallFunction(function, "i", device.index);
    if (handle && ac_to_int64("torch", "stream", handle, out_stream) == 0) *out_found = true;
    Py_XDECREF(handle);
    Py_XDECREF(function);
    Py_XDECREF(torch);
    return PyErr_Occurred() ? -1 : 0;
}

/* Whether the type is torch.device, by its two names. */
static bool is_torch_device(PyTypeObject *type) {
    PyObject *name = PyType_GetName(type);
    PyObject *module = name ? attribute((PyObject *)type, "__module__") : NULL;
    bool result = module && PyUnicode_Check(module) && PyUnicode_CompareWithASCIIString(name, "device") == 0 &&
                  PyUnicode_CompareWithASCIIString(module, "torch") == 0;
    Py_XDECREF(name);
    Py_XDECREF(module);
    return result;
}

int ac_torch_device_is_hip(PyObject *object, bool *out_is_hip) {
    *out_is_hip = is_torch_device(Py_TYPE(object)) && torch_serves(AC_DEVICE_HIP);
    return PyErr_Occurred() ? -1 : 0;
}
