/* The indexer logits on sm_90a. Keys are the rows of the matrix product and come from global memory straight into the
 * registers of its A operand; heads are its columns, in shared memory. So keys take no shared memory, no barrier and no
 * swizzle, whatever a page looks like, and the sum over heads is mostly within a thread.
 *
 * Thread j of the four that share a key takes runs j and j + 4 of its 16-byte runs, by two loads, where the instruction
 * wants 4 bytes from 8 places: the elements of a head are stored in that other order. Word i of thread j is word i / 2
 * of the pair that product i / 2 takes of it. Where q or keys are not e4m3fn both become fp16, which holds every fp8
 * exactly; then word i becomes the pair that product i takes.
 *
 *     type    A of 64 keys    products
 *     fp8     16 registers    4 of m64 nN k32
 *     fp16    32 registers    8 of m64 nN k16
 */
#ifndef AC_OPS_MQA_LOGITS_SM90_TILE_H
#define AC_OPS_MQA_LOGITS_SM90_TILE_H

#include "../../../core/dtype.h"
#include "../../../gpu/sm90/convert.h"
#include "../../../gpu/sm90/wgmma_registers.h"
#include "../schedule.h"

constexpr int MQA_TILE = 64;        /* keys of a product */
constexpr int MQA_WEIGHT_LANE = 20; /* floats from one lane's weights of a row to the next's: no bank conflicts */

constexpr int MQA_WEIGHTS = 4 * 4 * MQA_WEIGHT_LANE; /* bytes of a row's weights */

/* Bytes of an element in the matrix product. */
template <int KIND> constexpr int mqa_width = KIND == SM90_E4M3 ? 1 : 2;

/* --- queries: global to shared memory --- */

/* Two elements of fp8 as fp16, NaN as NaN. */
GPU_INLINE uint32_t mqa_widen(uint32_t word, bool upper, bool fnuz) {
    if (!fnuz) return sm90_widen_pair<SM90_F16, false>(word, upper);
    uint32_t pair = sm90_widen_pair<SM90_F16, true>(word, upper);
    const uint32_t bytes = upper ? word >> 16 : word;
    if ((bytes & 0xff) == 0x80) pair |= 0x7fff;
    if ((bytes >> 8 & 0xff) == 0x80) pair |= 0x7fff0000u;
    return pair;
}

/* A word, or 0 (-1 with `missing`) without a read. */
GPU_INLINE uint32_t mqa_load4_if(bool read, const void *from, uint32_t missing = 0) {
    uint32_t word;
    asm volatile("{.reg .pred p; setp.ne.u32 p, %2, 0; mov.u32 %0, %3; @p ld.global.nc.u32 %0, [%1];}" : "=&r"(word)
                 : "l"(from), "r"((uint32_t)read), "r"(missing));
    return word;
}

GPU_INLINE uint32_t mqa_load_word(const char *from, int alignment) {
    if (alignment >= 4) return *(const uint32_t *)from;
    const uint8_t *bytes = (const uint8_t *)from;
    return bytes[0] | bytes[1] << 8 | bytes[2] << 16 | (uint32_t)bytes[3] << 24;
}

/* Where B has word `word` of head `head`: in the order of the head, or in that of the loads of keys, see above. */
template <bool BY_RUNS> GPU_INLINE uint32_t mqa_word_place(int head, int word) {
    const int chunk = BY_RUNS ? word >> 4 << 2 | (word & 3) : word >> 2, lane = BY_RUNS ? word >> 2 & 3 : word & 3;
    return head * 128 + ((chunk ^ (head & 7)) << 4) + 4 * lane;
}

/* Word `word` of head `head` to B, whose panels of 128 bytes of every head are PANEL apart. Asynchronous where nothing
 * has to be converted. */
template <int KIND, int PANEL, bool BY_RUNS>
GPU_INLINE void mqa_copy_query_word(const ac_mqa_logits_params_t &p, const char *from, uint32_t to, int head,
                                    int word) {
    from += head * p.q_head_stride + 4 * word;
    if constexpr (KIND == SM90_E4M3) {
        const uint32_t at = to + mqa_word_place<BY_RUNS>(head, word);
        if (p.q_alignment >= 4) sm90_copy4(at, from, 4);
        else asm volatile("st.shared.u32 [%0], %1;" ::"r"(at), "r"(mqa_load_word(from, 1)) : "memory");
    } else {
        static_assert(KIND == SM90_E4M3 || BY_RUNS, "fp16 is in the order of the loads");
        const uint32_t bytes = mqa_load_word(from, p.q_alignment);
        const int part = word >> 4 << 2 | (word & 3), lane = word >> 2 & 3; /* word `part` of thread `lane` */
    GPU_UNROLL for (int h = 0; h < 2; h++) {
            const int chunk = (part & 3) * 2 + h;
            const uint32_t at = to + (part >> 2) * PANEL + head * 128 +
                                ((chunk ^ (head & 7)) << 4) + 4 * lane;
            const uint32_t pair = mqa_widen(bytes, h != 0, p.q_dtype == AC_FLOAT8_E4M3FNUZ);
            asm volatile("st.shared.u32 [%0], %1;" ::"r"(at), "r"(pair) : "memory");
        }
    }
}

/* A query to B, in the order of the loads of keys, by THREADS threads. By runs of 16 bytes where that is possible: the
 * loads have to be on their way before those of the keys. */
template <int KIND, int N, int PANEL, int THREADS>
GPU_INLINE void mqa_load_query(const ac_mqa_logits_params_t &p, const char *from, uint32_t to, int thread) {
    constexpr int RUNS = (N * 8 + THREADS - 1) / THREADS; /* of a thread */
    if (KIND == SM90_E4M3 && p.q_alignment == 16) {
        constexpr int STEP = THREADS / 8; /* heads from one of a thread's runs to the next */
        static_assert(STEP % 4 == 0, "the swizzle of every second one is the same");
        const int head = thread / 8, word = thread % 8 * 4;
        const int64_t distance = STEP * p.q_head_stride;
        uint4 runs[RUNS];
        from += head * p.q_head_stride + word * 4;
        GPU_UNROLL for (int i = 0; i < RUNS; i++, from += distance)
            runs[i] = sm90_load16_if(head + i * STEP < p.num_heads, from);
        GPU_UNROLL for (int k = 0; k < 4; k++) {
            const uint32_t even = to + mqa_word_place<true>(head, word + k);
            const uint32_t odd = to + mqa_word_place<true>(head + STEP % 8, word + k) - STEP % 8 * 128;
            GPU_UNROLL for (int i = 0; i < RUNS; i++) {
                const uint32_t value = k == 0 ? runs[i].x : k == 1 ? runs[i].y : k == 2 ? runs[i].z : runs[i].w;
                if (head + i * STEP < p.num_heads)
                    asm volatile("st.shared.u32 [%0], %1;" ::"r"((i & 1 ? odd : even) + i * STEP * 128), "r"(value)
                                 : "memory");
            }
        }
    } else {
        GPU_NO_UNROLL for (int i = thread; i < p.num_heads * 32; i += THREADS)
            mqa_copy_query_word<KIND, PANEL, true>(p, from, to, i / 32, i % 32);
    }
}

/* Place of the weight of a head, in floats: the heads of one lane stand together. */
GPU_INLINE int mqa_weight_place(int head) {
    return (head >> 1 & 3) * MQA_WEIGHT_LANE + (head >> 3) * 2 + (head & 1);
}

/* --- keys: global memory to the A operand --- */

/* A bulk copy, see sm90_copy_bulk, of what is not read again soon: it makes room in the L2 first. */
GPU_INLINE void mqa_copy_once(uint32_t to, const void *from, uint32_t bytes, uint32_t barrier) {
    asm volatile("{.reg .b64 policy; createpolicy.fractional.L2::evict_first.b64 policy, 1.0;"
                 "cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes.L2::cache_hint "
                 "[%0], [%1], %2, [%3], policy;}" ::"r"(to), "l"(from), "r"(bytes), "r"(barrier) : "memory");
}

/* The A operand of a tile. */
template <int KIND> struct mqa_operand_t {
    uint32_t a[KIND == SM90_E4M3 ? 16 : 32]; /* product by product */

    /* Word i of the thread's in row r, or with `half` in row r + 8. */
    GPU_MEMBER void set(int i, int half, uint32_t word, bool fnuz) {
        if constexpr (KIND == SM90_E4M3) a[i / 2 * 4 + i % 2 * 2 + half] = word;
        else GPU_UNROLL for (int h = 0; h < 2; h++) a[i * 4 + h * 2 + half] = mqa_widen(word, h != 0, fnuz);
    }
};

/* Two keys of a tile as a thread loads them: row r of its warp's 16, and r + 8. The loads are under way until `use`. */
struct mqa_keys_t {
    uint4 run[2][2];
    float scale; /* of row r, or in odd lanes r + 8 */
    bool exists; /* likewise */

    /* Zeros where the key does not exist, without a read. Of any alignment. */
    GPU_MEMBER void load(const ac_mqa_keys_t &k, int half, bool there, const char *key) {
        const int64_t distance = ac_mqa_run_stride(&k);
        key += (gpu_lane() & 3) * distance;
        GPU_UNROLL for (int i = 0; i < 2; i++) {
            const char *from = key + 4 * i * distance;
            run[half][i] = make_uint4(0, 0, 0, 0);
            if (there)
                run[half][i] = make_uint4(mqa_load_word(from, k.alignment), mqa_load_word(from + 4, k.alignment),
                                          mqa_load_word(from + 8, k.alignment), mqa_load_word(from + 12, k.alignment));
        }
    }

    template <int KIND> GPU_MEMBER void use(bool fnuz, mqa_operand_t<KIND> &out) const {
        GPU_UNROLL for (int half = 0; half < 2; half++)
            GPU_UNROLL for (int i = 0; i < 2; i++) {
                const uint4 v = run[half][i];
                out.set(4 * i, half, v.x, fnuz), out.set(4 * i + 1, half, v.y, fnuz);
                out.set(4 * i + 2, half, v.z, fnuz), out.set(4 * i + 3, half, v.w, fnuz);
            }
    }
};

/* --- products and sums --- */

/* A descriptor whose lower half is computed in 32 bits: where the compiler does not know that it is the same in all
 * threads, it would else keep 64 bits of every step in registers. */
GPU_INLINE uint64_t mqa_descriptor(uint32_t address) {
    uint64_t descriptor;
    asm("mov.b64 %0, {%1, %2};" : "=l"(descriptor)
        : "r"(address >> 4), "n"((uint32_t)((uint64_t)(1024 >> 4) | (uint64_t)1 << 30)));
    return descriptor;
}

/* Starts the product of 64 keys with COLUMNS heads, those of one or more rows. Until it is waited for nothing may touch
 * d; all that was started is to be waited for before the end of a loop's turn, else ptxas of CUDA 13.0 puts a wait
 * after every instruction (C7514). UNIFORM: the compiler knows that `query` is the same in all threads. */
template <int KIND, int COLUMNS, int PANEL, bool UNIFORM = false>
GPU_INLINE void mqa_start(float (&d)[COLUMNS / 2], const mqa_operand_t<KIND> &keys, uint32_t query) {
    constexpr int STEPS = KIND == SM90_E4M3 ? 4 : 8;
    const uint64_t first = sm90_descriptor(query, 0);
    sm90_pin(d);
    sm90_wgmma_fence();
    GPU_UNROLL for (int step = 0; step < STEPS; step++) {
        const uint32_t a[4] = {keys.a[4 * step], keys.a[4 * step + 1], keys.a[4 * step + 2], keys.a[4 * step + 3]};
        const uint32_t at = step / 4 * PANEL + step % 4 * 32;
        sm90_wgmma_rs<KIND>(d, a, UNIFORM ? sm90_advance(first, at) : mqa_descriptor(query + at), step > 0);
    }
    sm90_wgmma_commit();
}

/* Until RUNNING products are left; d is that of the last one done. */
template <int RUNNING, int N> GPU_INLINE void mqa_wait(float (&d)[N]) {
    sm90_wgmma_wait<RUNNING>();
    sm90_pin(d);
}

/* The weights of a row that a thread needs: those of heads 2 j and 2 j + 1 of every eight. */
template <int N> struct mqa_weights_t {
    float4 w[N / 16];

    GPU_MEMBER void load(const float *row) {
        const float4 *own = (const float4 *)(row + (gpu_lane() & 3) * MQA_WEIGHT_LANE);
        GPU_UNROLL for (int i = 0; i < N / 16; i++) w[i] = own[i];
    }
};

/* sum_h weights[h] * max(d[h], 0) of the thread's heads of one row: for keys r and r + 8. */
struct mqa_sums_t {
    float low, high;

    /* What is computed later is not mixed with this sum. */
    GPU_MEMBER void pin() { asm volatile("" : "+f"(low), "+f"(high)::"memory"); }
    /* The same for ptxas, which would else wait for the next product before it is done with this sum: a store, which is
     * never made. */
    GPU_MEMBER void finish(bool never) const {
        asm volatile("{.reg .pred p; .reg .f32 sum; setp.ne.u32 p, %2, 0; add.f32 sum, %0, %1;"
                     "@p st.volatile.shared.f32 [%3], sum;}"
                     ::"f"(low), "f"(high), "r"((uint32_t)never), "r"(0) : "memory");
    }

    template <int N> GPU_MEMBER void add(const float *d, const mqa_weights_t<N> &weights) {
        low = high = 0;
        GPU_UNROLL for (int i = 0; i < N / 8; i++) {
            const float4 w = weights.w[i / 2];
            const float first = i & 1 ? w.z : w.x, second = i & 1 ? w.w : w.y;
            low = fmaf(first, gpu_max(d[4 * i], 0), low);
            high = fmaf(first, gpu_max(d[4 * i + 2], 0), high);
            low = fmaf(second, gpu_max(d[4 * i + 1], 0), low);
            high = fmaf(second, gpu_max(d[4 * i + 3], 0), high);
        }
    }

    /* Over two of the four lanes of a key: of key r in even lanes, of key r + 8 in odd ones. */
    GPU_MEMBER float pair() const {
        const bool odd = gpu_lane() & 1;
        return (odd ? high : low) + __shfl_xor_sync(0xffffffffu, odd ? low : high, 1);
    }
    /* Over all four. */
    GPU_MEMBER float total() const {
        const float sum = pair();
        return sum + __shfl_xor_sync(0xffffffffu, sum, 2);
    }
};

/* The totals of two, added in the same order: of the first in the two lower lanes of a key, of the second in the two
 * upper ones. */
GPU_INLINE float mqa_total_of_two(const mqa_sums_t &first, const mqa_sums_t &second) {
    const bool upper = gpu_lane() & 2;
    const float a = first.pair(), b = second.pair();
    return (upper ? b : a) + __shfl_xor_sync(0xffffffffu, upper ? a : b, 2);
}

/* Two tiles with two rows: a product runs while the one before it is summed, and weights are loaded once for two tiles.
 * sums: by row and tile. */
template <int KIND, int N, int PANEL>
GPU_INLINE void mqa_two_by_two(const mqa_operand_t<KIND> (&keys)[2], const uint32_t (&query)[2],
                               const float *const (&row_weights)[2], bool never, mqa_sums_t (&sums)[2][2]) {
    float d[N / 2], e[N / 2];
    mqa_weights_t<N> weights;
    mqa_start<KIND, N, PANEL>(d, keys[0], query[0]);
    weights.load(row_weights[0]);
    mqa_start<KIND, N, PANEL>(e, keys[1], query[0]);
    mqa_wait<1>(d);
    sums[0][0].add(d, weights), sums[0][0].pin();
    mqa_start<KIND, N, PANEL>(d, keys[0], query[1]);
    mqa_wait<1>(e);
    sums[0][1].add(e, weights), sums[0][1].pin();
    weights.load(row_weights[1]);
    mqa_start<KIND, N, PANEL>(e, keys[1], query[1]);
    mqa_wait<1>(d);
    sums[1][0].add(d, weights), sums[1][0].finish(never);
    mqa_wait<0>(e);
    sums[1][1].add(e, weights);
}

#endif
