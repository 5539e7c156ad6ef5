/* torch's devices and streams. */
#include "torch.h"

#include "argparse.h"
#include "errors.h"
#include "loaded.h"

/* Whether the torch of this process drives devices of the type: a build has HIP or CUDA, never both. */
static bool torch_serves(int device_type) {
    PyObject *hip = ac_loaded("torch.version", "hip");
    bool is_hip = hip && hip != Py_None;
    Py_XDECREF(hip);
    return is_hip == (device_type == AC_DEVICE_HIP);
}

int ac_torch_stream(const char *op, ac_device_t device, int64_t *out_stream, bool *out_found) {
    PyObject *function = NULL, *handle = NULL;
    int result = 0;
    *out_found = false;
    if (torch_serves(device.type) && !PyErr_Occurred()) function = ac_loaded("torch._C", "_cuda_getCurrentRawStream");
    if (!function) return PyErr_Occurred() ? -1 : 0;
    handle = PyObject_CallFunction(function, "i", device.index);
    if (handle) result = ac_to_int64(op, "stream", handle, out_stream);
    else result = ac_raise_from_live(PyExc_BufferError, op, "stream", "torch does not tell its current stream");
    *out_found = result == 0;
    Py_XDECREF(handle);
    Py_DECREF(function);
    return result;
}

int ac_torch_device_is_hip(PyObject *object, bool *out_is_hip) {
    PyObject *device = ac_base_named(Py_TYPE(object), "torch", "device");
    *out_is_hip = device && torch_serves(AC_DEVICE_HIP);
    Py_XDECREF(device);
    return PyErr_Occurred() ? -1 : 0;
}
