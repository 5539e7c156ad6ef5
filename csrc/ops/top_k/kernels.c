/* The kernels of top-k as a table. */
#include <stddef.h>

#include "../../core/dtype.h"
#include "../../core/kernel.h"
#include "cpu/local.h"
#include "gpu_local.h"

static const char *dtype_text(int64_t dtype) { return ac_dtype_name((ac_dtype_t)dtype); }

static const ac_column_t columns[] = {{"logits_dtype", AC_ONE_OF, dtype_text},
                                      {"columns", AC_AT_MOST, NULL},
                                      {"rows_per_unit", AC_AT_MOST, NULL},
                                      {"rows", AC_AT_MOST, NULL},
                                      {"workgroups", AC_FACT, NULL}};

#define AC_FAMILY top_k
#define AC_FAMILY_ROWS "top_k/kernels.inc"
#include "../kernel_rows.inc"
