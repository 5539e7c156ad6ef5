/* What this build and this process are: for bug reports, `python -m aiter_c env`, and tests. */
#ifndef AC_MODULE_PY_INFO_H
#define AC_MODULE_PY_INFO_H

#include "state.h"

PyObject *py_set_num_threads(PyObject *module, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames);
PyObject *py_get_num_threads(PyObject *module, PyObject *ignored);
PyObject *py_cpu_arch(PyObject *module, PyObject *ignored);
PyObject *py_build_info(PyObject *module, PyObject *ignored);
PyObject *py_runtime_info(PyObject *module, PyObject *ignored);
PyObject *py_kernel_table(PyObject *module, PyObject *ignored);
PyObject *py_code_objects(PyObject *module, PyObject *ignored);
PyObject *py_plan_table(PyObject *module, PyObject *ignored);
PyObject *py_op_table(PyObject *module, PyObject *ignored);
PyObject *py_cpu_ceilings(PyObject *module, PyObject *ignored);
PyObject *py_tensor_shape(PyObject *module, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames);
PyObject *py_dlpack_path(PyObject *module, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames);

#endif
