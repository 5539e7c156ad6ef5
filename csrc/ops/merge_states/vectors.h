/* Whether rows can be read and written by vectors of 16 bytes. */
#ifndef AC_OPS_MERGE_STATES_VECTORS_H
#define AC_OPS_MERGE_STATES_VECTORS_H

#include "../../core/check.h"

static inline bool ac_is_whole_vectors(int64_t bytes) { return bytes % 16 == 0; }

/* All rows of the view begin at aligned addresses. */
static inline bool ac_rows_are_aligned(const ac_view_t *view) {
    bool aligned = ac_is_whole_vectors((int64_t)(uintptr_t)view->data);
    for (int dim = 0; dim < view->ndim - 1; dim++) aligned &= ac_is_whole_vectors(ac_stride_bytes(view, dim));
    return aligned;
}

#endif
