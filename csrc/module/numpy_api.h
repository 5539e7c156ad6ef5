/* NumPy through its C API, imported when the first array comes: arrays as views and back, ml_dtypes included.
 * The table of function pointers is NumPy's own process-wide one; the only mutable globals of this room are here. */
#ifndef AC_MODULE_NUMPY_API_H
#define AC_MODULE_NUMPY_API_H

#include "../core/view.h"
#include "state.h"

/* Imports NumPy's C API for the first array; what else there may be under the name numpy (a stub, an empty folder, a
 * half-imported or too old NumPy) does not matter to the types of others. */
int ac_numpy_is_array_type(PyTypeObject *type, bool *out_is_array);

/* The view of an array (an instance of a type of AC_PATH_NUMPY); borrows from it. */
int ac_numpy_view(const char *op, const char *name, PyObject *array, ac_view_t *out_view);

/* An array over the memory of `view` that keeps `base` alive; imports NumPy, and ml_dtypes where the dtype needs it.
 * ImportError where they are missing. */
PyObject *ac_numpy_from_view(const char *op, const ac_view_t *view, PyObject *base);

/* Whether NumPy has the dtype itself, and a fresh array of it in row-major order. NumPy is imported: an array was seen.
 */
bool ac_numpy_can_make(ac_dtype_t dtype);
PyObject *ac_numpy_empty(const int64_t *shape, int ndim, ac_dtype_t dtype, char **out_data);

#endif
