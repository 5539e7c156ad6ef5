/* MLA decode of a workgroup's items on sm_90a: three warpgroups, one that loads keys and two that compute. See tile.h
 * for the memory, consumer.h for the order of the work. */
#ifndef AC_OPS_ATTENTION_SM90_DECODE_H
#define AC_OPS_ATTENTION_SM90_DECODE_H

#include "../store.h"
#include "consumer.h"
#include "producer.h"
#include "query.h"

/* How many items a workgroup does. Code for more of them beside the first, run or not, costs 16-bit keys 2 to 4 us. */
enum sm90_items_t { SM90_ONE_ITEM, SM90_ALL_ITEMS };

GPU_INLINE float sm90_scale(const ac_scale_t &scale) { return scale.pointer ? *scale.pointer : scale.value; }

/* Accumulators on their way out are in the consumer's stage, as rows of fp32; the stride spreads 4 rows over all banks.
 */
constexpr int SM90_OUT_STRIDE = 256 + 8;
static_assert(SM90_ROWS * SM90_OUT_STRIDE * 4 <= SM90_MATRIX_BYTES, "a consumer's half of the output fits a stage");

GPU_INLINE void sm90_spread_rows(float *to, int warp, int lane, const float (&o)[128]) {
    int row = warp * 16 + lane / 4;
    GPU_UNROLL for (int i = 0; i < 128; i += 2) {
        int column = i / 4 * 8 + (lane & 3) * 2;
        *(float2 *)(to + (row + (i >> 1 & 1) * 8) * SM90_OUT_STRIDE + column) = make_float2(o[i], o[i + 1]);
    }
}

/* Where row r goes: a thread for each row, beside the last tiles. The divisions of a warp's rows one after the other,
 * each before its row is stored, take several times as long as the stores. */
GPU_INLINE sm90_place_t sm90_find_place(const ac_attention_params_t &p, const sm90_item_t &item, int r) {
    mla_output_t out = mla_row_output(p, item.work, mla_tile_row(p, item.work, item.range, r), {0, 1}, 1);
    return {out.row, out.lse};
}

/* The rest of it, after the last tile, for the consumer `self`. Consumer 0 stores the LSE. */
GPU_INLINE void sm90_finish_row(const ac_attention_params_t &p, const sm90_item_t &item, int self, int r) {
    sm90_side_t &side = sm90_shared().side;
    mla_softmax_t sum = mla_softmax_start();
    if (item.tiles > 0) {
        mla_softmax_t a = side.share[0][r], b = side.share[1][r];
        sum.base = gpu_max(a.base, b.base);
        sum.sum = a.sum * mla_rebase(a.base, sum.base) + b.sum * mla_rebase(b.base, sum.base);
    }
    sm90_place_t place = item.tiles > 0 ? side.place[r] : sm90_find_place(p, item, r);
    mla_output_t out = mla_row_output(p, item.work, {}, sum, sm90_scale(p.kv_scale)); /* but for its places */
    if (out.empty && item.work.partial_row >= 0) place.row = nullptr;                 /* as it says, too */
    side.out[self][r] = {place.row, out.scale, out.empty};
    out.lse = place.lse;
    if (self == 0) mla_store_lse(out);
}

/* Stores the rows of the tile, one warp per row, from the consumer's stage. */
GPU_INLINE void sm90_store_rows(const ac_attention_params_t &p, const sm90_item_t &item, int self, int warp,
                                int lane) {
    int dtype = item.work.partial_row < 0 ? p.o_dtype : AC_FLOAT32;
    GPU_NO_UNROLL for (int r = warp; r < item.work.num_rows; r += 4) {
        sm90_out_t row = sm90_shared().side.out[self][r];
        mla_output_t out = {row.row, nullptr, 0, row.scale, row.empty, dtype};
        const float *from = (const float *)sm90_shared().key[self] + r * SM90_OUT_STRIDE + lane * 4;
        GPU_UNROLL for (int half = 0; half < 2; half++) {
            float4 v = make_float4(0, 0, 0, 0);
            if (item.tiles > 0) v = *(const float4 *)(from + half * 128); /* else the stage is the next item's */
            float four[4] = {v.x, v.y, v.z, v.w};
            mla_store_columns(out, self * 256 + half * 128 + lane * 4, four);
        }
    }
}

GPU_INLINE float sm90_score_scale(const ac_attention_params_t &p) {
    return (float)(p.sm_scale * AC_LOG2_E * sm90_scale(p.q_scale) * sm90_scale(p.kv_scale));
}

template <class KIND, sm90_items_t ITEMS>
GPU_INLINE void sm90_consume(const ac_attention_params_t &p, const sm90_item_t &item, bool overlap_scores, int self,
                             int thread) {
    int warp = thread / 32, lane = thread % 32;
    if (item.tiles > 0) {
        float o[128];
        int row = warp * 16 + lane / 4;
        if (self == 0 && thread < SM90_ROWS)
            sm90_shared().side.masked_tail[thread] = mla_tile_row(p, item.work, item.range, thread).masked_tail;
        sm90_load_queries<KIND>(p, item, self * 128 + thread);
        sm90_consumer<KIND> consumer = {p.kv[0].cache.rope_dim > 0,
                                        overlap_scores,
                                        item.range.end - item.range.begin,
                                        item.range.masked_tail,
                                        item.first_tile,
                                        item.first_tile + item.tiles,
                                        sm90_shared().side,
                                        self,
                                        warp,
                                        lane,
                                        row,
                                        sm90_score_scale(p),
                                        {mla_softmax_start(), mla_softmax_start()},
                                        o};
        GPU_UNROLL for (int i = 0; i < 128; i++) o[i] = 0;
        consumer.template run<ITEMS == SM90_ALL_ITEMS>();
        sm90_sync(SM90_SYNC_CONSUMERS, 256); /* both are done with the stages */
        if (warp * 16 < item.work.num_rows) sm90_spread_rows((float *)sm90_shared().key[self], warp, lane, o);
    }
    if (item.tiles > 0) sm90_barrier_wait(sm90_shared_address(&sm90_shared().side.found), item.number & 1);
    if (thread < item.work.num_rows) sm90_finish_row(p, item, self, thread);
    sm90_sync(SM90_SYNC_CONSUMER + self, 128); /* all of its rows are spread and finished */
    sm90_store_rows(p, item, self, warp, lane);
}

template <class KIND> GPU_INLINE void sm90_init_barriers() {
    sm90_side_t &side = sm90_shared().side;
    /* Arrivals per phase: every producer thread once; when keys are copied, unit 0 also gets one arrival per warp
     * (after it wrote `exists`). */
    int full[2] = {KIND::SOURCE == SM90_SAME ? 128 + 4 : 128, 128};
    GPU_UNROLL for (int s = 0; s < SM90_STAGES; s++) {
        GPU_UNROLL for (int u = 0; u < 2; u++) {
            sm90_barrier_init(sm90_shared_address(&side.full[s][u]), full[u]);
            sm90_barrier_init(sm90_shared_address(&side.empty[s][u]), 128); /* the threads of consumer u */
        }
        sm90_barrier_init(sm90_shared_address(&side.scored[s]), 128); /* the threads of the owner */
    }
    sm90_barrier_init(sm90_shared_address(&side.found), 128);  /* the threads of the producer */
    sm90_barrier_init(sm90_shared_address(&side.stored), 256); /* the threads of both consumers */
}

/* The workgroup's next item; false where there is none. */
template <class next_work_f>
GPU_INLINE bool sm90_next_item(const ac_attention_params_t &p, next_work_f next_work, sm90_item_t *item) {
    ac_work_t work;
    if (!next_work(&item->done, &work)) return false;
    item->first_tile = (item->first_tile + item->tiles) & 3;
    item->number += item->tiles > 0;
    item->work = work;
    item->range = mla_tile_range(p, work);
    item->tiles = (int)ac_min64((item->range.end - item->range.begin + SM90_KEYS - 1) / SM90_KEYS, MLA_FAR);
    return true;
}

/* The thread's number in its warpgroup, opaque to the compiler: nothing that follows from it is kept from item to item.
 */
GPU_INLINE int sm90_recompute_thread() {
    int thread = gpu_thread() % 128;
    asm volatile("" : "+r"(thread));
    return thread;
}

/* The workgroup's items. next_work(&done, &work): the item after those that are done, the same for every thread.
 * fill(thread, threads): what else is to be written, by threads that have nothing else to do. overlap_scores: see
 * sm90_consumer; only for keys that are copied. */
template <class KIND, sm90_items_t ITEMS, int PRODUCER_REGISTERS, int CONSUMER_REGISTERS, class next_work_f,
          class fill_f>
GPU_INLINE void sm90_decode(const ac_attention_params_t &p, next_work_f next_work, fill_f fill,
                            const int32_t *const &work_indptr, bool overlap_scores) {
    sm90_item_t item = {};
    if (!sm90_next_item(p, next_work, &item)) return fill(gpu_thread(), SM90_THREADS);
    if (gpu_thread() == 0) sm90_init_barriers<KIND>();
    gpu_barrier();
    /* The shuffle tells the compiler that it is the same for all lanes. */
    int warpgroup = __shfl_sync(0xffffffffu, gpu_thread() / 128, 0);
    if (warpgroup == 0) {
        sm90_fewer_registers<PRODUCER_REGISTERS>();
        for (;;) {
            int thread = ITEMS == SM90_ONE_ITEM ? gpu_thread() : sm90_recompute_thread();
            sm90_produce<KIND>(p, item, gpu_thread() / 32, thread % 32);
            if (item.tiles > 0) {
                if (thread < item.work.num_rows)
                    sm90_shared().side.place[thread] = sm90_find_place(p, item, thread);
                sm90_barrier_arrive(sm90_shared_address(&sm90_shared().side.found));
            }
            if (ITEMS != SM90_ALL_ITEMS || !work_indptr) return fill(gpu_thread(), 128);
            if (!sm90_next_item(p, next_work, &item)) return;
        }
    } else {
        sm90_more_registers<CONSUMER_REGISTERS>();
        if constexpr (ITEMS == SM90_ONE_ITEM)
            return sm90_consume<KIND, ITEMS>(p, item, overlap_scores, warpgroup - 1, gpu_thread() % 128);
        for (;;) {
            sm90_consume<KIND, ITEMS>(p, item, overlap_scores, warpgroup - 1, sm90_recompute_thread());
            if (!work_indptr) return;
            if (item.tiles > 0) sm90_barrier_arrive(sm90_shared_address(&sm90_shared().side.stored));
            if (!sm90_next_item(p, next_work, &item)) return;
            sm90_sync(SM90_SYNC_CONSUMERS, 256); /* nobody reads any more what the next item overwrites */
        }
    }
}

#endif
