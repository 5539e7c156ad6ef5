/* The one way from Python to an op. */
#ifndef AC_MODULE_CALL_H
#define AC_MODULE_CALL_H

#include "../core/op.h"
#include "state.h"

/* Adds a function for every op to the module. */
int ac_calls_init(ac_state_t *state, PyObject *module);

#endif
