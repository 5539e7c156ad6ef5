#include "stream.h"

#include "argparse.h"

/* torch.cuda's current stream on `index`, as cuda.h or hip.h know it; torch-ROCm answers under the same name.
 * *out_found is false where torch is not loaded or was built without devices. */
static int torch_stream(int index, int64_t *out_stream, bool *out_found) {
    int result = -1;
    PyObject *handle = NULL, *function = NULL;
    PyObject *name = PyUnicode_FromString("torch._C");
    PyObject *torch = name ? PyImport_GetModule(name) : NULL;
    *out_found = false;
    if (!torch) {
        result = PyErr_Occurred() ? -1 : 0;
        goto done;
    }
    function = PyObject_GetAttrString(torch, "_cuda_getCurrentRawStream");
    if (!function) {
        if (!PyErr_ExceptionMatches(PyExc_AttributeError)) goto done;
        PyErr_Clear();
        result = 0;
        goto done;
    }
    handle = PyObject_CallFunction(function, "i", index);
    if (!handle || ac_to_int64("torch", "stream", handle, out_stream) < 0) goto done;
    *out_found = true;
    result = 0;
done:
    Py_XDECREF(name);
    Py_XDECREF(torch);
    Py_XDECREF(function);
    Py_XDECREF(handle);
    return result;
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
        *out_stream = (intptr_t)value;
        return 0;
    }
    if (device.type == AC_DEVICE_CPU) return 0;
    if (tensor->api) {
        if (tensor->api->current_work_stream(device.type, device.index, &current) != 0) return -1;
        *out_stream = (intptr_t)current;
        return 0;
    }
    if (torch_stream(device.index, &value, &found) < 0) return -1;
    *out_stream = (intptr_t)value;
    if (found) return 0;
    PyErr_Format(PyExc_TypeError, "%s: stream: expected int (no framework tells the current stream of %s), got None",
                 op, ac_device_text(device, text, sizeof text));
    return -1;
}
