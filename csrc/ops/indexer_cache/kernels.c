/* The kernels of the indexer's cache as a table. */
#include "../../core/dtype.h"
#include "../../core/kernel.h"
#include "tile.h"

static const char *dtype_text(int64_t dtype) { return ac_dtype_name((ac_dtype_t)dtype); }

/* Keys are quantised and written, alone or after rope with the queries, or gathered. */
static const char *step_text(int64_t step) { return step == 0 ? "write" : step == 1 ? "rope" : "gather"; }

static const ac_column_t columns[] = {
    {"step", AC_ONE_OF, step_text}, {"dtype", AC_ONE_OF, dtype_text}, {"cache_dtype", AC_ONE_OF, dtype_text}};

#define AC_FAMILY indexer_cache
#define AC_FAMILY_ROWS "indexer_cache/kernels.inc"
#include "../kernel_rows.inc"
