/* From a wave's accumulators to the caller's memory: final rows with their LSE, or partials. */
#ifndef AC_OPS_MLA_PREFILL_GFX9_FINISH_H
#define AC_OPS_MLA_PREFILL_GFX9_FINISH_H

#include "../../attention/store.h"
#include "attend.h"

GPU_INLINE float scale_of(const ac_scale_t &scale) {
    return scale.pointer ? BITS(float, ac_list_entry((const int32_t *)scale.pointer, 0)) : scale.value;
}

/* Row `r` of the tile. */
template <class s_t>
GPU_INLINE mla_output_t row_output(const ac_mla_prefill_params_t &p, const ac_prefill_tile_t &tile, int r,
                                   const mla_softmax_t &softmax) {
    mla_output_t out;
    const bool is_final = tile.partial_row < 0;
    const int64_t row = (is_final ? tile.row : tile.partial_row) + r, index = row * p.num_heads + tile.head;
    float value_scale = scale_of(p.v_scale);
    if (s_t::BYTES == 1) value_scale *= fp8_factor_of(p.kv_dtype);
    out.empty = softmax.sum == 0;
    out.scale = value_scale / softmax.sum;
    out.lse_value = mla_lse(softmax, (float)AC_LN_2, GPU_MINUS_INFINITY);
    out.dtype = is_final ? p.o_dtype : AC_FLOAT32;
    if (is_final) {
        out.row = p.o + row * p.o_row_stride + tile.head * p.o_head_stride;
        out.lse = p.lse ? p.lse + index : nullptr;
    } else {
        out.row = out.empty ? nullptr : (char *)(p.partial_o + index * s_t::VALUE_DIM);
        out.lse = p.partial_lse + index;
    }
    if (r >= tile.rows) out.row = nullptr, out.lse = nullptr;
    return out;
}

/* Calls f with a copy of `out` whose dtype the compiler knows: one branch for all stores. */
template <class store_f> GPU_INLINE void with_dtype(mla_output_t out, store_f f) {
    if (out.dtype == AC_FLOAT32) f(out);
    else if (out.dtype == AC_BFLOAT16) f(out);
    else out.dtype = AC_FLOAT16, f(out);
}

template <class s_t>
GPU_INLINE void store_rows(const ac_mla_prefill_params_t &p, const ac_prefill_tile_t &tile, int wave,
                           const wave_rows_t<s_t> &rows) {
    constexpr int RUN = OUTPUT_RUN<s_t>;
    const uint32_t lane = lane_again();
    const mla_softmax_t softmax = {rows.softmax.base, rows.softmax.sum + other_half(rows.softmax.sum)};
    const mla_output_t output = row_output<s_t>(p, tile, wave * WAVE_ROWS + (int)lane % 32, softmax);
    with_dtype(output, [&](const mla_output_t &known) {
    GPU_UNROLL for (int run = 0; run < s_t::VALUE_DIM / 2 / RUN; run++) {
            float acc[RUN];
            GPU_UNROLL for (int i = 0; i < RUN; i++) acc[i] = output_value<s_t>(rows.out, run, i);
            mla_store_columns(known, output_column<s_t>(run), acc);
        }
    });
    if (lane < 32) mla_store_lse(output);
}

#endif
