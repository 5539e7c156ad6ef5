/* Errors as Python exceptions. */
#ifndef AC_MODULE_ERRORS_H
#define AC_MODULE_ERRORS_H

#include "../core/error.h"
#include "state.h"

/* Makes UnsupportedError and DeviceError and adds them to the module. */
int ac_errors_init(ac_state_t *state, PyObject *module);

/* Raises the exception of error->kind; returns NULL. */
PyObject *ac_raise(const ac_state_t *state, const ac_error_t *error);

/* Replaces the live exception by `type` with "op: name: text: <first line of it>", and keeps it as __cause__. Leaves
 * alone what is not about the call (MemoryError, KeyboardInterrupt, ...). Returns -1. */
int ac_raise_from_live(PyObject *type, const char *op, const char *name, const char *text);
/* The same with "op: name: text" alone, where the text says more than the exception. */
int ac_raise_instead(PyObject *type, const char *op, const char *name, const char *text);

#endif
