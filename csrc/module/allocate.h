/* Fresh tensors from the caller's own framework, so that a graph pool or a caching allocator sees them. */
#ifndef AC_MODULE_ALLOCATE_H
#define AC_MODULE_ALLOCATE_H

#include "../core/op.h"
#include "tensor.h"

/* A buffer that an op needs. */
typedef struct ac_buffer_t {
    const char *op, *name;
    const ac_workspace_t *workspace;
    PyObject *like;            /* whose framework gives it, on the device of `like` */
    const ac_tensor_t *tensor; /* the import of `like` */
    PyObject *stream;          /* an object of the caller's; NULL: the current one */
    bool scratch;              /* may be an Array over the framework's memory */
} ac_buffer_t;

/* Its contents are undefined. *out_tensor is its import; after a failure there is nothing to release. */
PyObject *ac_allocate(ac_state_t *state, const ac_buffer_t *buffer, ac_tensor_t *out_tensor);

PyObject *py_set_allocator(PyObject *module, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames);

#endif
