/* Entry points of prefill. A workgroup does tiles of query rows of one head; see kernel_params.h and kernels.inc. */
#if defined(__gfx942__) || defined(__gfx950__)
#include "gfx9.h"
#elif defined(__CUDA_ARCH__)
#include "sm90.h"
#endif
