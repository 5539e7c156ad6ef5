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
#ifndef AC_OPS_MQA_LOGITS_SM90_H
#define AC_OPS_MQA_LOGITS_SM90_H

#include "../../core/dtype.h"
#include "../../gpu/sm90/convert.h"
#include "../../gpu/sm90/wgmma_registers.h"
#include "schedule.h"

constexpr int MQA_TILE = 64;        /* keys of a product */
constexpr int MQA_WEIGHT_LANE = 20; /* floats from one lane's weights of a row to the next's: no bank conflicts */

/* N: heads that a product covers. */
template <int KIND, int N> struct mqa_shape_t {
    static constexpr int STEPS = KIND == SM90_E4M3 ? 4 : 8; /* products along a head */
    static constexpr int Q_BYTES = N * AC_MQA_DIM * (KIND == SM90_E4M3 ? 1 : 2);
    static constexpr int PANEL = N * 128;                   /* bytes: 128 of every head */
    static constexpr int WEIGHTS = 4 * 4 * MQA_WEIGHT_LANE; /* bytes of a row's weights */
};

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
    asm volatile("{.reg .pred p; setp.ne.u32 p, %2, 0; mov.u32 %0, %3; @p ld.global.nc.u32 %0, [%1];}"
                 : "=&r"(word) : "l"(from), "r"((uint32_t)read), "r"(missing));
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

/* Word `word` of head `head` to B. Asynchronous where nothing has to be converted. */
template <int KIND, int N, bool BY_RUNS>
GPU_INLINE void mqa_copy_query_word(const ac_mqa_logits_params_t &p, const char *from, uint32_t to, int head, int word) {
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
            const uint32_t at = to + (part >> 2) * mqa_shape_t<KIND, N>::PANEL + head * 128 +
                                ((chunk ^ (head & 7)) << 4) + 4 * lane;
            const uint32_t pair = mqa_widen(bytes, h != 0, p.q_dtype == AC_FLOAT8_E4M3FNUZ);
            asm volatile("st.shared.u32 [%0], %1;" ::"r"(at), "r"(pair) : "memory");
        }
    }
}

/* Place of the weight of a head, in floats: the heads of one lane stand together. */
GPU_INLINE int mqa_weight_place(int head) {
    return (head >> 1 & 3) * MQA_WEIGHT_LANE + (head >> 3) * 2 + (head & 1);
}

/* --- keys: global memory to the A operand --- */

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

    /* Zeros where the key does not exist, without a read. */
    template <bool ALIGNED>
    GPU_MEMBER void load(const ac_mqa_keys_t &k, int half, bool there, const char *key) {
        const int64_t distance = ac_mqa_run_stride(&k);
        key += (gpu_lane() & 3) * distance;
        GPU_UNROLL for (int i = 0; i < 2; i++) {
            const char *from = key + 4 * i * distance;
            run[half][i] = make_uint4(0, 0, 0, 0);
            if (ALIGNED) run[half][i] = sm90_load16_if(there, from);
            else if (there)
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

/* One row's scores with 64 keys. */
template <int KIND, int N>
GPU_INLINE void mqa_scores(float (&d)[N / 2], const mqa_operand_t<KIND> &keys, uint32_t query) {
    using shape = mqa_shape_t<KIND, N>;
    const uint64_t b = sm90_descriptor(query, 0);
    sm90_wgmma_fence();
    GPU_UNROLL for (int step = 0; step < shape::STEPS; step++) {
        const uint32_t a[4] = {keys.a[4 * step], keys.a[4 * step + 1], keys.a[4 * step + 2], keys.a[4 * step + 3]};
        sm90_wgmma_rs<KIND>(d, a, sm90_advance(b, step / 4 * shape::PANEL + step % 4 * 32), step > 0);
    }
    sm90_wgmma_commit();
}

/* sum_h weights[h] * max(d[h], 0): of row r in even lanes, of row r + 8 in odd ones. */
template <int N> GPU_INLINE float mqa_sum_heads(const float (&d)[N / 2], const float *weights) {
    const float4 *own = (const float4 *)(weights + (gpu_lane() & 3) * MQA_WEIGHT_LANE);
    float low[2] = {0, 0}, high[2] = {0, 0};
    GPU_UNROLL for (int i = 0; i < N / 16; i++) {
        const float4 w = own[i];
        GPU_UNROLL for (int k = 0; k < 2; k++) {
            const float *s = d + 8 * i + 4 * k;
            low[0] = fmaf(k ? w.z : w.x, gpu_max(s[0], 0), low[0]);
            low[1] = fmaf(k ? w.w : w.y, gpu_max(s[1], 0), low[1]);
            high[0] = fmaf(k ? w.z : w.x, gpu_max(s[2], 0), high[0]);
            high[1] = fmaf(k ? w.w : w.y, gpu_max(s[3], 0), high[1]);
        }
    }
    const float row = low[0] + low[1], row8 = high[0] + high[1];
    const bool odd = gpu_lane() & 1;
    float sum = (odd ? row8 : row) + __shfl_xor_sync(0xffffffffu, odd ? row : row8, 1);
    return sum + __shfl_xor_sync(0xffffffffu, sum, 2);
}

/* --- keys in pages: a workgroup is one warpgroup, which walks over its share of the tiles --- */

constexpr int MQA_PAGED_THREADS = 128;

template <int KIND, int N> struct mqa_paged_t {
    using shape = mqa_shape_t<KIND, N>;
    static constexpr int BLOCK_ROWS = KIND == SM90_E4M3 ? 4 : 3; /* query rows that share a pass over the keys */
    using schedule_t = mqa_schedule_t<MQA_TILE, MQA_PAGED_THREADS>;
    static constexpr int WEIGHTS_AT = BLOCK_ROWS * shape::Q_BYTES;
    static constexpr int WINDOWS_AT = WEIGHTS_AT + BLOCK_ROWS * shape::WEIGHTS;
    static constexpr int SHARED_AT = WINDOWS_AT + BLOCK_ROWS * 8;
    static constexpr int BYTES = SHARED_AT + (int)sizeof(mqa_shared_t);

    const ac_mqa_logits_params_t &p;
    schedule_t schedule;
    int rows;  /* of the unit at hand */
    char *out; /* its logits */

    GPU_MEMBER float *weights() const { return (float *)(gpu_shared + WEIGHTS_AT); }
    GPU_MEMBER int2 *windows() const { return (int2 *)(gpu_shared + WINDOWS_AT); } /* seen, end */

    /* Row r (half 0) or r + 8 of the warp's in a tile, as a key of the request. */
    GPU_MEMBER int32_t key_of(int32_t tile, int half) const {
        return tile * MQA_TILE + gpu_thread() / 32 * 16 + gpu_lane() / 4 + 8 * half;
    }

    GPU_MEMBER int64_t first_row(int32_t unit) const {
        const int32_t group = schedule.group_of(unit);
        return (int64_t)group * p.group_rows + (unit - group * p.row_blocks) * p.block_rows;
    }
    GPU_MEMBER int rows_of(int32_t unit) const {
        const int32_t block = unit - schedule.group_of(unit) * p.row_blocks;
        return (int)ac_min64(p.block_rows, p.group_rows - (int64_t)block * p.block_rows);
    }

    /* What the table says of the thread's two keys; -1 where there is no key, or no entry. Nothing waits for it here. */
    GPU_MEMBER int2 find_pages(const mqa_cursor_t &at) const {
        const bool some = at.unit < schedule.num_units();
        const int32_t *table = p.k.table + schedule.group_of(at.unit) * p.k.table_stride;
        int32_t pages[2];
        GPU_UNROLL for (int half = 0; half < 2; half++) {
            const int32_t j = key_of(at.tile, half);
            uint32_t token;
            const uint32_t entry = ac_mqa_entry_of(&p.k, j, &token);
            pages[half] = (int32_t)mqa_load4_if(some && j < at.length && entry < p.k.table_width, table + entry, ~0u);
        }
        return make_int2(pages[0], pages[1]);
    }

    template <bool ALIGNED> GPU_MEMBER void load_keys(int32_t tile, int2 pages, mqa_keys_t &keys) const {
        const char *scale[2];
        bool there[2];
        GPU_UNROLL for (int half = 0; half < 2; half++) {
            uint32_t token;
            ac_mqa_entry_of(&p.k, key_of(tile, half), &token);
            const int32_t page = half ? pages.y : pages.x;
            there[half] = page >= 0 && page < p.k.num_pages;
            keys.load<ALIGNED>(p.k, half, there[half], ac_mqa_key(&p.k, page, token));
            scale[half] = ac_mqa_scale(&p.k, page, token);
        }
        const bool odd = gpu_lane() & 1;
        keys.exists = (odd & there[1]) | (!odd & there[0]);
        const char *from = odd ? scale[1] : scale[0];
        if (ALIGNED) keys.scale = __uint_as_float(mqa_load4_if(keys.exists, from));
        else keys.scale = keys.exists ? gpu_load<float>(from) : 0;
    }

    GPU_MEMBER void load_unit(int32_t unit) {
        const int64_t first = first_row(unit);
        rows = rows_of(unit);
        out = p.logits + first * p.logits_stride;
        const int32_t group = schedule.group_of(unit);
        const uint32_t to = sm90_shared_address(gpu_shared);
        gpu_barrier(); /* the last unit's readers */
        GPU_NO_UNROLL for (int row = 0; row < rows; row++) {
            const int64_t in_group = first + row - (int64_t)group * p.group_rows;
            const char *from = p.q + group * p.q_group_stride + in_group * p.q_row_stride;
            GPU_NO_UNROLL for (int i = gpu_thread(); i < p.num_heads * 32; i += MQA_PAGED_THREADS)
                mqa_copy_query_word<KIND, N, true>(p, from, to + row * shape::Q_BYTES, i / 32, i % 32);
            if (gpu_thread() < p.num_heads)
                weights()[row * shape::WEIGHTS / 4 + mqa_weight_place(gpu_thread())] =
                    p.weights[(first + row) * p.weights_stride + gpu_thread()];
            if (gpu_thread() == row) {
                const ac_mqa_window_t window = ac_mqa_window(&p, group, in_group);
                windows()[row] = make_int2((int)window.seen, (int)window.end);
            }
        }
        sm90_copies_wait();
        sm90_fence_async();
        gpu_barrier();
    }

    /* Heads past the last are zeros, and so are their weights. */
    GPU_MEMBER void clear() const {
        GPU_NO_UNROLL for (int i = gpu_thread(); i < WINDOWS_AT / 16; i += MQA_PAGED_THREADS)
            ((uint4 *)gpu_shared)[i] = make_uint4(0, 0, 0, 0);
    }

    GPU_MEMBER void store(int32_t tile, int row, float logit, bool exists) const {
        const int32_t j = key_of(tile, gpu_lane() & 1);
        const int2 window = windows()[row];
        if ((gpu_lane() & 2) || j >= window.y) return;
        ((float *)(out + row * p.logits_stride))[j] = exists && j < window.x ? logit : GPU_MINUS_INFINITY;
    }

    /* One tile; `fetch` starts loads to `keys`, which is free by then. */
    template <class fetch_t>
    GPU_MEMBER void compute(int32_t tile, mqa_keys_t &keys, fetch_t fetch) const {
        const uint32_t query = sm90_shared_address(gpu_shared);
        mqa_operand_t<KIND> operand;
        keys.use(p.k.dtype == AC_FLOAT8_E4M3FNUZ, operand);
        const float scale = keys.scale;
        const bool exists = keys.exists;
        fetch();
        GPU_NO_UNROLL for (int row = 0; row < rows; row++) {
            float d[N / 2];
            sm90_pin(d);
            mqa_scores<KIND, N>(d, operand, query + row * shape::Q_BYTES);
            sm90_wgmma_wait<0>();
            sm90_pin(d);
            store(tile, row, mqa_sum_heads<N>(d, weights() + row * shape::WEIGHTS / 4) * scale, exists);
        }
    }

    /* Two sets of keys in turn: a tile is multiplied while the next one is under way, and the one after that into the
     * registers that the tile has just left; its pages were looked up a tile earlier. */
    template <bool ALIGNED> GPU_MEMBER void walk(int32_t count, mqa_cursor_t ahead) {
        const int32_t none = schedule.num_units();
        mqa_keys_t keys[2];
        int32_t units[3], tiles[3], unit = -1;
        int2 pages;
        GPU_UNROLL for (int i = 0; i < 3; i++) {
            pages = find_pages(ahead);
            units[i] = ahead.unit, tiles[i] = ahead.tile;
            if (i < 2) load_keys<ALIGNED>(tiles[i], pages, keys[i]);
            if (i == 2) break;
            if (i + 1 < count && ahead.unit < none) schedule.advance(ahead);
            else ahead.unit = none;
        }
        GPU_NO_UNROLL for (int32_t done = 0; done < count; done += 2) {
            GPU_UNROLL for (int i = 0; i < 2; i++) {
                if (done + i >= count || units[0] >= none) return; /* lengths may have fallen meanwhile */
                if (units[0] != unit) load_unit(unit = units[0]);
                const int32_t tile = tiles[0];
                compute(tile, keys[i], [&] {
                    load_keys<ALIGNED>(tiles[2], pages, keys[i]);
                    GPU_UNROLL for (int k = 0; k < 2; k++) units[k] = units[k + 1], tiles[k] = tiles[k + 1];
                    if (done + i + 3 < count && ahead.unit < none) schedule.advance(ahead);
                    else ahead.unit = none;
                    units[2] = ahead.unit, tiles[2] = ahead.tile;
                    pages = find_pages(ahead);
                });
            }
        }
    }

    /* While the lengths are on their way: brings to the L2 what this worker needs first if all lengths are alike. */
    GPU_MEMBER void prefetch() const {
        const int64_t tiles = ac_ceil_div64(p.columns, MQA_TILE);
        const int64_t first = schedule.num_units() * tiles * gpu_block() / p.num_workers;
        const int32_t unit = (int32_t)(first / tiles), tile = (int32_t)(first - unit * tiles);
        const int32_t group = schedule.group_of(unit);
        if (group >= p.num_requests) return;
        const int64_t in_group = first_row(unit) - (int64_t)group * p.group_rows;
        uint32_t token;
        const uint32_t entry = ac_mqa_entry_of(&p.k, key_of(tile, 0), &token);
        if (gpu_thread() < p.num_heads)
            sm90_prefetch(p.q + group * p.q_group_stride + in_group * p.q_row_stride + gpu_thread() * p.q_head_stride);
        else if (gpu_thread() % 32 == 0) sm90_prefetch(p.weights + first_row(unit) * p.weights_stride);
        if (gpu_lane() == 0 && entry < p.k.table_width) sm90_prefetch(p.k.table + group * p.k.table_stride + entry);
    }

    GPU_MEMBER void run() {
        mqa_cursor_t first;
        prefetch();
        const int32_t count = schedule.find(gpu_block(), first);
        if (count > 0) {
            if (p.num_heads < N) clear();
            if (p.k.alignment == 16) walk<true>(count, first);
            else walk<false>(count, first);
        }
        if (p.clean) schedule.clean(gpu_block());
    }
};

template <int KIND, int N> GPU_INLINE void mqa_paged(const ac_mqa_logits_params_t &p) {
    using paged = mqa_paged_t<KIND, N>;
    paged body = {p, {p, *(mqa_shared_t *)(gpu_shared + paged::SHARED_AT)}, 0, nullptr};
    body.run();
}

#include "sm90_contiguous.h"

#endif
