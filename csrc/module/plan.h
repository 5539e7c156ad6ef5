/* Plans as Python objects: immutable, compared, hashed, copied and pickled by their fields. One type per kind. */
#ifndef AC_MODULE_PLAN_H
#define AC_MODULE_PLAN_H

#include "../core/op.h"
#include "state.h"

/* Makes a type for every kind of plan and adds it to the module. */
int ac_plans_init(ac_state_t *state, PyObject *module);

PyObject *ac_plan_new(const ac_state_t *state, const ac_plan_kind_t *kind, const void *bytes);
const void *ac_plan_bytes(PyObject *plan);
/* The bytes of `object`, or NULL with a TypeError when it is no plan of the kind. */
const void *ac_to_plan(const ac_state_t *state, const ac_plan_kind_t *kind, const char *op, PyObject *object);

PyObject *py_load_plan(PyObject *module, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames);

#endif
