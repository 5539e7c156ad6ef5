/* Queries on their way into shared memory, by the 256 threads of the consumers. */
#ifndef AC_OPS_ATTENTION_SM90_QUERY_H
#define AC_OPS_ATTENTION_SM90_QUERY_H

#include "../../../gpu/sm90/convert.h"
#include "tile.h"

/* Element i of a row of the queries; 0 past the last row. */
GPU_INLINE float sm90_query_element(const char *q, int dtype, int i) {
    if (!q) return 0;
    if (dtype == AC_FLOAT32) return gpu_load<float>(q + i * 4);
    uint32_t bits = gpu_load<uint16_t>(q + i * 2);
    return dtype == AC_BFLOAT16 ? sm90_unpack<SM90_BF16>(bits, 0) : sm90_unpack<SM90_F16>(bits, 0);
}

/* Queries as sums of three terms, one warp per row. For fp16 the row is scaled by a power of two first: its
 * largest element is then just below the largest fp16, and what is lost is 2^-39 of that. */
template <class KIND>
GPU_INLINE void sm90_split_queries(const ac_attention_params_t &p, const sm90_item_t &item, int thread) {
    uint32_t matrix = sm90_shared_address(sm90_shared().query);
    int width = AC_MLA_DV + p.kv[0].cache.rope_dim, lane = gpu_lane();
    for (int i = thread; i < 16 * 72; i += 256)
        sm90_store16(sm90_chunk(matrix, 48 + i / 72, i % 72), make_uint4(0, 0, 0, 0)); /* a fourth term: always zero */
    GPU_NO_UNROLL for (int r = thread / 32; r < KIND::ROWS; r += 8) {
        mla_row_t row = mla_tile_row(p, item.work, item.range, r);
        const char *q = p.q + row.query * p.q_row_stride + row.head * p.q_head_stride;
        if (r >= item.work.num_rows) q = nullptr;
        float scale = 1, largest = 0;
        if (KIND::TYPE == SM90_F16) {
            GPU_NO_UNROLL for (int i = lane; i < width; i += 32) {
                float x = fabsf(sm90_query_element(q, p.q_dtype, i));
                if (x <= GPU_FLT_MAX) largest = gpu_max(largest, x);
            }
        GPU_UNROLL for (int distance = 16; distance; distance /= 2)
                largest = gpu_max(largest, __shfl_xor_sync(0xffffffffu, largest, distance));
            int exponent = (int)(__float_as_uint(largest) >> 23) - 127; /* -127: zero or subnormal */
            scale = __uint_as_float((uint32_t)(127 + (14 - exponent < 126 ? 14 - exponent : 126)) << 23);
        }
        if (lane == 0) sm90_shared().side.row_scale[r] = 1 / scale;
        GPU_NO_UNROLL for (int i = lane * 2; i < width; i += 64) {
            float rest[2] = {sm90_query_element(q, p.q_dtype, i) * scale,
                             sm90_query_element(q, p.q_dtype, i + 1) * scale};
            GPU_UNROLL for (int term = 0; term < KIND::TERMS; term++) {
                uint32_t pair = sm90_pack<KIND::TYPE>(rest[0], rest[1]);
                char *to = sm90_shared().query + (sm90_chunk(matrix, 16 * term + r, i / 8) - matrix) + i % 8 * 2;
                *(uint32_t *)to = pair;
                GPU_UNROLL for (int k = 0; k < 2; k++) /* an infinite element has one term */
                    rest[k] = fabsf(rest[k]) <= GPU_FLT_MAX ? rest[k] - sm90_unpack<KIND::TYPE>(pair, k) : 0;
            }
        }
    }
}

/* Queries of the matrix type; a thread has the chunks c, c + 8, ... of two rows. */
GPU_INLINE void sm90_copy_queries(const ac_attention_params_t &p, const sm90_item_t &item, int thread) {
    uint32_t matrix = sm90_shared_address(sm90_shared().query);
    int chunk = thread % 8;
    GPU_UNROLL for (int r = thread / 8; r < SM90_ROWS; r += 32) {
        mla_row_t row = mla_tile_row(p, item.work, item.range, r);
        const char *q = p.q + row.query * p.q_row_stride + row.head * p.q_head_stride + chunk * 16;
        uint32_t to = sm90_chunk(matrix, r, chunk), bytes = r < item.work.num_rows ? 16 : 0;
        GPU_UNROLL for (int panel = 0; panel < 9; panel++)
            if (panel < 8 || p.kv[0].cache.rope_dim)
                sm90_copy16(to + panel * SM90_PANEL_BYTES, q + panel * 128, bytes);
    }
    sm90_copies_wait();
}

/* fp8 queries: all of a thread's loads, then all of its conversions. */
template <class KIND, bool FNUZ>
GPU_INLINE void sm90_widen_queries(const ac_attention_params_t &p, const sm90_item_t &item, int thread) {
    constexpr int RUNS = 9; /* of 16 elements: a quarter of a row */
    uint32_t matrix = sm90_shared_address(sm90_shared().query);
    int r = thread / 4, part = thread % 4, runs = (AC_MLA_DV + p.kv[0].cache.rope_dim) / 64;
    mla_row_t row = mla_tile_row(p, item.work, item.range, r);
    const char *q = p.q + row.query * p.q_row_stride + row.head * p.q_head_stride + part * 16;
    bool exists = r < item.work.num_rows;
    uint4 raw[RUNS];
    GPU_UNROLL for (int i = 0; i < RUNS; i++) raw[i] = sm90_load16_if(exists && i < runs, q + i * 64);
    GPU_UNROLL for (int i = 0; i < RUNS; i++)
        if (i < runs) sm90_store_widened<KIND::TYPE, FNUZ>(matrix, r, i * 8 + part * 2, raw[i]);
}

/* Queries at any address. */
template <class KIND>
GPU_INLINE void sm90_gather_queries(const ac_attention_params_t &p, const sm90_item_t &item, int thread) {
    uint32_t matrix = sm90_shared_address(sm90_shared().query);
    bool fn = p.q_dtype == AC_FLOAT8_E4M3FN, fp8 = fn || p.q_dtype == AC_FLOAT8_E4M3FNUZ;
    int runs = (AC_MLA_DV + p.kv[0].cache.rope_dim) / 16; /* of 16 elements, in a row */
    GPU_NO_UNROLL for (int i = thread; i < SM90_ROWS * runs; i += 256) {
        int r = i / runs, run = i % runs;
        mla_row_t row = mla_tile_row(p, item.work, item.range, r);
        const char *q = p.q + row.query * p.q_row_stride + row.head * p.q_head_stride + run * (fp8 ? 16 : 32);
        if (r >= item.work.num_rows) q = nullptr;
        if (!fp8) {
            GPU_NO_UNROLL for (int half = 0; half < 2; half++)
                sm90_store16(sm90_chunk(matrix, r, run * 2 + half),
                             sm90_fetch16<2>(q ? q + 16 * half : nullptr, false));
            continue;
        }
        uint4 raw = sm90_fetch16<1>(q, false);
        if (fn) sm90_store_widened<KIND::TYPE, false>(matrix, r, run * 2, raw);
        else sm90_store_widened<KIND::TYPE, true>(matrix, r, run * 2, raw);
    }
}

template <class KIND>
GPU_INLINE void sm90_load_queries(const ac_attention_params_t &p, const sm90_item_t &item, int thread) {
    bool aligned = (((int64_t)p.q | p.q_row_stride | p.q_head_stride) & 15) == 0;
    if constexpr (KIND::TERMS > 1) sm90_split_queries<KIND>(p, item, thread);
    else if (!aligned) sm90_gather_queries<KIND>(p, item, thread);
    else if (p.q_dtype == AC_FLOAT8_E4M3FN) sm90_widen_queries<KIND, false>(p, item, thread);
    else if (p.q_dtype == AC_FLOAT8_E4M3FNUZ) sm90_widen_queries<KIND, true>(p, item, thread);
    else sm90_copy_queries(p, item, thread);
    sm90_fence_async();
    sm90_sync(SM90_SYNC_CONSUMERS, 256);
}

#endif
