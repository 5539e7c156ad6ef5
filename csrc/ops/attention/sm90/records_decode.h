/* Decode of a workgroup's items over records on sm_90a: see records_tile.h. */
#ifndef AC_OPS_ATTENTION_SM90_RECORDS_DECODE_H
#define AC_OPS_ATTENTION_SM90_RECORDS_DECODE_H

#include "records_loader.h"
#include "records_output.h"
#include "records_scores.h"

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

/* Registers of the warpgroups' threads: loader + scores + 2 output <= 512. next_work(&done, &work) and fill(thread,
 * threads): see sm90_decode(). */
template <int N, int LOADER, int SCORES, int OUTPUT, class next_work_f, class fill_f>
GPU_INLINE void records_decode(const ac_attention_params_t &p, next_work_f next_work, fill_f fill,
                               const int32_t *const &work_indptr) {
    static_assert(LOADER + SCORES + 2 * OUTPUT <= 512, "a unit has 65,536 registers");
    records_side_t<N> &side = records_shared<N>().side;
    int warpgroup = __shfl_sync(0xffffffffu, gpu_thread() / 128, 0), thread = gpu_thread() % 128;
    if (gpu_thread() == 0) records_init_barriers<N>();
    gpu_barrier();
    if (warpgroup == 0) {
        sm90_fewer_registers<LOADER>();
        records_item_t item = {};
        records_loader<N> loader = {p, thread / 32, thread % 32};
        int stage = 0;
        uint32_t parity = 0;
        while (records_next_item(p, next_work, &item)) {
            loader.run(item, &stage, &parity);
            if (!work_indptr) break;
        }
        sm90_copies_wait(); /* none is to run when the workgroup ends */
        fill(thread, 128);
    } else if (warpgroup == 1) {
        if (SCORES > 128) sm90_more_registers<SCORES>();
        else sm90_fewer_registers<SCORES>();
        float sum[records_scores<N>::SUMS];
        records_scores<N> scores = {p, side, thread / 32, thread % 32, 0, 0, 0, 0, 0, sum};
        if (thread == 0) side.item.done = {};
        do {
            scores.sync();
            records_item_t item = {};
            item.done = side.item.done;
            bool more = records_next_item(p, next_work, &item);
            scores.sync();
            if (!more) break;
            if (thread == 0) side.item = item;
            scores.sync();
            scores.run(side.item);
        } while (work_indptr);
        scores.end();
    } else {
        sm90_more_registers<OUTPUT>();
        float o[4][N / 2];
        records_output<N> output = {side, warpgroup - 2, thread / 32, thread % 32, 0, 0, 0, 0, o};
        output.run();
    }
}

#endif
