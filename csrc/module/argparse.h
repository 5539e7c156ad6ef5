/* Arguments: binding them to names as CPython does, and converting the values. Binding gives borrowed references;
 * a value that was not passed is NULL. Converters leave *out_value alone when `object` is NULL, so defaults are set
 * before. Their texts begin with "op: name: ". */
#ifndef AC_MODULE_ARGPARSE_H
#define AC_MODULE_ARGPARSE_H

#include "state.h"

int ac_signatures_init(ac_state_t *state);
int ac_signature_from_params(ac_signature_t *signature, const ac_op_t *op);
void ac_signatures_clear(ac_state_t *state);

static inline const ac_signature_t *ac_function_signature(const ac_state_t *state, ac_function_t function) {
    return &state->signatures[function];
}

/* The METH_FASTCALL | METH_KEYWORDS arguments of a call into values[0 .. signature count). */
int ac_bind(const ac_signature_t *signature, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames,
            PyObject **out_values);

int ac_to_int64(const char *op, const char *name, PyObject *object, int64_t *out_value);
int ac_to_int32(const char *op, const char *name, PyObject *object, int32_t *out_value);
int ac_to_double(const char *op, const char *name, PyObject *object, double *out_value);
/* ValueError unless the value is a finite number as a float32. */
int ac_check_finite(const char *op, const char *name, double value);
int ac_to_bool(const char *op, const char *name, PyObject *object, int *out_value);

static inline bool ac_is_none(PyObject *object) { return object == NULL || object == Py_None; }

/* TypeError "op: name: expected ..., got <type of object>"; returns -1. */
int ac_expected(const char *op, const char *name, const char *expected, PyObject *object);

#endif
