/* The kernels that convert indices as a table. */
#include "../../core/dtype.h"
#include "../../core/kernel.h"
#include "tile.h"

static const char *dtype_text(int64_t dtype) { return ac_dtype_name((ac_dtype_t)dtype); }

static const ac_column_t columns[] = {{"index_dtype", AC_ONE_OF, dtype_text}};

#define AC_FAMILY index_conversion
#define AC_FAMILY_ROWS "index_conversion/kernels.inc"
#include "../kernel_rows.inc"
