/* Entry point of MLA decode, stage 2: merges the partials of a row; see kernel_params.h. */
#if defined(__CUDACC__)
#include "sm90.h"
#else
#include "gfx9.h"
#endif
