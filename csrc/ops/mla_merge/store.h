/* What a merge kernel stores: the same on AMD and NVIDIA. */
#ifndef AC_OPS_MLA_MERGE_STORE_H
#define AC_OPS_MLA_MERGE_STORE_H

#include "../attention/store.h"
#include "kernel_params.h"

GPU_INLINE mla_output_t merged_output(const ac_mla_merge_params_t &p, int64_t row, int head, float top, float weights) {
    mla_output_t out;
    out.empty = weights == 0;
    out.scale = 1 / weights;
    out.row = p.o + row * p.o_row_stride + head * p.o_head_stride;
    out.dtype = p.o_dtype;
    out.lse = p.lse ? p.lse + row * p.num_heads + head : nullptr;
    out.lse_value = out.empty ? GPU_MINUS_INFINITY : top + gpu_log2(weights) * (float)AC_LN_2;
    return out;
}

/* Columns [column, width), fewer than 4. */
GPU_INLINE void merge_store_tail(const mla_output_t &out, int column, int width, const float (&acc)[4]) {
    for (int i = 0; i < 4; i++) {
        float value = out.empty ? 0 : acc[i] * out.scale;
        int64_t at = column + i;
        if (at >= width) break;
        if (out.dtype == AC_FLOAT32) gpu_store(out.row + at * 4, __builtin_bit_cast(uint32_t, value));
        else gpu_store(out.row + at * 2, (uint16_t)(out.dtype == AC_BFLOAT16 ? gpu_bf16(value) : gpu_f16(value)));
    }
}

/* Columns [column, column + 4) of a row of `width`; with TAIL it may end among them, or before them. */
template <bool TAIL>
GPU_INLINE void merge_store(const mla_output_t &out, int column, int width, const float (&acc)[4]) {
    if (!TAIL || column + 4 <= width) mla_store_columns(out, column, acc);
    else merge_store_tail(out, column, width, acc);
}

#endif
