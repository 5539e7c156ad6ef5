/* Contiguous keys on sm_90a: a workgroup takes a run of keys, whose A operands stay in registers, and a block of query
 * rows, which four warps stream through shared memory for its three consumer warpgroups. Rows that see none of the keys
 * are left out beforehand. */
#ifndef AC_OPS_MQA_LOGITS_SM90_CONTIGUOUS_H
#define AC_OPS_MQA_LOGITS_SM90_CONTIGUOUS_H

#include "tile.h"

constexpr int MQA_CONSUMERS = 3; /* warpgroups */
constexpr int MQA_PRODUCERS = 4; /* warps, which take rows in turn */
constexpr int MQA_CONTIGUOUS_THREADS = MQA_CONSUMERS * 128 + MQA_PRODUCERS * 32;
constexpr int MQA_MAX_ROWS = MQA_PRODUCERS * 32; /* of a workgroup */

/* N: heads of a row at most. */
template <int KIND, int N> struct mqa_contiguous_t {
    static constexpr bool FP8 = KIND == SM90_E4M3;
    static constexpr int TOGETHER = FP8 ? 64 / N : 1;   /* query rows of a product */
    static constexpr int ROWS = FP8 ? 2 * TOGETHER : 1; /* of a turn */
    static constexpr int TILES = FP8 ? 2 : 1;           /* of a consumer: the fp16 operand takes more registers */
    static constexpr int WARPGROUP_KEYS = TILES * MQA_TILE, KEYS = MQA_CONSUMERS * WARPGROUP_KEYS;
    static constexpr int PANEL = ROWS * N * 128, Q_BYTES = PANEL * mqa_width<KIND>;
    static constexpr int STAGES = FP8 ? 16 / ROWS : 8; /* turns */
    static_assert(STAGES * ROWS % MQA_PRODUCERS == 0, "who waits for a barrier has seen its last completion");
    static constexpr int WEIGHTS_AT = STAGES * Q_BYTES;
    static constexpr int WINDOWS_AT = WEIGHTS_AT + STAGES * ROWS * MQA_WEIGHTS;
    static constexpr int LIST_AT = WINDOWS_AT + MQA_MAX_ROWS * (int)sizeof(int2);
    static constexpr int ROWS_AT = LIST_AT + (ROWS + MQA_MAX_ROWS) * (int)sizeof(int4);
    static constexpr int COUNTS_AT = ROWS_AT + MQA_MAX_ROWS * 4;
    static constexpr int BARRIERS_AT = COUNTS_AT + MQA_PRODUCERS * 4;
    static constexpr int BYTES = BARRIERS_AT + STAGES * 16;

    const ac_mqa_logits_params_t &p;
    int64_t first_row; /* of the workgroup */
    int32_t first_key; /* likewise */
    int num_rows;

    /* Of every row, [begin, end) of the workgroup's keys. */
    GPU_MEMBER int2 *windows() const { return (int2 *)(gpu_shared + WINDOWS_AT); }
    /* The same of rows that see any of the keys, and their logits; before it a turn of rows that see none. */
    GPU_MEMBER int4 *list() const { return (int4 *)(gpu_shared + LIST_AT) + ROWS; }
    GPU_MEMBER int *rows() const { return (int *)(gpu_shared + ROWS_AT); }     /* which they are */
    GPU_MEMBER int *counts() const { return (int *)(gpu_shared + COUNTS_AT); } /* of such rows, of every producer */
    GPU_MEMBER static uint32_t full(int stage) { return sm90_shared_address(gpu_shared) + BARRIERS_AT + stage * 16; }
    GPU_MEMBER static uint32_t empty(int stage) { return full(stage) + 8; }
    GPU_MEMBER static uint32_t query(int stage, int row) {
        return sm90_shared_address(gpu_shared) + stage * Q_BYTES + row * N * 128;
    }
    GPU_MEMBER const float *weights(int stage, int row) const {
        return (const float *)(gpu_shared + WEIGHTS_AT + (stage * ROWS + row) * MQA_WEIGHTS);
    }

    /* A row per producer thread. */
    GPU_MEMBER void list_rows(int warp) const {
        const int row = warp * 32 + gpu_lane();
        int2 own = {0, 0};
        if (row < num_rows) {
            const ac_mqa_window_t window = ac_mqa_window(&p, 0, first_row + row);
            const int64_t end = (int64_t)first_key + KEYS;
            own.x = (int)ac_clamp64(window.begin, first_key, end), own.y = (int)ac_clamp64(window.seen, first_key, end);
            windows()[row] = own;
        }
        if (warp == 0 && gpu_lane() < ROWS) list()[-1 - gpu_lane()] = make_int4(0, 0, 0, 0);
        const uint32_t seeing = __ballot_sync(0xffffffffu, own.x < own.y);
        if (gpu_lane() == 0) counts()[warp] = __popc(seeing);
        sm90_sync(1, MQA_PRODUCERS * 32);
        int at = __popc(seeing & ((1u << gpu_lane()) - 1));
        GPU_UNROLL for (int w = 0; w < MQA_PRODUCERS; w++) at += w < warp ? counts()[w] : 0;
        if (own.x >= own.y) return;
        /* The last row again and again up to the end of a turn: it is computed to the same bits. */
        const uint64_t logits = (uint64_t)(p.logits + (first_row + row) * p.logits_stride);
        const int last = at + 1 == num_listed() ? (at / ROWS + 1) * ROWS : at + 1;
        GPU_NO_UNROLL for (; at < last; at++)
            rows()[at] = row,
            list()[at] = make_int4(own.x, own.y, (int)(uint32_t)logits, (int)(uint32_t)(logits >> 32));
    }

    GPU_MEMBER int num_listed() const {
        int sum = 0;
        GPU_UNROLL for (int w = 0; w < MQA_PRODUCERS; w++) sum += counts()[w];
        return sum;
    }
    GPU_MEMBER int num_turns() const { return (num_listed() + ROWS - 1) / ROWS; }

    /* A lane copies the same run of 16 bytes of every fourth head: few instructions, the consumers need the rest. */
    GPU_MEMBER void copy_query(const char *from, uint32_t to) const {
        if (KIND == SM90_E4M3 && p.q_alignment == 16 && p.num_heads == N && p.q_head_stride == AC_MQA_DIM) {
            const int head = gpu_lane() / 8, run = gpu_lane() % 8;
            const uint32_t even = to + mqa_word_place<false>(head, 4 * run);
            const uint32_t odd = to + mqa_word_place<false>(head + 4, 4 * run);
            from += gpu_lane() * 16;
            GPU_UNROLL for (int i = 0; i < N / 4; i++)
                sm90_copy16((i & 1 ? odd : even) + i / 2 * 1024, from + i * 4 * AC_MQA_DIM, 16);
        } else {
            GPU_NO_UNROLL for (int head = 0; head < p.num_heads; head++)
                mqa_copy_query_word<KIND, PANEL, KIND != SM90_E4M3>(p, from, to, head, gpu_lane());
        }
    }

    /* Rows are announced when they are there, by the warp that copied them: were it the consumers who make them visible
     * to the matrix unit, their fence would wait for their stores. */
    GPU_MEMBER void produce(int warp) const {
        const int listed = num_turns() * ROWS;
        GPU_NO_UNROLL for (int i = warp; i < listed; i += MQA_PRODUCERS) {
            const int turn = i / ROWS, stage = turn % STAGES;
            const int64_t row = first_row + rows()[i];
            const float *from = p.weights + row * p.weights_stride;
            const uint32_t to = sm90_shared_address(weights(stage, i % ROWS));
            if (turn >= STAGES) sm90_barrier_wait(empty(stage), (turn / STAGES - 1) & 1);
            copy_query(p.q + row * p.q_row_stride, query(stage, i % ROWS));
            GPU_UNROLL for (int head = gpu_lane(); head < N; head += 32)
                if (head < p.num_heads) sm90_copy4(to + 4 * mqa_weight_place(head), from + head, 4);
            sm90_copies_wait();
            sm90_fence_async();
            sm90_barrier_arrive(full(stage));
        }
    }

    /* Key r of the warp's 16 of a tile, or r + 8. */
    GPU_MEMBER int32_t key_of(int tile, int half) const {
        return first_key + gpu_thread() / 128 * WARPGROUP_KEYS + tile * MQA_TILE + gpu_thread() / 32 % 4 * 16 +
               gpu_lane() / 4 + 8 * half;
    }

    /* Of fp8 in the order of the heads: word 8 s + 4 h + j is what thread j needs for product s. No load waits for
     * another. */
    template <bool WORDS> GPU_MEMBER void load_keys(int tile, mqa_operand_t<KIND> &keys) const {
        mqa_keys_t runs;
        GPU_UNROLL for (int half = 0; half < 2; half++) {
            const bool exists = key_of(tile, half) < p.columns;
            const char *key = ac_mqa_key(&p.k, 0, exists ? key_of(tile, half) : 0);
            if constexpr (KIND != SM90_E4M3) {
                runs.load(p.k, half, exists, key);
            } else {
                key += 4 * (gpu_lane() & 3);
                GPU_UNROLL for (int i = 0; i < 8; i++) {
                    const char *from = key + 16 * i;
                    const uint32_t word = WORDS ? mqa_load4_if(exists, from) : exists ? mqa_load_word(from, 1) : 0;
                    keys.set(i, half, word, false);
                }
            }
        }
        if constexpr (KIND != SM90_E4M3) runs.use(p.k.dtype == AC_FLOAT8_E4M3FNUZ, keys);
    }

    /* While a product runs, the one before it is summed; the totals of a turn are stored while the next one's first
     * products run. */
    GPU_MEMBER void consume(const mqa_operand_t<KIND> (&keys)[TILES], float scale) const {
        constexpr int PRODUCTS = ROWS / TOGETHER * TILES; /* of a turn */
        const int turns = num_turns(), upper = gpu_lane() >> 1 & 1, j = key_of(TILES == 2 && upper, gpu_lane() & 1);
        const int4 *summed = list() - ROWS; /* the rows of `sums` */
        mqa_sums_t sums[TILES][ROWS];
        auto store_totals = [&]() {
            GPU_UNROLL for (int row = 0; row < ROWS; row++, summed++) {
                if constexpr (TILES == 2) {
                    store(*summed, j, true, mqa_total_of_two(sums[0][row], sums[1][row]) * scale);
                } else {
                    const float total = sums[0][row].total(); /* by all lanes */
                    store(*summed, j, !upper, total * scale);
                }
            }
        };
        GPU_UNROLL for (int i = 0; i < TILES * ROWS; i++) sums[i % TILES][i / TILES] = {0, 0};
        int stage = 0, phase = 0;
        GPU_NO_UNROLL for (int turn = 0; turn < turns; turn++) {
            float d[2][TOGETHER * N / 2];
            auto start = [&](int i) {
                const uint32_t rows = query(stage, i / TILES * TOGETHER);
                mqa_start<KIND, TOGETHER * N, PANEL, true>(d[i % 2], keys[i % TILES], rows);
            };
            mqa_weights_t<N> own[TOGETHER];
            sm90_barrier_wait(full(stage), phase);
            start(0);
            if (PRODUCTS > 1) start(1);
            store_totals();
            GPU_UNROLL for (int i = 0; i < PRODUCTS; i++) {
                const int rows = i / TILES * TOGETHER;
                if (i > 0 && i + 1 < PRODUCTS) start(i + 1);
                GPU_UNROLL for (int r = 0; r < TOGETHER && i % TILES == 0; r++) own[r].load(weights(stage, rows + r));
                if (i + 1 < PRODUCTS) mqa_wait<1>(d[i % 2]);
                else mqa_wait<0>(d[i % 2]);
                GPU_UNROLL for (int r = 0; r < TOGETHER; r++) {
                    mqa_sums_t &sum = sums[i % TILES][rows + r];
                    sum.add(d[i % 2] + r * N / 2, own[r]);
                    if (i + 2 == PRODUCTS) sum.finish(p.num_heads == 0);
                    else sum.pin();
                }
            }
            sm90_barrier_arrive(empty(stage));
            stage = stage + 1 < STAGES ? stage + 1 : 0, phase ^= stage == 0;
        }
        store_totals();
    }

    /* The turns of a warpgroup past the keys. */
    GPU_MEMBER void pass() const {
        const int turns = num_turns();
        GPU_NO_UNROLL for (int turn = 0; turn < turns; turn++) {
            sm90_barrier_wait(full(turn % STAGES), turn / STAGES & 1);
            sm90_barrier_arrive(empty(turn % STAGES));
        }
    }

    /* Without a branch, for products are under way; volatile, or ptxas puts it off to their end and spills. */
    GPU_MEMBER static void store(int4 row, int32_t j, bool stores, float logit) {
        float *out = (float *)((uint64_t)(uint32_t)row.w << 32 | (uint32_t)row.z);
        const uint32_t sees = stores && j >= row.x && j < row.y;
        asm volatile("{.reg .pred p; setp.ne.u32 p, %2, 0; @p st.volatile.global.f32 [%0], %1;}"
                     ::"l"(out + j), "f"(logit), "r"(sees) : "memory");
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
        if (gpu_thread() == 0) {
            GPU_UNROLL for (int stage = 0; stage < STAGES; stage++) {
                sm90_barrier_init(full(stage), 32 * ROWS);
                sm90_barrier_init(empty(stage), 128 * MQA_CONSUMERS);
            }
        }
        sm90_fence_async();
        if (group == MQA_CONSUMERS) {
            sm90_fewer_registers<48>();
            list_rows(warp - 4 * MQA_CONSUMERS);
            gpu_barrier();
            produce(warp - 4 * MQA_CONSUMERS);
        } else {
            sm90_more_registers<152>();
            const int64_t own = key_of(TILES == 2 && gpu_lane() & 2, gpu_lane() & 1);
            const float scale = own < p.columns ? gpu_load<float>(ac_mqa_scale(&p.k, 0, own)) : 0;
            mqa_operand_t<KIND> keys[TILES];
            GPU_UNROLL for (int tile = 0; tile < TILES; tile++) {
                if (p.k.alignment >= 4) load_keys<true>(tile, keys[tile]);
                else load_keys<false>(tile, keys[tile]);
            }
            gpu_barrier();
            if (first_key + group * WARPGROUP_KEYS < p.columns) consume(keys, scale);
            else pass();
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
