/* Accumulators of the consumers to rows of the output, by way of shared memory. */
#ifndef AC_KERNELS_MLA_SM90_STORE_H
#define AC_KERNELS_MLA_SM90_STORE_H

#include "mla_sm90_tile.h"
#include "mla_store.h"

GPU_INLINE float sm90_scale(const ac_scale_t &scale) { return scale.pointer ? *scale.pointer : scale.value; }

/* Accumulators on their way out lie in the consumer's stage as rows of fp32; the stride spreads 4 rows over all banks.
 */
constexpr int SM90_OUT_STRIDE = 256 + 8;
static_assert(SM90_ROWS * SM90_OUT_STRIDE * 4 <= SM90_MATRIX_BYTES, "a consumer's half of the output fits a stage");

GPU_INLINE void sm90_spread_rows(float *to, int warp, const float (&o)[128]) {
    int lane = gpu_lane(), row = warp * 16 + lane / 4;
#pragma unroll
    for (int i = 0; i < 128; i += 2) {
        int column = i / 4 * 8 + (lane & 3) * 2;
        *(float2 *)(to + (row + (i >> 1 & 1) * 8) * SM90_OUT_STRIDE + column) = make_float2(o[i], o[i + 1]);
    }
}

/* Rows of the tile, one by one, a warp each: out of the consumer's stage to where they belong. */
GPU_INLINE void sm90_store_rows(const ac_mla_decode_params_t &p, const sm90_item_t &item, int self, int warp) {
    const sm90_side_t &side = sm90_shared().side;
    int lane = gpu_lane();
    float value_scale = sm90_scale(p.kv_scale);
#pragma unroll 1
    for (int r = warp; r < item.work.num_rows; r += 4) {
        mla_softmax_t sum = mla_softmax_start();
        if (item.tiles > 0) {
            mla_softmax_t a = side.share[0][r], b = side.share[1][r];
            sum.base = gpu_max(a.base, b.base);
            sum.sum = a.sum * mla_rebase(a.base, sum.base) + b.sum * mla_rebase(b.base, sum.base);
        }
        mla_output_t out = mla_find_output(p, item.work, mla_find_row(p, item.work, item.range, r), sum, value_scale);
        if (self == 0 && lane == 0) mla_store_lse(out);
        const float *from = (const float *)sm90_shared().key[self] + r * SM90_OUT_STRIDE + lane * 4;
#pragma unroll
        for (int half = 0; half < 2; half++) {
            float4 v = *(const float4 *)(from + half * 128);
            float four[4] = {v.x, v.y, v.z, v.w};
            mla_store_columns(out, self * 256 + half * 128 + lane * 4, four);
        }
    }
}

#endif
