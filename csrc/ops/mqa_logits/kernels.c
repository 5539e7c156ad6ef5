/* The kernels of the indexer logits as a table. */
#include <stddef.h>

#include "../../core/dtype.h"
#include "../../core/kernel.h"
#include "cpu/local.h"

static const char *dtype_text(int64_t dtype) { return ac_dtype_name((ac_dtype_t)dtype); }
static const char *layout_text(int64_t kind) {
    return kind == 0 ? "contiguous" : kind == 1 ? "pages" : "pages of a single row";
}

static const ac_column_t columns[] = {{"keys", AC_ONE_OF, layout_text},    {"q_dtype", AC_ONE_OF, dtype_text},
                                      {"kv_dtype", AC_ONE_OF, dtype_text}, {"num_heads", AC_AT_MOST, NULL},
                                      {"head_dim", AC_AT_MOST, NULL},      {"head_dim", AC_MULTIPLE_OF, NULL},
                                      {"block_keys", AC_FACT, NULL},       {"block_rows", AC_FACT, NULL}};

#define AC_FAMILY mqa_logits
#define AC_FAMILY_ROWS "mqa_logits/kernels.inc"
#include "../kernel_rows.inc"
