/* The exporting half of DLPack: an Array's memory in a capsule that keeps the Array alive. */
#ifndef AC_MODULE_ARRAY_DLPACK_H
#define AC_MODULE_ARRAY_DLPACK_H

#include "../core/view.h"
#include "state.h"

typedef struct ac_export_t {
    bool versioned; /* the consumer knows DLPack 1.0: "dltensor_versioned", else "dltensor" */
    bool copy;      /* the memory is to be the consumer's own */
    bool wait;      /* the consumer's stream may use the memory at once: the device's work so far must be done */
} ac_export_t;

/* The arguments of __dlpack__ on an array that `view` describes. */
int ac_export_parse(const ac_state_t *state, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames,
                    const ac_view_t *view, ac_export_t *out_request);

/* A capsule over the memory of `array`; `view` is part of it. */
PyObject *ac_export(PyObject *array, const ac_view_t *view, const ac_export_t *request);

#endif
