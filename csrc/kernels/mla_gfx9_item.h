/* A work item, and what every arrangement of waves needs of it. */
#ifndef AC_KERNELS_MLA_GFX9_ITEM_H
#define AC_KERNELS_MLA_GFX9_ITEM_H

#include "mla_gfx9_finish.h"

#define WAVES 4

typedef struct item_t {
    ac_mla_work_t work;
    mla_range_t range;
    float score_scale; /* with log2(e): scores are in base 2 */
    float value_scale;
    float unit; /* of the fp8 scales of a record */
    bool foreign; /* fp8 keys are not of the arch's kind */
} item_t;

GPU_INLINE float scale_of(const ac_scale_t &scale) { return scale.pointer ? *scale.pointer : scale.value; }

template <class source_t> GPU_INLINE bool find_item(const ac_mla_decode_params_t &p, int tile_rows, item_t *out) {
    if (!ac_mla_work(&p, gpu_block(), tile_rows, &out->work)) return false;
    out->range = mla_find_range(p, out->work);
    bool widens = source_t::WIDEN == 2;
    float kv_scale = scale_of(p.kv_scale), unit = widens ? fp8_unit(p.kv.latent_dtype) : 1;
    out->foreign = widens && fp8_is_foreign(p.kv.latent_dtype);
    out->unit = source_t::SCALED ? unit : 1;
    if (!source_t::SCALED) kv_scale *= unit;
    out->score_scale = (float)(p.sm_scale * 1.4426950408889634 * scale_of(p.q_scale) * kv_scale);
    out->value_scale = kv_scale;
    return true;
}

GPU_INLINE const char *query_row(const ac_mla_decode_params_t &p, const mla_row_t &row) {
    return p.q + row.query * p.q_row_stride + row.head * p.q_head_stride;
}

template <int N> GPU_INLINE void start_rows(const mla_row_t &row, rows_t<N> *rows) {
    const f32x4_t zero = {0, 0, 0, 0};
    rows->softmax = mla_softmax_start();
    rows->unseen = row.unseen;
    UNROLLED for (int b = 0; b < N; b++)
        UNROLLED for (int e = 0; e < TILES; e++) rows->out[b][e] = zero;
}

template <int GROUPS>
GPU_INLINE void find_places(const ac_kv_cache_t &kv, const mla_cursor_t &cursor, mla_place_t (&out)[GROUPS]) {
    UNROLLED for (int n = 0; n < GROUPS; n++) out[n] = mla_find_place(kv, cursor, 16 * n + gpu_lane() % 16);
}

/* Looks up where a row's results go; again, and from an opaque lane number, so that nothing of a row was kept in
 * registers for it. */
GPU_INLINE mla_output_t find_output(const ac_mla_decode_params_t &p, const item_t &item, int first_row,
                                    const mla_softmax_t &softmax) {
    int r = first_row + gpu_lane() % 16;
    asm volatile("" : "+v"(r));
    mla_row_t row = mla_find_row(p, item.work, item.range, r);
    mla_output_t out = mla_find_output(p, item.work, row, softmax, item.value_scale);
    if (r >= item.work.num_rows) out.row = nullptr, out.lse = nullptr;
    return out;
}

#endif
