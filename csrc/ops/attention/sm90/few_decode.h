/* Decode of a workgroup's items with at most 16 rows on sm_90a: see few_tile.h. */
#ifndef AC_OPS_ATTENTION_SM90_FEW_DECODE_H
#define AC_OPS_ATTENTION_SM90_FEW_DECODE_H

#include "few_consumer.h"
#include "few_loader.h"

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

/* Registers: the launch has 168 for a thread. next_work(&done, &work) and fill(thread, threads): see sm90_decode(). */
template <class KIND, sm90_items_t ITEMS, int LOADER, int CONSUMER, class next_work_f, class fill_f>
GPU_INLINE void few_decode(const ac_attention_params_t &p, next_work_f next_work, fill_f fill,
                           const int32_t *const &work_indptr) {
    static_assert(LOADER * 128 + CONSUMER * 32 * FEW_WARPS <= 168 * FEW_THREADS, "the launch's registers");
    few_item_t item = {};
    if (gpu_thread() == 0) few_init_barriers<KIND>();
    gpu_barrier();
    bool more = few_next_item(p, next_work, &item);
    few_ring_t<KIND> ring = {0, 0};
    /* The shuffle tells the compiler that it is the same for all lanes. */
    int warp = __shfl_sync(0xffffffffu, gpu_thread() / 32, 0), lane = gpu_lane();
    if (warp < 4) {
        sm90_fewer_registers<LOADER>();
        few_loader<KIND> loader = {p, warp, lane, sm90_is_aligned(p.kv[0].cache)};
        while (more) {
            loader.run(item, &ring);
            if (ITEMS == SM90_ONE_ITEM || !work_indptr) break;
            more = few_next_item(p, next_work, &item);
        }
        fill(gpu_thread(), 128);
    } else {
        sm90_more_registers<CONSUMER>();
        float value_scale = sm90_scale(p.kv_scale), o[8][4];
        uint32_t q[18][4];
        few_consumer<KIND> consumer = {
            p, warp - 4, lane, o, q, {}, sm90_score_scale(p), {}, 0, {}, p.kv[0].cache.rope_dim > 0};
        for (int parity = 0; more; parity ^= 1) {
            consumer.find_places(item, parity);
            if (item.tiles > 0) consumer.template run<ITEMS>(item, &ring);
            consumer.store(item, parity, value_scale);
            if (ITEMS == SM90_ONE_ITEM || !work_indptr) break;
            more = few_next_item(p, next_work, &item);
        }
    }
}

#endif
