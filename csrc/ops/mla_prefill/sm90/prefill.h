/* Prefill of a workgroup's tiles on sm_90a: three warpgroups, one that loads and two that compute. See tile.h for the
 * memory, consumer.h for the order of the work. */
#ifndef AC_OPS_MLA_PREFILL_SM90_PREFILL_H
#define AC_OPS_MLA_PREFILL_SM90_PREFILL_H

#include "consumer.h"
#include "producer.h"

GPU_INLINE float prefill_scale(const ac_scale_t &scale) { return scale.pointer ? *scale.pointer : scale.value; }

/* What becomes of one row of a tile. */
typedef struct prefill_output_t {
    char *row;   /* NULL: not stored */
    float scale; /* of the accumulators */
    bool empty;
} prefill_output_t;

/* Row r of the tile: stores its LSE, says where its output goes. The four lanes that share a row all call it. */
GPU_INLINE prefill_output_t prefill_row(const ac_mla_prefill_params_t &p, const ac_prefill_tile_t &tile, int r,
                                        mla_softmax_t softmax, float value_scale, int lane, bool has_o) {
    softmax.sum += __shfl_xor_sync(0xffffffffu, softmax.sum, 1);
    softmax.sum += __shfl_xor_sync(0xffffffffu, softmax.sum, 2);
    bool is_partial = tile.partial_row >= 0;
    int64_t at = ((is_partial ? tile.partial_row : tile.row) + r) * p.num_heads + tile.head;
    float *lse = is_partial ? p.partial_lse : p.lse;
    prefill_output_t out = {nullptr, value_scale / softmax.sum, softmax.sum == 0};
    if (r >= tile.rows) return out;
    if (lse && (lane & 3) == 0) lse[at] = mla_lse(softmax, (float)AC_LN_2, GPU_MINUS_INFINITY);
    if (is_partial) out.row = out.empty ? nullptr : (char *)(p.partial_o + at * p.value_dim);
    else out.row = p.o + (tile.row + r) * p.o_row_stride + tile.head * p.o_head_stride;
    return out;
}

/* Accumulators of one row, [8 columns][2 columns], as fp32. */
template <int N> GPU_INLINE void prefill_store_partial(const prefill_output_t &out, const float (&o)[N], int r,
                                                       int lane) {
    if (!out.row) return;
    GPU_UNROLL for (int i = 0; i < N / 4; i++) {
        float *to = (float *)out.row + i * 8 + (lane & 3) * 2;
        to[0] = o[4 * i + 2 * r] * out.scale;
        to[1] = o[4 * i + 2 * r + 1] * out.scale;
    }
}

/* The same as 16 bits. Four lanes exchange what they have of 32 columns, so that each has 8 neighbours. */
template <int N> GPU_INLINE void prefill_store_final(const prefill_output_t &out, const float (&o)[N], int r, int lane,
                                                     bool bf16) {
    bool aligned = ((uintptr_t)out.row & 15) == 0;
    GPU_UNROLL for (int i = 0; i < N / 4; i += 4) {
        uint32_t w[4];
        GPU_UNROLL for (int k = 0; k < 4; k++) {
            float low = out.empty ? 0 : o[4 * (i + k) + 2 * r] * out.scale;
            float high = out.empty ? 0 : o[4 * (i + k) + 2 * r + 1] * out.scale;
            w[k] = bf16 ? sm90_pack_bf16(low, high) : sm90_pack_f16(low, high);
        }
        GPU_UNROLL for (int distance = 1; distance <= 2; distance *= 2) { /* a transposition of 4 x 4 */
            bool odd = (lane & distance) != 0;
            GPU_UNROLL for (int k = 0; k < 4; k++) {
                if (k & distance) continue;
                uint32_t got = __shfl_xor_sync(0xffffffffu, odd ? w[k] : w[k + distance], distance);
                if (odd) w[k] = got;
                else w[k + distance] = got;
            }
        }
        if (!out.row) continue;
        char *to = out.row + i * 16 + (lane & 3) * 16;
        if (aligned) {
            *(uint4 *)to = make_uint4(w[0], w[1], w[2], w[3]);
        } else {
            GPU_UNROLL for (int k = 0; k < 8; k++) ((uint16_t *)to)[k] = (uint16_t)(w[k / 2] >> k % 2 * 16);
        }
    }
}

template <class KIND> GPU_INLINE void prefill_consume(const ac_mla_prefill_params_t &p, int self) {
    prefill_side_t<KIND> &side = prefill_shared<KIND>().side;
    int count = 0;
    float score_scale = (float)(p.sm_scale * AC_LOG2_E * prefill_scale(p.q_scale) * prefill_scale(p.k_scale));
    float value_scale = prefill_scale(p.v_scale);
    if (self == 1) sm90_sync_arrive(PREFILL_SYNC_TURN + 0, 256); /* the first turn is consumer 0's */
    GPU_NO_UNROLL for (int number = 0;; number++) {
        float o[KIND::DV / 2];
        int thread = prefill_recompute_thread(), warp = thread / 32, lane = thread % 32;
        int row = self * PREFILL_CONSUMER_ROWS + warp * 16 + lane / 4;
        const prefill_work_t &work = side.work[prefill_work_slot(number)];
        sm90_barrier_wait(sm90_shared_address(&side.full_query), number & 1);
        int tiles = work.key_tiles;
        if (tiles < 0) break;
        sm90_fence_async();
        int64_t keys = (int64_t)work.tile.end - work.tile.begin;
        int64_t first_limit = (int64_t)work.tile.first_end - work.tile.begin; /* of the tile's first row */
        int64_t unmasked = ac_clamp64(first_limit, 0, keys);
        prefill_consumer<KIND> consumer = {side,
                                           self,
                                           warp,
                                           lane,
                                           score_scale,
                                           count,
                                           (int)ac_clamp64(first_limit + row, -8, INT32_MAX - 64),
                                           {mla_softmax_start(), mla_softmax_start()},
                                           o,
                                           {}};
        GPU_UNROLL for (int i = 0; i < KIND::DV / 2; i++) o[i] = 0;
        consumer.run(tiles, unmasked >= keys ? tiles : (int)(unmasked / KIND::KEYS));
        count = consumer.count;
        sm90_barrier_arrive(sm90_shared_address(&side.empty_query));
        GPU_UNROLL for (int r = 0; r < 2; r++) {
            prefill_output_t out =
                prefill_row(p, work.tile, row + 8 * r, consumer.softmax[r], value_scale, lane, true);
            if (work.tile.partial_row >= 0) prefill_store_partial(out, o, r, lane);
            else prefill_store_final(out, o, r, lane, p.o_dtype == AC_BFLOAT16);
        }
    }
    if (self == 0) sm90_sync(PREFILL_SYNC_TURN + 0, 256); /* that of the other's last turn */
}

template <class KIND> GPU_INLINE void prefill_init_barriers() {
    prefill_side_t<KIND> &side = prefill_shared<KIND>().side;
    constexpr int PRODUCERS = 128, CONSUMERS = 256; /* threads, all of which arrive */
    sm90_barrier_init(sm90_shared_address(&side.full_query), PRODUCERS + 1);
    sm90_barrier_init(sm90_shared_address(&side.empty_query), CONSUMERS);
    GPU_UNROLL for (int s = 0; s < KIND::KEY_STAGES; s++) {
        sm90_barrier_init(sm90_shared_address(&side.full_key[s]), 2 * PRODUCERS); /* copies, and `exists` */
        sm90_barrier_init(sm90_shared_address(&side.empty_key[s]), CONSUMERS);
    }
    GPU_UNROLL for (int s = 0; s < PREFILL_STAGES; s++) {
        sm90_barrier_init(sm90_shared_address(&side.full_value[s]), PRODUCERS);
        sm90_barrier_init(sm90_shared_address(&side.empty_value[s]), CONSUMERS);
    }
}

/* Registers of a thread: the launch has 168 for each of the three warpgroups, so producer + 2 consumer <= 504. */
template <class KIND, int PRODUCER_REGISTERS, int CONSUMER_REGISTERS>
GPU_INLINE void prefill(const ac_mla_prefill_params_t &p) {
    if (gpu_thread() == 0) prefill_init_barriers<KIND>();
    gpu_barrier();
    /* The shuffle tells the compiler that it is the same for all lanes. */
    int warpgroup = __shfl_sync(0xffffffffu, gpu_thread() / 128, 0);
    if (warpgroup == 0) {
        sm90_fewer_registers<PRODUCER_REGISTERS>();
        prefill_produce<KIND>(p);
    } else {
        sm90_more_registers<CONSUMER_REGISTERS>();
        prefill_consume<KIND>(p, warpgroup - 1);
    }
}

#endif
