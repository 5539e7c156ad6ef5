/* Queries that the matrix type does not hold, as sums of terms that it does. */
#ifndef AC_KERNELS_MLA_SM90_QUERY_TERMS_H
#define AC_KERNELS_MLA_SM90_QUERY_TERMS_H

#include "mla_sm90_convert.h"
#include "mla_sm90_tile.h"

/* Element i of a row of the queries; 0 behind the last row. */
GPU_INLINE float sm90_query_element(const char *q, int dtype, int i) {
    if (!q) return 0;
    if (dtype == AC_FLOAT32) return gpu_load<float>(q + i * 4);
    uint32_t bits = gpu_load<uint16_t>(q + i * 2);
    return dtype == AC_BFLOAT16 ? sm90_unpack<SM90_BF16>(bits, 0) : sm90_unpack<SM90_F16>(bits, 0);
}

/* Queries in three terms that sum up to them, a warp a row. For fp16 the row is scaled by a power of two first: its
 * largest element then lies just below the largest fp16, and what is lost lies 2^-39 below that. */
template <class KIND>
GPU_INLINE void sm90_split_queries(const ac_mla_decode_params_t &p, const sm90_item_t &item, int thread) {
    uint32_t matrix = sm90_shared_address(sm90_shared().query);
    int width = AC_MLA_DV + p.kv.rope_dim, lane = gpu_lane();
    for (int i = thread; i < 16 * 72; i += 256)
        sm90_store16(sm90_chunk(matrix, 48 + i / 72, i % 72), make_uint4(0, 0, 0, 0)); /* a fourth term that is none */
#pragma unroll 1
    for (int r = thread / 32; r < KIND::ROWS; r += 8) {
        mla_row_t row = mla_find_row(p, item.work, item.range, r);
        const char *q = p.q + row.query * p.q_row_stride + row.head * p.q_head_stride;
        if (r >= item.work.num_rows) q = nullptr;
        float scale = 1, largest = 0;
        if (KIND::TYPE == SM90_F16) {
#pragma unroll 1
            for (int i = lane; i < width; i += 32) {
                float x = fabsf(sm90_query_element(q, p.q_dtype, i));
                if (x <= GPU_FLT_MAX) largest = gpu_max(largest, x);
            }
#pragma unroll
            for (int distance = 16; distance; distance /= 2)
                largest = gpu_max(largest, __shfl_xor_sync(0xffffffffu, largest, distance));
            int exponent = (int)(__float_as_uint(largest) >> 23) - 127; /* -127: zero or subnormal */
            scale = __uint_as_float((uint32_t)(127 + (14 - exponent < 126 ? 14 - exponent : 126)) << 23);
        }
        if (lane == 0) sm90_shared().side.row_scale[r] = 1 / scale;
#pragma unroll 1
        for (int i = lane * 2; i < width; i += 64) {
            float rest[2] = {sm90_query_element(q, p.q_dtype, i) * scale,
                             sm90_query_element(q, p.q_dtype, i + 1) * scale};
#pragma unroll
            for (int term = 0; term < KIND::TERMS; term++) {
                uint32_t pair = sm90_pack<KIND::TYPE>(rest[0], rest[1]);
                char *to = sm90_shared().query + (sm90_chunk(matrix, 16 * term + r, i / 8) - matrix) + i % 8 * 2;
                *(uint32_t *)to = pair;
#pragma unroll
                for (int k = 0; k < 2; k++) /* an infinite element has one term */
                    rest[k] = fabsf(rest[k]) <= GPU_FLT_MAX ? rest[k] - sm90_unpack<KIND::TYPE>(pair, k) : 0;
            }
        }
    }
}

#endif
