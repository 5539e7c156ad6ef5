/* The kernels of merge_states as a table. */
#include <stddef.h>

#include "../../core/dtype.h"
#include "../../core/kernel.h"
#include "kernel_params.h"

static const char *dtype_text(int64_t dtype) { return ac_dtype_name((ac_dtype_t)dtype); }

static const ac_column_t columns[] = {
    {"o_dtype", AC_ONE_OF, dtype_text}, {"out_dtype", AC_ONE_OF, dtype_text}, {"value_dim", AC_AT_MOST, NULL}};

#define AC_FAMILY merge_states
#define AC_FAMILY_ROWS "merge_states/kernels.inc"
#include "../kernel_rows.inc"
