/* An Array's values as Python's own protocols have them. On the CPU they are there; elsewhere, and where there is no
 * one value, a TypeError says what to do: never a quiet 0-d object, a length for a truth, or an identity for a
 * comparison. */
#ifndef AC_MODULE_ARRAY_VALUES_H
#define AC_MODULE_ARRAY_VALUES_H

#include "state.h"

/* The buffer protocol, zero-copy. bfloat16 and fp8 have no format there: who asks for one is refused. */
int ac_array_getbuffer(PyObject *self, Py_buffer *buffer, int flags);
void ac_array_releasebuffer(PyObject *self, Py_buffer *buffer);

/* __array__(dtype=None, copy=None), for numpy.asarray: over the same memory unless a copy is asked for or needed. */
PyObject *ac_array_dunder_array(PyObject *self, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames);

/* The value of the only element. */
int ac_array_bool(PyObject *self);
PyObject *ac_array_int(PyObject *self);
PyObject *ac_array_float(PyObject *self);

/* == and != are refused, but with None; the hash is that of the object. */
PyObject *ac_array_richcompare(PyObject *self, PyObject *other, int operation);
Py_hash_t ac_array_hash(PyObject *self);

PyObject *ac_array_subscript(PyObject *self, PyObject *key);
int ac_array_ass_subscript(PyObject *self, PyObject *key, PyObject *value);

#endif
