/* Arguments that name a dtype, one of several names, or a device. Nothing here imports a framework. */
#ifndef AC_MODULE_DTYPE_ARG_H
#define AC_MODULE_DTYPE_ARG_H

#include "../core/op.h"
#include "state.h"

/* A name, a NumPy dtype, a NumPy or ml_dtypes scalar type, or a torch dtype. */
int ac_to_dtype(const char *op, const char *name, PyObject *object, ac_dtype_t *out_dtype);
/* A dtype, or with `choices` (names, ended by NULL) one of them: AC_DTYPE_CHOICE + its place. */
int ac_to_dtype_or_choice(const char *op, const char *name, PyObject *object, const char *const *choices,
                          int *out_value);
/* The place of one of the names. */
int ac_to_choice(const char *op, const char *name, PyObject *object, const char *const *choices, bool or_none,
                 int *out_place);
/* "cpu", "cuda", "cuda:1", "hip:0", or an object whose str() is such a name; a torch.device "cuda" of torch-ROCm is a
 * HIP device. */
int ac_to_device(const char *op, const char *name, PyObject *object, ac_device_t *out_device);

#endif
