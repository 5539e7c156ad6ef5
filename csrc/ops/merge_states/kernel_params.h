/* What the kernels that merge attention states get: plain data, shared by the host and by the kernels of every device.
 * A state is o and LSE of the same rows, each over keys of its own. Symbols: N states, T rows, H heads, D values.
 * Strides are in bytes. No address depends on a value in a tensor. */
#ifndef AC_OPS_MERGE_STATES_KERNEL_PARAMS_H
#define AC_OPS_MERGE_STATES_KERNEL_PARAMS_H

#include <stdint.h>

#define AC_MERGE_STATES_TENSORS 16 /* states that are tensors of their own, at most */
#define AC_MERGE_STATES_PAIRS 16   /* (row, head) pairs of a work item on the CPU */

typedef struct ac_state_source_t {
    const char *o;   /* [T, H, D] */
    const char *lse; /* [T, H] float32, natural log; -inf: the state holds nothing, its row is not read. +inf and NaN:
                        likewise, or with `spreads_nan` the result is NaN */
    int64_t o_row_stride, o_head_stride, lse_row_stride, lse_head_stride;
} ac_state_source_t;

/* State n is sources[n]; or, where they are `together` in one tensor or two, the first `together` of them are n strides
 * behind sources[0], and the others n strides behind sources[1]. */
typedef struct ac_merge_states_params_t {
    ac_state_source_t sources[AC_MERGE_STATES_TENSORS];
    int64_t o_stride, lse_stride; /* from state to state, of those that are together; else 0 */
    const float *sink;            /* [H]: a logit without a value, in the denominator of o; NULL: off */
    char *out;                    /* [T, H, D]; may be a source */
    char *out_lse;                /* [T, H] float32; may be a source; NULL: not written */
    int64_t out_row_stride, out_head_stride, out_lse_row_stride, out_lse_head_stride;
    int64_t num_rows, num_states; /* T, N */
    int32_t num_heads, value_dim; /* H, D */
    int32_t o_dtype, out_dtype;   /* ac_dtype_t */
    int64_t together;
    int32_t whole_vectors; /* rows are whole vectors of 16 bytes of the sources, and everything is aligned to such */
    int32_t sink_in_lse;   /* the sink is in the LSE too */
    int32_t keep_empty;    /* nothing is written of a row that no state holds */
    int32_t spreads_nan;
} ac_merge_states_params_t;

#endif
