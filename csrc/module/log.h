/* What a call was, for a user who wants to see it (AITER_C_LOG) and for who records it (set_call_observer). */
#ifndef AC_MODULE_LOG_H
#define AC_MODULE_LOG_H

#include "../core/log.h"
#include "tensor.h"

typedef struct ac_logged_call_t {
    const char *op, *function; /* by which users know it, and in aiter_c._C */
    const ac_tensor_t *tensors;
    const char *const *names; /* of the tensors */
    int tensor_count;
    PyObject *plan; /* or NULL */
    intptr_t stream;
    int64_t begin; /* ac_log_now() before it */
} ac_logged_call_t;

/* Nanoseconds. */
int64_t ac_log_now(void);
/* One line: what it was given, and how long the host took or what it raised. A live exception survives it. */
void ac_log_call(const ac_logged_call_t *call);
/* Calls state->observer. Likewise. */
void ac_observe_call(ac_state_t *state, const ac_logged_call_t *call);

PyObject *py_set_call_observer(PyObject *module, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames);

#endif
