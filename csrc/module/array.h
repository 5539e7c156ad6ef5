/* aiter_c.Array: memory on a device with a dtype and a shape, for users without a framework. Always contiguous. */
#ifndef AC_MODULE_ARRAY_H
#define AC_MODULE_ARRAY_H

#include "../core/view.h"
#include "state.h"

extern PyType_Spec ac_array_spec;

/* The view of an Array; borrows from it. */
void ac_array_view(PyObject *array, ac_view_t *out_view);

/* An Array over the memory of another framework's tensor, whose contiguous view it is; takes `owner` over, whether it
 * fails or not. */
PyObject *ac_array_over(const ac_state_t *state, const ac_view_t *view, DLManagedTensorVersioned *owner);

/* A tuple of ints. */
PyObject *ac_sizes(const int64_t *values, int ndim);

PyObject *py_empty(PyObject *module, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames);
PyObject *py_from_host(PyObject *module, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames);

#endif
