/* Keys of 16 bits: asynchronous copies, straight to shared memory. */
#ifndef AC_KERNELS_MLA_SM90_KEY_COPY_H
#define AC_KERNELS_MLA_SM90_KEY_COPY_H

#include "mla_sm90_producer.h"

template <class KIND>
SM90_MEMBER void sm90_producer<KIND>::copy(int stage, uint32_t parity, const rows_t &rows) const {
    uint32_t to = matrix(stage);
    start_tile(stage, parity, rows);
#pragma unroll
    for (int unit = 0; unit < 2; unit++) {
        if (unit) wait_empty(stage, unit, parity);
#pragma unroll
        for (int i = 0; i < THREAD_KEYS; i++) {
            const char *row = rows.latent[i];
            const char *from = (row ? row + unit * 512 : p.kv.base) + part() * 16;
            uint32_t at = sm90_chunk(to + unit * 4 * SM90_PANEL_BYTES, key(i), part());
#pragma unroll
            for (int panel = 0; panel < 4; panel++)
                sm90_copy16(at + panel * SM90_PANEL_BYTES, row ? from + panel * 128 : p.kv.base, row ? 16 : 0);
            if (unit && p.kv.rope_dim)
                sm90_copy16(at + 4 * SM90_PANEL_BYTES, row ? from + 4 * 128 : p.kv.base, row ? 16 : 0);
        }
        sm90_copies_arrive(full(stage, unit));
    }
    __syncwarp();
    if (lane == 0) sm90_barrier_arrive(full(stage, 0)); /* `exists`, which the copies do not wait for */
}

#endif
