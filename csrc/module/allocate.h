/* Fresh tensors from the caller's own framework, so that a graph pool or a caching allocator sees them. */
#ifndef AC_MODULE_ALLOCATE_H
#define AC_MODULE_ALLOCATE_H

#include "../core/op.h"
#include "tensor.h"

/* The buffer `name` of an op: from the framework of `like`, which was imported as `tensor`, and on its device, for an
 * op on `stream` (an object of the caller's, or NULL: the current one). Its contents are undefined. */
PyObject *ac_allocate(ac_state_t *state, const char *op, PyObject *name, PyObject *like, const ac_tensor_t *tensor,
                      const ac_workspace_t *workspace, PyObject *stream);

PyObject *py_set_allocator(PyObject *module, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames);

#endif
