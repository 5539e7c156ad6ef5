/* The kernels of MLA decode as a table. */
#include "../../core/dtype.h"
#include "../../core/kernel.h"
#include "../attention/cache_format.h"
#include "../attention/cpu/local.h"

static const char *dtype_text(int64_t dtype) { return ac_dtype_name((ac_dtype_t)dtype); }
static const char *format_text(int64_t format) { return ac_kv_format_name((ac_kv_format_t)format); }

static const ac_column_t columns[] = {
    {"kv_format", AC_ONE_OF, format_text}, {"kv_dtype", AC_ONE_OF, dtype_text}, {"q_dtype", AC_ONE_OF, dtype_text},
    {"o_dtype", AC_ONE_OF, dtype_text},    {"p_dtype", AC_FACT, dtype_text},
};

#define AC_FAMILY mla_decode
#define AC_FAMILY_ROWS "mla_decode/kernels.inc"
#include "../kernel_rows.inc"
