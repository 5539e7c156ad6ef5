/* What the variants of MLA decode take beside mla_decode_fwd's tensors, as views that the op knows. */
#ifndef AC_OPS_MLA_DECODE_VARIANT_H
#define AC_OPS_MLA_DECODE_VARIANT_H

#include "args.h"

/* Joins the first two dimensions of a view that has one more than `ndim`, [B, n, ...] to [B * n, ...]. */
int ac_mla_join_rows(ac_arg_t arg, int ndim, ac_view_t *view, ac_error_t *error);
/* Before the op's own check: q and kv_buffer with their rope parts, and in the shapes of mla_decode_fwd. */
int ac_mla_check_variant(ac_mla_decode_args_t *args, ac_error_t *error);

#endif
