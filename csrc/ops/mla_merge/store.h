/* Where a merged row goes, on every GPU. */
#ifndef AC_OPS_MLA_MERGE_STORE_H
#define AC_OPS_MLA_MERGE_STORE_H

#include "../attention/store.h"
#include "groups.h"

/* `top`: the largest LSE of the row's partials; `weights`: the sum of their weights relative to it. */
GPU_INLINE mla_output_t mla_merged_output(const ac_mla_merge_params_t &p, int64_t row, int head, float top,
                                          float weights) {
    mla_output_t out;
    out.empty = weights == 0;
    out.scale = 1 / weights;
    out.row = p.o + row * p.o_row_stride + head * p.o_head_stride;
    out.dtype = p.o_dtype;
    out.lse = p.lse ? p.lse + row * p.num_heads + head : nullptr;
    out.lse_value = out.empty ? GPU_MINUS_INFINITY : top + gpu_log2(weights) * (float)AC_LN_2;
    return out;
}

#endif
