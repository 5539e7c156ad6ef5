/* Contiguous keys on sm_90a: a workgroup takes a run of keys, whose A operands stay in registers, and a block of query
 * rows, which one warp streams through shared memory for its four consumer warpgroups. Rows that see none of the keys
 * are left out beforehand. */
#ifndef AC_OPS_MQA_LOGITS_SM90_CONTIGUOUS_H
#define AC_OPS_MQA_LOGITS_SM90_CONTIGUOUS_H

#include "tile.h"

constexpr int MQA_CONSUMERS = 4; /* warpgroups */
constexpr int MQA_PRODUCERS = 4; /* warps, which take rows in turn */
constexpr int MQA_CONTIGUOUS_THREADS = MQA_CONSUMERS * 128 + MQA_PRODUCERS * 32;
constexpr int MQA_MAX_ROWS = 128;   /* of a workgroup */
constexpr int MQA_ROWS_AT_ONCE = 1; /* of a turn of the consumers' loop */

template <int KIND, int N> struct mqa_contiguous_t {
    using shape = mqa_shape_t<KIND, N>;
    static constexpr int TILES = KIND == SM90_E4M3 ? 2 : 1; /* of a consumer */
    static constexpr int CONSUMER_KEYS = TILES * MQA_TILE, KEYS = MQA_CONSUMERS * CONSUMER_KEYS;
    static constexpr int STAGES = 8;
    static constexpr int WEIGHTS_AT = STAGES * shape::Q_BYTES;
    static constexpr int WINDOWS_AT = WEIGHTS_AT + STAGES * shape::WEIGHTS;
    static constexpr int LIST_AT = WINDOWS_AT + MQA_MAX_ROWS * 8;
    static constexpr int COUNT_AT = LIST_AT + MQA_MAX_ROWS * 4;
    static constexpr int BARRIERS_AT = COUNT_AT + 16;
    static constexpr int BYTES = BARRIERS_AT + STAGES * 16;

    const ac_mqa_logits_params_t &p;
    int64_t first_row; /* of the workgroup */
    int32_t first_key; /* likewise */
    int num_rows;

    GPU_MEMBER int2 *windows() const { return (int2 *)(gpu_shared + WINDOWS_AT); } /* [begin, end) of its keys */
    GPU_MEMBER int *list() const { return (int *)(gpu_shared + LIST_AT); }         /* rows that see any of the keys */
    GPU_MEMBER int &count() const { return *(int *)(gpu_shared + COUNT_AT); }
    GPU_MEMBER static uint32_t full(int stage) { return sm90_shared_address(gpu_shared) + BARRIERS_AT + stage * 16; }
    GPU_MEMBER static uint32_t empty(int stage) { return full(stage) + 8; }

    /* One warp. */
    GPU_MEMBER void list_rows() const {
        int listed = 0;
        GPU_NO_UNROLL for (int first = 0; first < num_rows; first += 32) {
            const int row = first + gpu_lane();
            bool sees = false;
            if (row < num_rows) {
                const ac_mqa_window_t window = ac_mqa_window(&p, 0, first_row + row);
                const int64_t end = (int64_t)first_key + KEYS;
                const int2 own = make_int2((int)ac_clamp64(window.begin, first_key, end),
                                           (int)ac_clamp64(window.seen, first_key, end));
                windows()[row] = own;
                sees = own.x < own.y;
            }
            const uint32_t seeing = __ballot_sync(0xffffffffu, sees);
            if (sees) list()[listed + __popc(seeing & ((1u << gpu_lane()) - 1))] = row;
            listed += __popc(seeing);
        }
        /* The last row once more: it is computed twice, to the same bits. */
        const int padded = (listed + MQA_ROWS_AT_ONCE - 1) / MQA_ROWS_AT_ONCE * MQA_ROWS_AT_ONCE;
        __syncwarp();
        if (gpu_lane() < padded - listed) list()[listed + gpu_lane()] = list()[listed - 1];
        if (gpu_lane() == 0) count() = padded;
    }

    /* 16 bytes at a time where that is possible. */
    GPU_MEMBER void copy_query(const char *from, uint32_t to) const {
        if (KIND == SM90_E4M3 && p.q_alignment == 16) {
            _Pragma("unroll 4") for (int i = gpu_lane(); i < p.num_heads * 8; i += 32) sm90_copy16(
                to + mqa_word_place<false>(i / 8, i % 8 * 4), from + i / 8 * p.q_head_stride + i % 8 * 16, 16);
        } else {
            GPU_NO_UNROLL for (int head = 0; head < p.num_heads; head++)
                mqa_copy_query_word<KIND, N, KIND != SM90_E4M3>(p, from, to, head, gpu_lane());
        }
    }

    /* A row is announced when it is there, by the warp that copied it: were it the consumers who make it visible to the
     * matrix unit, their fence would wait for their stores. */
    GPU_MEMBER void produce(int warp) const {
        const int rows = count();
        const uint32_t shared = sm90_shared_address(gpu_shared);
        GPU_NO_UNROLL for (int i = warp; i < rows; i += MQA_PRODUCERS) {
            const int stage = i % STAGES;
            const int64_t row = first_row + list()[i];
            const float *weights = p.weights + row * p.weights_stride;
            if (i >= STAGES) sm90_barrier_wait(empty(stage), (i / STAGES - 1) & 1);
            copy_query(p.q + row * p.q_row_stride, shared + stage * shape::Q_BYTES);
            GPU_NO_UNROLL for (int head = gpu_lane(); head < p.num_heads; head += 32) sm90_copy4(
                shared + WEIGHTS_AT + stage * shape::WEIGHTS + 4 * mqa_weight_place(head), weights + head, 4);
            sm90_copies_wait();
            sm90_fence_async();
            sm90_barrier_arrive(full(stage));
        }
    }

    /* Of fp8 in the order of the heads: word 8 s + 4 h + j is what thread j needs for product s. */
    GPU_MEMBER void load_key(const char *key, int half, mqa_operand_t<KIND> &out) const {
        if constexpr (KIND == SM90_E4M3) {
        GPU_UNROLL for (int i = 0; i < 8; i++)
                out.set(i, half, key ? mqa_load_word(key + 16 * i + 4 * (gpu_lane() & 3), p.k.alignment) : 0, false);
        } else {
            mqa_keys_t keys;
            keys.load(p.k, half, key != nullptr, key);
            GPU_UNROLL for (int i = 0; i < 2; i++) {
                const uint4 v = keys.run[half][i];
                const bool fnuz = p.k.dtype == AC_FLOAT8_E4M3FNUZ;
                out.set(4 * i, half, v.x, fnuz), out.set(4 * i + 1, half, v.y, fnuz);
                out.set(4 * i + 2, half, v.z, fnuz), out.set(4 * i + 3, half, v.w, fnuz);
            }
        }
    }

    GPU_MEMBER void load_keys(int32_t first, mqa_operand_t<KIND> (&keys)[TILES], float (&scales)[TILES]) const {
        GPU_UNROLL for (int tile = 0; tile < TILES; tile++) {
            GPU_UNROLL for (int half = 0; half < 2; half++) {
                const int in_tile = gpu_thread() % 128 / 32 * 16 + gpu_lane() / 4 + 8 * half;
                const int64_t j = (int64_t)first + tile * MQA_TILE + in_tile;
                const bool exists = j < p.columns;
                load_key(exists ? ac_mqa_key(&p.k, 0, j) : nullptr, half, keys[tile]);
                if ((gpu_lane() & 1) != half) continue;
                scales[tile] = 0;
                if (exists) scales[tile] = gpu_load<float>(ac_mqa_scale(&p.k, 0, j));
            }
        }
    }

    GPU_MEMBER static void wait_full(int i) { sm90_barrier_wait(full(i % STAGES), i / STAGES & 1); }

    /* Products and sums in turn, part after part of tile after tile of row after row: see mqa_start. None is under way
     * from one turn of the loop to the next: the compiler would wait for each. */
    GPU_MEMBER void consume(int32_t first) const {
        constexpr int PARTS = N / MQA_PART, ROW_STEPS = TILES * PARTS, STEPS = ROW_STEPS * MQA_ROWS_AT_ONCE;
        const int rows = count();
        mqa_operand_t<KIND> keys[TILES];
        float scales[TILES], d[2][MQA_PART / 2];
        mqa_sums_t sums;
        if (rows == 0) return;
        load_keys(first, keys, scales);
        GPU_NO_UNROLL for (int i = 0; i < rows; i += MQA_ROWS_AT_ONCE) {
            wait_full(i);
            mqa_start<KIND, N>(d[0], keys[0], query(i), 0);
            GPU_UNROLL for (int step = 0; step < STEPS; step++) {
                const int then = (step + 1) % ROW_STEPS, at = i + step / ROW_STEPS, part = step % PARTS;
                if (step + 1 < STEPS) {
                    if (then == 0) wait_full(at + 1);
                    mqa_start<KIND, N>(d[(step + 1) & 1], keys[then / PARTS], query(then ? at : at + 1), then % PARTS);
                    sm90_wgmma_wait<1>();
                } else {
                    sm90_wgmma_wait<0>();
                }
                sm90_pin(d[step & 1]);
                sums.add(d[step & 1], (const float *)(gpu_shared + WEIGHTS_AT + at % STAGES * shape::WEIGHTS), part);
                if (part < PARTS - 1) continue;
                const int tile = step % ROW_STEPS / PARTS;
                store(first + tile * MQA_TILE, list()[at], sums.total() * scales[tile]);
                if (then) continue;
                __syncwarp();
                if (gpu_lane() == 0) sm90_barrier_arrive(empty(at % STAGES));
            }
        }
    }

    GPU_MEMBER static uint32_t query(int i) { return sm90_shared_address(gpu_shared) + i % STAGES * shape::Q_BYTES; }

    GPU_MEMBER void store(int32_t first, int row, float logit) const {
        const int32_t j = first + gpu_thread() % 128 / 32 * 16 + gpu_lane() / 4 + 8 * (gpu_lane() & 1);
        const int2 window = windows()[row];
        if ((gpu_lane() & 2) || j < window.x || j >= window.y) return;
        ((float *)(p.logits + (first_row + row) * p.logits_stride))[j] = logit;
    }

    /* Columns of the workgroup's keys that a row does not see. */
    GPU_MEMBER void clean() const {
        const int32_t end = (int32_t)ac_min64((int64_t)first_key + KEYS, p.columns);
        GPU_NO_UNROLL for (int row = gpu_thread() / 32; row < num_rows; row += MQA_CONTIGUOUS_THREADS / 32) {
            const int2 window = windows()[row];
            if (window.x <= first_key && window.y >= end && window.x < window.y) continue;
            float *out = (float *)(p.logits + (first_row + row) * p.logits_stride);
            GPU_NO_UNROLL for (int32_t j = first_key + gpu_lane(); j < end; j += 32)
                if (j < window.x || j >= window.y) out[j] = GPU_MINUS_INFINITY;
        }
    }

    GPU_MEMBER void run() const {
        const int group = gpu_thread() / 128, warp = gpu_thread() / 32;
        if (p.num_heads < N)
            GPU_NO_UNROLL for (int i = gpu_thread(); i < WINDOWS_AT / 16; i += MQA_CONTIGUOUS_THREADS)
                ((uint4 *)gpu_shared)[i] = make_uint4(0, 0, 0, 0);
        if (warp == 4 * MQA_CONSUMERS) list_rows();
        if (gpu_thread() == 0) {
            GPU_UNROLL for (int stage = 0; stage < STAGES; stage++) {
                sm90_barrier_init(full(stage), 32);
                sm90_barrier_init(empty(stage), 4 * MQA_CONSUMERS);
            }
            sm90_fence_async();
        }
        sm90_fence_async();
        gpu_barrier();
        if (group == MQA_CONSUMERS) {
            sm90_fewer_registers<40>();
            produce(warp - 4 * MQA_CONSUMERS);
        } else {
            sm90_more_registers<104>();
            consume(first_key + group * CONSUMER_KEYS);
        }
        if (p.clean) clean();
    }
};

template <int KIND, int N> GPU_INLINE void mqa_contiguous(const ac_mqa_logits_params_t &p) {
    using contiguous = mqa_contiguous_t<KIND, N>;
    const int64_t blocks = p.items_per_group; /* runs of keys */
    const int64_t block = gpu_block() / blocks;
    const int64_t first_row = block * p.block_rows;
    const contiguous body = {p, first_row, (int32_t)((gpu_block() - block * blocks) * contiguous::KEYS),
                             (int)ac_min64(p.block_rows, p.num_rows - first_row)};
    body.run();
}

#endif
