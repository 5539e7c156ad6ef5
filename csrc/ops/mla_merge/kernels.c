/* The kernels of the merge as a table. */
#include <stddef.h>

#include "../../core/dtype.h"
#include "../../core/kernel.h"
#include "../attention/cpu/local.h"

static const char *dtype_text(int64_t dtype) { return ac_dtype_name((ac_dtype_t)dtype); }

static const ac_column_t columns[] = {{"o_dtype", AC_ONE_OF, dtype_text}, {"value_dim", AC_AT_MOST, NULL}};

#define AC_FAMILY mla_merge
#define AC_FAMILY_ROWS "mla_merge/kernels.inc"
#include "../kernel_rows.inc"
