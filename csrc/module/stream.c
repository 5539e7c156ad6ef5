/* The stream of a call: the one that was passed, else the current one of the tensor's framework. */
#include "stream.h"

#include "argparse.h"
#include "errors.h"
#include "torch.h"

/* What the exchange API of the tensor's framework says. */
static int framework_stream(const char *op, const DLPackExchangeAPI *api, ac_device_t device, intptr_t *out_stream) {
    void *current = NULL;
    if (api->current_work_stream(device.type, device.index, &current) != 0)
        return ac_raise_from_live(PyExc_BufferError, op, "stream", "the framework does not tell its current stream");
    *out_stream = (intptr_t)current;
    return 0;
}

int ac_stream_resolve(const char *op, PyObject *stream, const ac_tensor_t *tensor, intptr_t *out_stream) {
    const ac_device_t device = tensor->view.device;
    int64_t value = 0;
    bool found = false;
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
    if (tensor->api) return framework_stream(op, tensor->api, device, out_stream);
    if (ac_torch_stream(op, device, &value, &found) < 0) return -1;
    *out_stream = (intptr_t)value;
    if (found) return 0;
    PyErr_Format(PyExc_TypeError, "%s: stream: expected int (no framework tells the current stream of %s), got None",
                 op, ac_device_text(device, text, sizeof text));
    return -1;
}
