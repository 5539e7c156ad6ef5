/* The stream an op runs on. */
#ifndef AC_MODULE_STREAM_H
#define AC_MODULE_STREAM_H

#include "tensor.h"

/* For tensors on the device of `tensor`: `stream` where one was passed, else the current stream of the tensor's
 * framework (exchange API, then torch), else a TypeError: never quietly stream 0. 0 on the CPU, which has none. */
int ac_stream_resolve(const char *op, PyObject *stream, const ac_tensor_t *tensor, intptr_t *out_stream);

#endif
