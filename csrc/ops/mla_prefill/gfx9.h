/* Prefill on gfx942 and gfx950. Four waves have 32 query rows each of one head; they load tiles of keys and values into
 * LDS together. Two workgroups share a compute unit: while one of two waves on a SIMD is at its softmax, the other
 * multiplies. */
#ifndef AC_OPS_MLA_PREFILL_GFX9_H
#define AC_OPS_MLA_PREFILL_GFX9_H

#include "gfx9/attend.h"
#include "gfx9/finish.h"

#define AC_FAMILY_ROWS "mla_prefill/kernels.inc"
#include "../local_bytes.inc"

/* The wave's rows; those past the tile's last are the last one's, and never stored. */
template <class s_t>
GPU_INLINE void start_rows(const ac_mla_prefill_params_t &p, const ac_prefill_tile_t &tile, int wave,
                           wave_rows_t<s_t> *rows) {
    const uint32_t lane = lane_again();
    const int first = wave * WAVE_ROWS, last = tile.rows - 1;
    auto row_of = [&](int r) { return r < last ? r : last; };
    auto hidden = [&](int r) { /* first_end may be far below 0 */
                               return tile.end -
                                      (int)ac_clamp64((int64_t)tile.first_end + row_of(r), tile.begin, tile.end);
    };
    rows->hidden = hidden(first + lane % 32);
    rows->hidden_most = hidden(first), rows->hidden_least = hidden(first + WAVE_ROWS - 1);
    if (first >= tile.rows) rows->hidden_most = rows->hidden_least = tile.end - tile.begin; /* nothing to do */
    rows->key_part = key_part<s_t>(lane), rows->value_part = value_part<s_t>(lane);
    rows->softmax = mla_softmax_start();
    GPU_UNROLL for (int t = 0; t < s_t::COLUMN_TILES; t++) rows->out[t] = (f32x16_t){};
    float scale = (float)(p.sm_scale * AC_LOG2_E) * scale_of(p.q_scale) * scale_of(p.k_scale);
    const char *q = p.q + (tile.row + row_of(first + lane % 32)) * p.q_row_stride + tile.head * p.q_head_stride;
    if constexpr (s_t::WIDENS) {
        GPU_UNROLL for (int i = 0; i < s_t::QUERY; i++) {
            const u32x2_t half = gpu_load<u32x2_t>(q + lane / 32 * 8 + i * 16);
            const u32x4_t loaded[1] = {{half.x, half.y, 0, 0}};
            u32x4_t chunks[2];
            widen_fp8<typename s_t::matrix_t>(loaded, fp8_is_other(p.q_dtype), chunks);
            rows->query[i] = chunks[0];
        }
    } else {
        GPU_UNROLL for (int i = 0; i < s_t::QUERY; i++)
            rows->query[i] = gpu_load<u32x4_t>(q + lane / 32 * 16 + i * 32);
    }
#if defined(__gfx942__)
    if constexpr (s_t::BYTES == 1) {
        scale *= fp8_factor_of(p.q_dtype) * fp8_factor_of(p.kv_dtype);
        if (fp8_is_other(p.q_dtype)) fnuz_of_fn(rows->query);
    }
#endif
    GPU_UNROLL for (int i = s_t::REGISTER_CHUNKS; i < s_t::QUERY; i++)
        lds<u32x4_t>(lds_query<s_t>(wave, i)) = rows->query[i];
    rows->scale = scale;
}

template <class s_t>
GPU_INLINE void prefill_tile(const ac_mla_prefill_params_t &p, const ac_prefill_tile_t &tile, int wave) {
    wave_rows_t<s_t> rows;
    prefill_stream_t<s_t> stream;
    u32x4_t probabilities[s_t::VALUE_CHUNKS];
    start_rows(p, tile, wave, &rows);
    stream.start(prefill_source(p, tile), wave);
    bool more = stream.take_keys();
    for (; more; more = stream.take_keys()) {
        const auto keys = tile_keys(stream);
        if (!sees_all(rows, keys)) break;
        stream.start_values();
        score_tile<s_t, true>(stream, keys, &rows, probabilities);
        stream.take_values();
        add_values<s_t, true>(stream.values + rows.value_part, keys, probabilities, false, &rows);
    }
    for (; more; more = stream.take_keys()) {
        const auto keys = tile_keys(stream);
        const bool some = sees_from(rows, keys, 0);
        stream.start_values();
        if (some) score_tile<s_t, false>(stream, keys, &rows, probabilities);
        stream.take_values();
        if (some) add_masked_values(stream.values, keys, probabilities, &rows);
    }
    store_rows(p, tile, wave, rows);
    gpu_barrier(); /* the next tile takes the same LDS */
}

/* Kernel mla_prefill_<name>. */
#define PREFILL(name, ...)                                                                                             \
    typedef shape_t<__VA_ARGS__> name##_shape_t;                                                                       \
    CHECK_LOCAL_BYTES("mla_prefill_" #name, name##_shape_t::BYTES_USED);                                               \
    GPU_KERNEL_OF(WAVES * 64, 2) mla_prefill_##name(GPU_PARAMS(ac_mla_prefill_params_t) by_value) {                    \
        const int wave = gpu_uniform(gpu_thread() / 64);                                                               \
        ac_prefill_cursor_t cursor = {0, 0};                                                                           \
        ac_prefill_tile_t tile;                                                                                        \
        while (ac_prefill_next(&gpu_params_again(by_value), gpu_block(), PREFILL_ROWS, &cursor, &tile))                \
            prefill_tile<name##_shape_t>(gpu_params_again(by_value), tile, wave);                                      \
    }

/*                                   D, DV, TILE, STAGES, LDS_CHUNKS, SHARED */
#if defined(__gfx950__)
PREFILL(bf16_d192, bf16_matrix_t, 192, 128, 32, 3, 0, false)
PREFILL(f16_d192, f16_matrix_t, 192, 128, 32, 3, 0, false)
PREFILL(fp8_d192, fp8_matrix_t, 192, 128, 64, 3, 0, false)
PREFILL(bf16_d256, bf16_matrix_t, 256, 256, 32, 2, 3, false)
PREFILL(f16_d256, f16_matrix_t, 256, 256, 32, 2, 3, false)
PREFILL(fp8_d256, fp8_matrix_t, 256, 256, 64, 2, 3, false)
PREFILL(bf16_fp8_d192, bf16_matrix_t, 192, 128, 32, 2, 0, false, true)
PREFILL(bf16_fp8_d256, bf16_matrix_t, 256, 256, 32, 2, 3, false, true)
#else
PREFILL(bf16_d192, bf16_matrix_t, 192, 128, 32, 0, 0, false)
PREFILL(f16_d192, f16_matrix_t, 192, 128, 32, 0, 0, false)
PREFILL(fp8_d192, fp8_matrix_t, 192, 128, 64, 0, 0, false)
PREFILL(bf16_d256, bf16_matrix_t, 256, 256, 32, 0, 3, true)
PREFILL(f16_d256, f16_matrix_t, 256, 256, 32, 0, 3, true)
PREFILL(fp8_d256, fp8_matrix_t, 256, 256, 64, 0, 3, true)
#endif

#endif
