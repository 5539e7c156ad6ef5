/* Entry point of the merge: o and LSE of a row out of its partials; see kernel_params.h. */
#if defined(__CUDACC__)
#include "sm90.h"
#else
#include "gfx9.h"
#endif

#define AC_FAMILY_ROWS "mla_merge/kernels.inc"
#include "../local_bytes.inc"

CHECK_LOCAL_BYTES("mla_merge", MERGE_LOCAL_BYTES);
GPU_KERNEL_OF(MERGE_THREADS, MERGE_PER_UNIT) mla_merge(GPU_PARAMS(ac_mla_merge_params_t) p) { merge_partials(p); }
