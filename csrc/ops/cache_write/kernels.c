/* The kernels that write MLA caches as a table. */
#include "../../core/dtype.h"
#include "../../core/kernel.h"
#include "tile.h"

static const char *dtype_text(int64_t dtype) { return ac_dtype_name((ac_dtype_t)dtype); }

static const ac_column_t columns[] = {
    {"dtype", AC_ONE_OF, dtype_text}, {"cache_dtype", AC_ONE_OF, dtype_text}, {"q_dtype", AC_ONE_OF, dtype_text}};

#define AC_FAMILY cache_write
#define AC_FAMILY_ROWS "cache_write/kernels.inc"
#include "../kernel_rows.inc"
