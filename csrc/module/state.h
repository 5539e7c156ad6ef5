/* What one instance of the module owns. Only this room includes Python.h, and every file of it includes it through
 * here, so that the limited API is the same everywhere. */
#ifndef AC_MODULE_STATE_H
#define AC_MODULE_STATE_H

#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <stdbool.h>
#include <stdint.h>

#include "../core/op.h"
#include "dlpack_abi.h"
#include "signatures.h"

#define AC_TYPE_CACHE 16

/* How tensors of a Python type come in. */
typedef enum ac_path_t {
    AC_PATH_NONE,     /* not a tensor type */
    AC_PATH_OWN,      /* aiter_c.Array */
    AC_PATH_EXCHANGE, /* DLPack's C exchange API */
    AC_PATH_NUMPY,    /* NumPy's C API */
    AC_PATH_DLPACK,   /* the __dlpack__ method */
} ac_path_t;

/* What a type is to torch. */
typedef enum ac_torch_kind_t {
    AC_TORCH_NONE,     /* no tensor of torch */
    AC_TORCH_PLAIN,    /* torch.Tensor, or a type that inherits its memory */
    AC_TORCH_DISPATCH, /* a type that overrides __torch_dispatch__ */
} ac_torch_kind_t;

/* One type whose path was looked up. The reference is strong: a freed type's address may come back as another's. */
typedef struct ac_type_entry_t {
    PyTypeObject *type;
    ac_path_t path;
    ac_torch_kind_t torch;
    bool checked;                 /* AC_PATH_EXCHANGE: one tensor was compared with its .shape */
    const DLPackExchangeAPI *api; /* AC_PATH_EXCHANGE, else NULL */
} ac_type_entry_t;

/* The parameters of one function: its line in signatures.h, or the rows of an op. */
typedef struct ac_signature_t {
    const char *function;
    int count, positional, required_positional;
    bool required[AC_MAX_PARAMS];
    PyObject *names[AC_MAX_PARAMS]; /* interned */
    /* Of an op. */
    const ac_param_t *params[AC_MAX_PARAMS];
    PyObject *unset[AC_MAX_PARAMS]; /* an object that is as if none were passed; NULL: there is none */
    int workspaces[AC_MAX_WORKSPACES], workspace_count; /* the places of its AC_WORKSPACE parameters */
    void *defaults;                                     /* its args struct with nothing passed */
} ac_signature_t;

#define AC_MAX_OPS 64
#define AC_MAX_PLAN_KINDS 8

typedef struct ac_state_t {
    PyObject *unsupported_error, *device_error;
    PyTypeObject *array_type, *plan_types[AC_MAX_PLAN_KINDS];
    ac_signature_t signatures[AC_FUNCTION_COUNT], op_signatures[AC_MAX_OPS];
    PyObject *allocate;  /* aiter_c._call.allocate, once it was needed */
    PyObject *allocator; /* of set_allocator, or NULL */
    PyObject *observer;  /* of set_call_observer, or NULL */
    ac_type_entry_t types[AC_TYPE_CACHE];
    int type_count, next_victim;
    PyObject *str_dlpack, *str_dlpack_device, *str_max_version, *str_stream, *str_shape, *max_version;
    PyObject *str_is_neg, *str_is_conj, *str_requires_grad;
    PyObject *torch_increment_version; /* NULL until a tensor of torch was written to */
    bool use_exchange;                 /* AITER_C_DLPACK_EXCHANGE */
} ac_state_t;

/* The state, from the module or from an object of one of its types (none of them can be subclassed). */
static inline ac_state_t *ac_state(PyObject *module) { return PyModule_GetState(module); }
static inline ac_state_t *ac_state_of(PyObject *self) { return PyType_GetModuleState(Py_TYPE(self)); }

#endif
