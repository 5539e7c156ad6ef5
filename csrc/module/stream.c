#include "stream.h"

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

/* torch.cuda's current stream on the device, as cuda.h or hip.h know it; torch-ROCm answers under the same name.
 * *out_found is false where torch is not loaded or was built without such devices. */
static int torch_stream(ac_device_t device, int64_t *out_stream, bool *out_found) {
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

int ac_stream_resolve(const char *op, PyObject *stream, const ac_tensor_t *tensor, intptr_t *out_stream) {
    const ac_device_t device = tensor->view.device;
    int64_t value = 0;
    bool found = false;
    void *current = NULL;
    char text[48];
    *out_stream = 0;
    if (!ac_is_none(stream)) {
        if (ac_to_int64(op, "stream", stream, &value) < 0) return -1;
        if (value < 0) {
            PyErr_Format(PyExc_ValueError, "%s: stream: expected a stream's handle, at least 0, got %lld", op,
                         (long long)value);
            return -1;
        }
        *out_stream = (intptr_t)value;
        return 0;
    }
    if (device.type == AC_DEVICE_CPU) return 0;
    if (tensor->api) {
        if (tensor->api->current_work_stream(device.type, device.index, &current) != 0) return -1;
        *out_stream = (intptr_t)current;
        return 0;
    }
    if (torch_stream(device, &value, &found) < 0) return -1;
    *out_stream = (intptr_t)value;
    if (found) return 0;
    PyErr_Format(PyExc_TypeError, "%s: stream: expected int (no framework tells the current stream of %s), got None",
                 op, ac_device_text(device, text, sizeof text));
    return -1;
}
