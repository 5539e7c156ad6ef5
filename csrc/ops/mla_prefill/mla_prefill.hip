/* Entry points of prefill. A workgroup does tiles one after the other; see tiles.h and kernels.inc. */
#if defined(__CUDA_ARCH__)
#include "sm90.h"
#endif
