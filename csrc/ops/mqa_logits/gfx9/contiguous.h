/* Contiguous keys on gfx942 and gfx950: a workgroup has 256 keys, whose operands stay in registers, and a block of
 * query rows, which pass through LDS a few at a time: the next ones are under way while those at hand are multiplied.
 * Rows that see none of the keys are left out beforehand. */
#ifndef AC_OPS_MQA_LOGITS_GFX9_CONTIGUOUS_H
#define AC_OPS_MQA_LOGITS_GFX9_CONTIGUOUS_H

#include "wave.h"

constexpr int MQA_MAX_ROWS = 128; /* of a workgroup */

template <class matrix_t, int HEAD_TILES> struct mqa_contiguous_t {
    using wave_t = mqa_gfx9_t<matrix_t, HEAD_TILES>;
    static constexpr int ROWS = wave_t::OWN ? 2 : 1;                    /* of a stage; there are two */
    static constexpr int RUNS = wave_t::HEADS * 8 * ROWS / MQA_THREADS; /* of a thread in a stage */
    static constexpr int STAGE_BYTES = ROWS * (wave_t::Q_BYTES + wave_t::WEIGHT_BYTES);
    static constexpr int WINDOWS_AT = 2 * STAGE_BYTES;
    static constexpr int LIST_AT = WINDOWS_AT + MQA_MAX_ROWS * 8;
    static constexpr int COUNT_AT = LIST_AT + MQA_MAX_ROWS * 4;
    static constexpr int BYTES = COUNT_AT + 16;

    struct window_t {
        int begin, end;
    };
    /* What a thread has of the next stage. */
    struct next_t {
        u32x4_t run[RUNS];
        float weight;
    };

    const ac_mqa_logits_params_t &p;
    int64_t first_row; /* of the workgroup */
    int32_t first_key; /* likewise */
    int num_rows;

    GPU_MEMBER static window_t window(int row) { return lds<window_t>(WINDOWS_AT + row * 8); } /* of its keys */
    GPU_MEMBER static int listed(int i) { return lds<int>(LIST_AT + i * 4); } /* rows that see any of the keys */

    /* One wave. */
    GPU_MEMBER void list_rows() const {
        int count = 0;
        GPU_NO_UNROLL for (int first = 0; first < num_rows; first += 64) {
            const int row = first + gpu_lane();
            bool sees = false;
            if (row < num_rows) {
                const ac_mqa_window_t all = ac_mqa_window(&p, 0, first_row + row);
                const int64_t end = (int64_t)first_key + MQA_KEYS;
                const window_t own = {(int)ac_clamp64(all.begin, first_key, end),
                                      (int)ac_clamp64(all.seen, first_key, end)};
                lds<window_t>(WINDOWS_AT + row * 8) = own;
                sees = own.begin < own.end;
            }
            const uint64_t seeing = __builtin_amdgcn_ballot_w64(sees);
            const int before = count + __builtin_popcountll(seeing & ((1ull << gpu_lane()) - 1));
            if (sees) lds<int>(LIST_AT + 4 * before) = row;
            count += __builtin_popcountll(seeing);
        }
        if (gpu_lane() == 0) lds<int>(COUNT_AT) = count;
    }

    /* Rows i to i + ROWS - 1 of the list; those past the last are zeros. */
    GPU_MEMBER void load(int i, int count, next_t &next) const {
        GPU_UNROLL for (int r = 0; r < RUNS; r++) {
            const int at = r * MQA_THREADS + gpu_thread(), head = at / 8 % wave_t::HEADS;
            const int row = at / (wave_t::HEADS * 8);
            next.run[r] = u32x4_t{0, 0, 0, 0};
            if (i + row < count && head < p.num_heads)
                next.run[r] = gpu_load<u32x4_t>(p.q + (first_row + listed(i + row)) * p.q_row_stride +
                                                head * p.q_head_stride + at % 8 * 16);
        }
        const int row = gpu_thread() / wave_t::HEADS, head = gpu_thread() % wave_t::HEADS;
        next.weight = 0;
        if (row < ROWS && i + row < count && head < p.num_heads)
            next.weight = gpu_load<float>(p.weights + (first_row + listed(i + row)) * p.weights_stride + head);
    }

    GPU_MEMBER void store(int stage, const next_t &next) const {
        const uint32_t to = stage * STAGE_BYTES;
        GPU_UNROLL for (int r = 0; r < RUNS; r++) {
            const int at = r * MQA_THREADS + gpu_thread(), head = at / 8 % wave_t::HEADS;
            const int row = at / (wave_t::HEADS * 8);
            wave_t::store_query(to + row * wave_t::Q_BYTES, head, at % 8, next.run[r], p.q_dtype);
        }
        if (gpu_thread() < ROWS * wave_t::HEADS)
            lds<float>(to + ROWS * wave_t::Q_BYTES + gpu_thread() * 4) = next.weight;
    }

    GPU_MEMBER void clean() const {
        const int32_t end = (int32_t)ac_min64((int64_t)first_key + MQA_KEYS, p.columns);
        GPU_NO_UNROLL for (int row = gpu_thread() / 64; row < num_rows; row += MQA_WAVES) {
            const window_t seen = window(row);
            float *out = (float *)(p.logits + (first_row + row) * p.logits_stride);
            GPU_NO_UNROLL for (int32_t j = first_key + gpu_lane(); j < end; j += 64)
                if (j < seen.begin || j >= seen.end) gpu_store<float>(out + j, GPU_MINUS_INFINITY);
        }
    }

    GPU_MEMBER void run() const {
        const int32_t first = first_key + gpu_thread() / 64 * MQA_WAVE_KEYS, j = first + gpu_lane();
        const int64_t key = ac_min64((int64_t)first + gpu_lane(), p.columns - 1); /* past the last: it again */
        typename wave_t::raw_keys_t raw;
        typename wave_t::keys_t keys;
        raw.scale = gpu_load<float>(ac_mqa_scale(&p.k, 0, key));
        wave_t::load_runs(p.k, ac_mqa_key(&p.k, 0, key), raw);
        if (gpu_thread() < 64) list_rows();
        gpu_barrier();
        const int count = gpu_uniform(lds<int>(COUNT_AT));
        next_t next;
        load(0, count, next);
        wave_t::convert_keys(p, raw, keys);
        const float scale = raw.scale * wave_t::factor(p);
        store(0, next);
        gpu_barrier();
        GPU_NO_UNROLL for (int i = 0, stage = 0; i < count; i += ROWS, stage ^= 1) {
            load(i + ROWS, count, next);
            GPU_NO_UNROLL for (int r = 0; r < ROWS && i + r < count; r++) {
                const int row = gpu_uniform(listed(i + r));
                const window_t seen = window(row);
                const uint32_t at = stage * STAGE_BYTES;
                if (gpu_uniform(seen.begin) - first >= MQA_WAVE_KEYS || gpu_uniform(seen.end) <= first) continue;
                const float sum = wave_t::score(at + r * wave_t::Q_BYTES,
                                                at + ROWS * wave_t::Q_BYTES + r * wave_t::WEIGHT_BYTES, keys);
                float *out = (float *)(p.logits + (first_row + row) * p.logits_stride);
                if (j >= seen.begin && j < seen.end) gpu_store<float>(out + j, sum * scale);
            }
            store(stage ^ 1, next);
            gpu_barrier();
        }
        if (p.clean) clean();
    }
};

template <class matrix_t, int HEAD_TILES> GPU_INLINE void mqa_contiguous(const ac_mqa_logits_params_t &p) {
    using contiguous = mqa_contiguous_t<matrix_t, HEAD_TILES>;
    const int64_t blocks = p.items_per_group; /* runs of keys */
    const int64_t block = gpu_block() / blocks, first_row = block * p.block_rows;
    const contiguous body = {p, first_row, (int32_t)((gpu_block() - block * blocks) * MQA_KEYS),
                             (int)ac_min64(p.block_rows, p.num_rows - first_row)};
    body.run();
}

#endif
