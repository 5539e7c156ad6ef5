/* The order in which the producer works. */
#ifndef AC_KERNELS_MLA_SM90_PRODUCE_H
#define AC_KERNELS_MLA_SM90_PRODUCE_H

#include "mla_sm90_key_copy.h"
#include "mla_sm90_key_gather.h"
#include "mla_sm90_key_rows.h"
#include "mla_sm90_key_widen.h"

/* Unit 0 of the stage is free; tells the consumers which of the warp's keys exist. */
template <class KIND>
SM90_MEMBER void sm90_producer<KIND>::start_tile(int stage, uint32_t parity, const rows_t &rows) const {
    wait_empty(stage, 0, parity);
    if (lane == 0) side.exists[stage][warp] = (uint16_t)rows.exist;
}

/* The warp has written its keys' part of the unit by ordinary stores. Consumers do the fence that lets matrix products
 * see them: here it would wait for the loads of the next keys. */
template <class KIND> SM90_MEMBER void sm90_producer<KIND>::stored(int stage, int unit) const {
    sm90_barrier_arrive(full(stage, unit));
    if (WIDENS || unit) return;
    __syncwarp();
    if (lane == 0) sm90_barrier_arrive(full(stage, 0)); /* as copy() does */
}

/* Pages are looked up two tiles ahead, rows found one ahead. Behind the range nothing is found. */
template <class KIND>
template <bool GATHERS>
SM90_MEMBER void sm90_producer<KIND>::walk(const sm90_item_t &item) const {
    mla_cursor_t cursor = mla_cursor_at(p, item.work, item.range, item.range.begin);
    mla_place_t places[THREAD_KEYS];
    batch_t first;
    find_places(cursor, places);
    rows_t rows = next_rows(&cursor, places);
    if constexpr (WIDENS && !GATHERS) load(rows, 0, &first);
#pragma unroll 1
    for (int tile = 0; tile < item.tiles; tile++) {
        int stage = tile & 1;
        uint32_t parity = (tile >> 1 & 1) ^ 1;
        if constexpr (WIDENS && !GATHERS) {
            rows = widen(stage, parity, rows, &cursor, places, &first);
        } else {
            if constexpr (GATHERS) gather(stage, parity, rows);
            else copy(stage, parity, rows);
            rows = next_rows(&cursor, places);
        }
    }
}

/* Two loops: what the fast one holds in registers is not there in the other. */
template <class KIND> SM90_MEMBER void sm90_producer<KIND>::run(const sm90_item_t &item) const {
    if constexpr (FAST) {
        if (aligned) return walk<false>(item);
    }
    walk<true>(item);
}

template <class KIND> GPU_INLINE void sm90_produce(const ac_mla_decode_params_t &p, const sm90_item_t &item, int warp) {
    int lane;
    asm volatile("mov.u32 %0, %1;"
                 : "=r"(lane)
                 : "r"(gpu_lane())); /* kept in a register, not worked out again and again */
    sm90_producer<KIND> producer = {p, sm90_shared().side, warp, lane, sm90_is_aligned(p.kv),
                                    p.kv.latent_dtype == AC_FLOAT8_E4M3FNUZ};
    producer.run(item);
}

#endif
