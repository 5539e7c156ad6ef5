/* Decode of a workgroup's items over records on sm_90a: see records_tile.h. */
#ifndef AC_OPS_ATTENTION_SM90_RECORDS_DECODE_H
#define AC_OPS_ATTENTION_SM90_RECORDS_DECODE_H

#include "records_loader.h"
#include "records_output.h"
#include "records_scores.h"

constexpr int RECORDS_INIT_WARP = 15; /* of the output; loader and scores have more to do before they meet it */

template <int N> GPU_INLINE void records_init_barriers() {
    records_side_t<N> &side = records_shared<N>().side;
    GPU_UNROLL for (int i = 0; i < 4; i++) {
        sm90_barrier_init(sm90_shared_address(&side.full[i]), 128 + 4); /* the loader's threads; a lane of each warp */
        sm90_barrier_init(sm90_shared_address(&side.empty[i]), 256);
    }
    GPU_UNROLL for (int i = 0; i < 2; i++) {
        sm90_barrier_init(sm90_shared_address(&side.scored[i]), 128);
        sm90_barrier_init(sm90_shared_address(&side.multiplied[i]), 256);
    }
    sm90_barrier_init(sm90_shared_address(&side.summed), 128);
    sm90_barrier_init(sm90_shared_address(&side.stored), 256);
}

/* Registers of the warpgroups' threads: loader + scores + 2 output <= 512. fill(thread, threads): see sm90_decode().
 * All find the first item, and all that compute load its queries. */
template <int N, int LOADER, int SCORES, int OUTPUT, class items_t, class fill_f>
GPU_INLINE void records_decode(const items_t &items, fill_f fill) {
    static_assert(LOADER + SCORES + 2 * OUTPUT <= 512, "a unit has 65,536 registers");
    const ac_attention_params_t &p = items.p;
    records_side_t<N> &side = records_shared<N>().side;
    int warp = __shfl_sync(0xffffffffu, gpu_thread() / 32, 0), lane = gpu_lane(), thread = gpu_thread() % 128;
    if (warp == RECORDS_INIT_WARP && lane == 0) records_init_barriers<N>();
    records_item_t item = {};
    bool more = records_next_item<true>(items, &item);
    if (warp < 4) {
        sm90_fewer_registers<LOADER>();
        records_loader<N> loader = {p, warp, lane};
        int stage = 0;
        uint32_t parity = 0;
        for (bool is_first = true; more; is_first = false) {
            loader.run(item.tiles, items.begin(item.work, item.range), is_first, &stage, &parity);
            more = items.of_lists() && records_next_item<false>(items, &item);
        }
        sm90_copies_wait(); /* none is to run when the workgroup ends */
        fill(thread, 128);
        return;
    }
    if (warp == RECORDS_INIT_WARP && more) {
        __syncwarp();
        sm90_sync_arrive(RECORDS_SYNC_READY, 128 + 32);
    }
    float scales[2] = {sm90_ask_scale(p.q_scale), sm90_ask_scale(p.kv_scale)};
    if (more && item.tiles > 0)
        records_query<N, RECORDS_WARPS, items_t>{p, items, item, warp - 4, lane}.run(
            (float)((p.sm_scale * scales[0] * scales[1]) * AC_LOG2_E));
    if (gpu_thread() == 128) side.item = item;
    sm90_fence_async(); /* the queries */
    if (warp < 8) {
        if (SCORES > 128) sm90_more_registers<SCORES>();
        else sm90_fewer_registers<SCORES>();
        float sum[records_scores<N, items_t>::SUMS];
        records_scores<N, items_t> scores = {items, p, side, thread / 32, thread % 32, 0, 0, 0, 0, 0, sum};
        if (more) scores.prepare(item);
        sm90_sync(RECORDS_SYNC_FIRST, 32 * RECORDS_WARPS);
        for (bool is_first = true; more; is_first = false) {
            if (!is_first) {
                scores.sync();
                records_item_t next = {};
                next.done = side.item.done;
                more = records_next_item<false>(items, &next);
                scores.sync();
                if (!more) break;
                if (thread == 0) side.item = next;
                scores.sync();
                scores.start(side.item);
            }
            scores.run(side.item, is_first);
            if (!items.of_lists()) break;
        }
        scores.end();
    } else {
        sm90_more_registers<OUTPUT>();
        sm90_sync(RECORDS_SYNC_FIRST, 32 * RECORDS_WARPS);
        if (warp < 12 && more) {
            if (thread < N) side.place[thread] = records_find_place(items, side.item, thread);
            sm90_sync_arrive(RECORDS_SYNC_PLACES, 256);
        }
        float o[4][N / 2];
        records_output<N> output = {side, warp / 4 - 2, thread / 32, thread % 32, 0, 0, 0, 0, o};
        output.run();
    }
}

#endif
