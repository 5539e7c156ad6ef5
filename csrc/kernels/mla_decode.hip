/* Entry points of MLA decode, stage 1. One workgroup per work item; see core/mla_params.h and core/kernel_table.h. */
#if defined(__gfx942__) || defined(__gfx950__)
#include "mla_gfx9_entries.h"
#elif defined(__CUDA_ARCH__)
#include "mla_sm90_entries.h"
#endif
