/* The AITER_C_* switches: read here, once per process, and nowhere else. */
#ifndef AC_MODULE_ENVIRONMENT_H
#define AC_MODULE_ENVIRONMENT_H

#include "state.h"

/* Reads and applies the switches: the CPU path, the number of threads, the exchange API. Called by every module exec;
 * what belongs to the process (all but state->use_exchange) is applied by the first. Fails only where the warning about
 * a value that is no good is an error (python -W error). */
int ac_environment_init(ac_state_t *state);

const char *ac_cpu_reason(void); /* why the CPU path in use was chosen */

PyObject *py_environment(PyObject *module, PyObject *ignored);

#endif
