/* The kernels of prefill as a table. */
#include <stdio.h>

#include "../../core/dtype.h"
#include "../../core/kernel.h"
#include "cpu/local.h"
#include "dims.h"

static const struct {
    const char *text;
    int32_t head_dim, value_dim;
} dims[] = {
#define DIMS(id, head, value) {#head "/" #value, head, value},
#include "dims.inc"
#undef DIMS
};

ac_prefill_dims_t ac_prefill_dims(int64_t head_dim, int64_t value_dim) {
    int i = 0;
    while (i < AC_DIMS_COUNT && !(dims[i].head_dim == head_dim && dims[i].value_dim == value_dim)) i++;
    return (ac_prefill_dims_t)i;
}

const char *ac_prefill_dims_text(char *text, int size) {
    for (int i = 0, used = 0; i < AC_DIMS_COUNT && used < size; i++)
        used += snprintf(text + used, (size_t)(size - used), "%s%s", i == 0 ? "" : " or ", dims[i].text);
    return text;
}

static const char *dims_text(int64_t number) { return number < AC_DIMS_COUNT ? dims[number].text : "others"; }
static const char *dtype_text(int64_t dtype) { return ac_dtype_name((ac_dtype_t)dtype); }

static const ac_column_t columns[] = {
    {"dims", AC_ONE_OF, dims_text},     {"kv_dtype", AC_ONE_OF, dtype_text}, {"q_dtype", AC_ONE_OF, dtype_text},
    {"o_dtype", AC_ONE_OF, dtype_text}, {"p_dtype", AC_FACT, dtype_text},    {"worker_slots", AC_FACT, NULL},
};

#define AC_FAMILY mla_prefill
#define AC_FAMILY_ROWS "mla_prefill/kernels.inc"
#include "../kernel_rows.inc"
