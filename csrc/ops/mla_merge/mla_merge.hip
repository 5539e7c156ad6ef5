/* Entry points of the merge: o and LSE of final rows out of their partials; see kernel_params.h. */
#if defined(__CUDACC__)
#include "sm90.h"
#else
#include "gfx9.h"
#endif

#define MERGE(name, columns, lists)                                                                                    \
    GPU_KERNEL_OF(MERGE_THREADS, MERGE_PER_UNIT) name(GPU_PARAMS(ac_mla_merge_params_t) p) {                           \
        merge_partials<columns, lists>(p);                                                                             \
    }

MERGE(mla_merge, 512, false)      /* stage 2 of MLA decode */
MERGE(mla_merge_lists, 512, true) /* any width, 512 columns at a time */
#if !defined(__CUDACC__)
MERGE(mla_merge_lists_d64, 64, true)
MERGE(mla_merge_lists_d128, 128, true)
MERGE(mla_merge_lists_d256, 256, true)
#endif
