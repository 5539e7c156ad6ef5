/* Keys at any address, and those for which there are no registers: one at a time, slowly. */
#ifndef AC_KERNELS_MLA_SM90_KEY_GATHER_H
#define AC_KERNELS_MLA_SM90_KEY_GATHER_H

#include "mla_sm90_producer.h"

/* Runs of 16-bit elements, from any address, slowly. In a record they may begin at an odd one. */
template <class KIND>
SM90_MEMBER void sm90_producer<KIND>::gather_row(uint32_t to, int key, const char *row, int first_chunk,
                                                 int chunks) const {
#pragma unroll 1
    for (int c = part(); c < chunks; c += LANES)
        sm90_store16(sm90_chunk(to, key, first_chunk + c),
                     sm90_fetch16<KIND::SOURCE == SM90_RECORDS ? 1 : 2>(row ? row + c * 16 : nullptr, aligned));
}

template <class KIND>
template <bool FNUZ>
SM90_MEMBER void sm90_producer<KIND>::gather_fp8_row(uint32_t to, int key, const char *row, int first_chunk,
                                                     int chunks) const {
#pragma unroll 1
    for (int c = part() * 2; c < chunks; c += 2 * LANES)
        sm90_store_widened<KIND::TYPE, FNUZ>(to, key, first_chunk + c,
                                             sm90_fetch16<1>(row ? row + c * 8 : nullptr, aligned));
}

template <class KIND>
SM90_MEMBER void sm90_producer<KIND>::gather(int stage, uint32_t parity, const rows_t &rows) const {
    uint32_t to = matrix(stage);
    start_tile(stage, parity, rows);
    wait_empty(stage, 1, parity);
#pragma unroll 1
    for (int i = 0; i < THREAD_KEYS; i++) {
        const char *latent = rows.latent[0];
        int32_t row = rows.row[0];
#pragma unroll
        for (int k = 1; k < THREAD_KEYS; k++)
            if (i == k) latent = rows.latent[k], row = rows.row[k];
#pragma unroll 1
        for (int is_rope = 0; is_rope <= (p.kv.rope_dim > 0); is_rope++) {
            const char *from = latent && is_rope ? rope(latent, row) : latent;
            int first = is_rope ? SM90_ROPE_PANEL * 8 : 0, chunks = is_rope ? 8 : 64;
            if (KIND::SOURCE == SM90_SAME || (KIND::SOURCE == SM90_RECORDS && is_rope))
                gather_row(to, key(i), from, first, chunks);
            else if (KIND::SOURCE == SM90_FP8 && fnuz) gather_fp8_row<true>(to, key(i), from, first, chunks);
            else gather_fp8_row<false>(to, key(i), from, first, chunks);
        }
        if (KIND::SOURCE == SM90_RECORDS)
            side.scales[stage][key(i)][part()] = latent ? gpu_load<float>(scales(latent, row) + part() * 4) : 0;
    }
    stored(stage, 0);
    stored(stage, 1);
    if (KIND::SOURCE == SM90_RECORDS) sm90_copies_arrive(full(stage, 1));
}

#endif
