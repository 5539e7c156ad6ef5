/* Arguments that name a dtype, a cache format or a device. Nothing here imports a framework. */
#ifndef AC_MODULE_DTYPE_ARG_H
#define AC_MODULE_DTYPE_ARG_H

#include "../core/view.h"
#include "state.h"

/* A name, a NumPy dtype, a NumPy or ml_dtypes scalar type, or a torch dtype. */
int ac_to_dtype(const char *op, const char *name, PyObject *object, ac_dtype_t *out_dtype);
/* None is -1 (from dtype and shape), else an ac_kv_format_t by its name. */
int ac_to_kv_format(const char *op, const char *name, PyObject *object, int *out_format);
/* "cpu", "cuda", "cuda:1", "hip:0", or an object whose str() is such a name; a torch.device "cuda" of torch-ROCm is a
 * HIP device. */
int ac_to_device(const char *op, const char *name, PyObject *object, ac_device_t *out_device);

#endif
