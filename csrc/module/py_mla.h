/* The MLA decode ops and their plan, as Python calls them. Docstrings in docs.h, parameters in signatures.h. */
#ifndef AC_MODULE_PY_MLA_H
#define AC_MODULE_PY_MLA_H

#include "state.h"

PyObject *py_mla_decode_plan(PyObject *module, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames);
PyObject *py_mla_decode_stage1(PyObject *module, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames);
PyObject *py_mla_decode_stage2(PyObject *module, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames);
PyObject *py_mla_plan(PyObject *module, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames);
PyObject *py_choose_kv_splits(PyObject *module, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames);

#endif
