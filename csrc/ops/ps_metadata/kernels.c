/* The kernels that plan work lists of prefill as a table. */
#include <stddef.h>

#include "../../core/kernel.h"
#include "kernel_params.h"
#include "local.h"

static const ac_column_t columns[] = {{"tiles", AC_AT_MOST, NULL}};

#define AC_FAMILY ps_metadata
#define AC_FAMILY_ROWS "ps_metadata/kernels.inc"
#include "../kernel_rows.inc"
