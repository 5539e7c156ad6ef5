/* Results of a row: the final o and LSE, or the partial of its split. */
#ifndef AC_OPS_ATTENTION_STORE_H
#define AC_OPS_ATTENTION_STORE_H

#include "../../core/dtype.h"
#include "softmax.h"
#include "walk.h"

typedef struct mla_output_t {
    char *row;  /* of o in o_dtype, or of partial_o in fp32; NULL: nothing is to be written */
    float *lse; /* NULL: not asked for */
    float lse_value;
    float scale; /* result = accumulators * scale */
    bool empty;  /* o is 0, and the accumulators are not used */
    int dtype;   /* ac_dtype_t of *row */
} mla_output_t;

/* `value_scale`: the scale of the cache. `sum` and base are those of the whole row within this split. */
GPU_INLINE mla_output_t mla_row_output(const ac_attention_params_t &p, const ac_work_t &work, const mla_row_t &row,
                                       const mla_softmax_t &softmax, float value_scale) {
    mla_output_t out;
    out.empty = softmax.sum == 0;
    out.scale = value_scale / softmax.sum;
    if (work.partial_row < 0) {
        int64_t index = row.query * p.num_heads + row.head;
        uint32_t segment = (uint32_t)(-1 - work.partial_row), segment_at = segment * (AC_MLA_DV * 4); /* of fp32 */
        out.row = p.o + row.query * p.o_row_stride + row.head * p.o_head_stride + segment_at;
        out.lse = p.lse ? p.lse + index * p.segments + segment : nullptr;
        out.lse_value = mla_lse(softmax, p.lse_unit, p.lse_empty);
        out.dtype = p.o_dtype;
    } else {
        int64_t partial_row = work.partial_row + (row.query - work.query_begin) * work.partial_step;
        int64_t index = partial_row * p.num_heads + row.head;
        out.row = out.empty ? nullptr : (char *)(p.partial_o + index * AC_MLA_DV);
        out.lse = p.partial_lse + index;
        out.lse_value = mla_lse(softmax, (float)AC_LN_2, GPU_MINUS_INFINITY);
        out.dtype = AC_FLOAT32;
    }
    return out;
}

GPU_INLINE void mla_store_lse(const mla_output_t &out) {
    if (out.lse) *out.lse = out.lse_value;
}

/* Columns [column, column + N) of the row, N a multiple of 4. */
template <int N> GPU_INLINE void mla_store_columns(const mla_output_t &out, int column, const float (&acc)[N]) {
    struct wide_t {
        uint32_t word[4];
    };
    struct half_t {
        uint32_t word[N / 2];
    };
    float value[N];
    if (!out.row) return;
    for (int i = 0; i < N; i++) value[i] = out.empty ? 0 : acc[i] * out.scale;
    if (out.dtype == AC_FLOAT32) {
        for (int i = 0; i < N; i += 4) {
            wide_t wide;
            for (int k = 0; k < 4; k++) wide.word[k] = __builtin_bit_cast(uint32_t, value[i + k]);
            gpu_store(out.row + (column + i) * 4, wide);
        }
        return;
    }
    half_t half;
    if (out.dtype == AC_BFLOAT16)
        for (int i = 0; i < N; i += 2) half.word[i / 2] = gpu_bf16(value[i]) | gpu_bf16(value[i + 1]) << 16;
    else
        for (int i = 0; i < N; i += 2) half.word[i / 2] = gpu_f16(value[i]) | gpu_f16(value[i + 1]) << 16;
    gpu_store(out.row + column * 2, half);
}

#endif
