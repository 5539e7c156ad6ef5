/* What is asked of torch, in a process that has imported it: this package never does. */
#ifndef AC_MODULE_TORCH_H
#define AC_MODULE_TORCH_H

#include "../core/view.h"
#include "state.h"

/* torch.cuda's current stream on the device, as cuda.h or hip.h know it; torch-ROCm answers under the same name.
 * *out_found is false where torch is not loaded or was built without such devices. */
int ac_torch_stream(const char *op, ac_device_t device, int64_t *out_stream, bool *out_found);

/* *out_is_hip: the object is a torch.device of a torch that calls HIP's devices "cuda". */
int ac_torch_device_is_hip(PyObject *object, bool *out_is_hip);

#endif
