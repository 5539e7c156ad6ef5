/* Entry point of MLA decode, stage 2: o and LSE of a row out of its partials; see kernel_params.h. */
#if defined(__CUDACC__)
#include "sm90.h"
#else
#include "gfx9.h"
#endif

GPU_KERNEL(MERGE_THREADS) mla_merge(GPU_PARAMS(ac_mla_merge_params_t) p) { merge_partials(p); }
