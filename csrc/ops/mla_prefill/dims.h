/* The widths that prefill serves: the rows of dims.inc. */
#ifndef AC_OPS_MLA_PREFILL_DIMS_H
#define AC_OPS_MLA_PREFILL_DIMS_H

#include <stdint.h>

typedef enum ac_prefill_dims_t {
#define DIMS(id, head_dim, value_dim) id,
#include "dims.inc"
#undef DIMS
    AC_DIMS_COUNT
} ac_prefill_dims_t;

/* AC_DIMS_COUNT: no kernel has them. */
ac_prefill_dims_t ac_prefill_dims(int64_t head_dim, int64_t value_dim);
/* All of them, "192/128 or 256/256"; returns text. */
const char *ac_prefill_dims_text(char *text, int size);

#endif
