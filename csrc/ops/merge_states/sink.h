/* A sink that joins the rows of a decode which have been written: part of the last stage of whichever op wrote them. */
#ifndef AC_OPS_MERGE_STATES_SINK_H
#define AC_OPS_MERGE_STATES_SINK_H

#include "../../core/view.h"
#include "../../device/device.h"

/* o [T, H, D] *= exp(lse - ln(exp(lse) + exp(sink))), in place; lse [T, H] contiguous, sink [H]. A row whose LSE is
 * -inf, +inf or NaN stays as it is. Everything has been checked. */
int ac_apply_sink(const char *op, const ac_target_t *target, const ac_view_t *o, const ac_view_t *lse,
                  const ac_view_t *sink, intptr_t stream, ac_error_t *error);

#endif
