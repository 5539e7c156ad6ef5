/* Decode of a workgroup's items with at most 16 rows on sm_90a: see few_tile.h. */
#ifndef AC_OPS_ATTENTION_SM90_FEW_DECODE_H
#define AC_OPS_ATTENTION_SM90_FEW_DECODE_H

#include "few_consumer.h"
#include "few_loader.h"

constexpr int FEW_INIT_WARP = 4; /* computes, and can wait; so can the others, until keys are there */

template <class KIND> GPU_INLINE void few_init_barriers() {
    few_shared_t<KIND> &shared = few_shared<KIND>();
    GPU_UNROLL for (int i = 0; i < KIND::STAGES; i++) {
        sm90_barrier_init(sm90_shared_address(&shared.full[i]), 128);
        sm90_barrier_init(sm90_shared_address(&shared.empty[i]), 32 * FEW_WARPS);
    }
    sm90_barrier_init(sm90_shared_address(&shared.scored), 32 * FEW_WARPS);
    shared.moves[0] = shared.moves[1] = 0;
    sm90_fence_async(); /* the copy engine counts on them */
}

/* Registers: the launch has 168 for a thread. fill(thread, threads): see sm90_decode(). The start is code that runs
 * once, so there is as little of it as can be between the launch and the first loads of lists, keys and queries. */
template <class KIND, int LOADER, int CONSUMER, class items_t, class fill_f>
GPU_INLINE void few_decode(const items_t &items, fill_f fill) {
    static_assert(LOADER * 128 + CONSUMER * 32 * FEW_WARPS <= 168 * FEW_THREADS, "the launch's registers");
    const ac_attention_params_t &p = items.p;
    /* The shuffle tells the compiler that it is the same for all lanes. */
    int warp = __shfl_sync(0xffffffffu, gpu_thread() / 32, 0), lane = gpu_lane();
    if (warp == FEW_INIT_WARP && lane == 0) few_init_barriers<KIND>();
    few_item_t item = {};
    bool more = few_next_item<true>(items, &item);
    few_ring_t<KIND> ring = {0, 0};
    if (warp < 4) {
        sm90_fewer_registers<LOADER>();
        few_loader<KIND> loader = {p, warp, lane, sm90_is_aligned(p.kv[0].cache)};
        if (more) loader.template run<true>(item, items.begin(item.work, item.range), &ring);
        if constexpr (items_t::GRID) {
            if (more && warp == 0) {
                if (lane < FEW_ROWS) few_shared<KIND>().place[0][lane] = few_find_place(items, item, lane);
                __syncwarp();
                sm90_sync_arrive(FEW_SYNC_PLACES, 32 * FEW_WARPS + 32);
            }
        } else {
            while (more && items.of_lists()) {
                more = few_next_item<false>(items, &item);
                if (more) loader.template run<false>(item, items.begin(item.work, item.range), &ring);
            }
        }
        fill(gpu_thread(), 128);
    } else {
        sm90_more_registers<CONSUMER>();
        float o[8][4];
        uint32_t q[18][4];
        few_consumer<KIND, items_t> consumer = {
            items, warp - 4, lane, o, q, {}, 0, 0, {}, 0, {}, p.kv[0].cache.rope_dim > 0};
        if (warp == FEW_INIT_WARP && more) {
            __syncwarp();
            sm90_sync_arrive(FEW_SYNC_READY, 128 + 32);
        }
        for (int parity = 0; more; parity ^= 1) {
            consumer.run(item, parity, &ring);
            consumer.store(item, parity);
            if (!items.of_lists()) break;
            more = few_next_item<false>(items, &item);
        }
    }
}

#endif
