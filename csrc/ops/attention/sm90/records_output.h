/* The two warpgroups of the output: O^T += V^T P^T, a half of the 512 columns each, in four products of 64 columns. A
 * warp's 16 columns of a product are one chunk of the record, 16 bytes: a transposed load of 8 keys gives a lane the
 * columns 2 g and 2 g + 1 (g = lane / 4) of two keys. Column 2 g is its row g of the product, 2 g + 1 its row g + 8. */
#ifndef AC_OPS_ATTENTION_SM90_RECORDS_OUTPUT_H
#define AC_OPS_ATTENTION_SM90_RECORDS_OUTPUT_H

#include "records_tile.h"

template <int N> struct records_output {
    typedef records_shared_t<N> shared_t;
    static constexpr int STAGES = shared_t::STAGES, SUMS = N / 2;

    records_side_t<N> &side;
    int half, warp, lane; /* warp and lane: of the present tile, see records_thread() */
    int stage, slot;
    uint32_t slot_parity, items;
    float (&o)[4][SUMS]; /* [product][8 rows: column 2 g: 2 rows, column 2 g + 1: 2 rows] */

    GPU_MEMBER int thread() const { return warp * 32 + lane; }
    GPU_MEMBER void find_thread() {
        int thread = records_thread();
        warp = thread / 32, lane = thread % 32;
    }
    GPU_MEMBER void sync() const { sm90_sync(RECORDS_SYNC_OUTPUT + half, 128); }
    GPU_MEMBER int row(int i) const { return i / 4 * 8 + (lane & 3) * 2 + (i & 1); } /* of accumulator i */
    GPU_MEMBER int first_column(int m) const { return (half * 4 + m) * 64 + warp * 16; }
    GPU_MEMBER char *record(int key) const { return records_shared<N>().stage[stage] + key * RECORD_BYTES; }

    /* --- products --- */

    /* Two pairs of keys of a product's A, 16 keys a step: (0, 1), (2, 3) of matrices m and m + 1, times their scales.
     */
    GPU_INLINE void widen(const uint32_t (&raw)[4], int step, uint2 scales, uint32_t (&a)[4]) {
        GPU_UNROLL for (int r = 0; r < 2; r++) { /* keys 0 to 7, 8 to 15 */
            uint32_t low, high, scale = r ? scales.y : scales.x;
            sm90_widen_word(__byte_perm(raw[step * 2 + r], 0, 0x3120), low, high); /* two keys' column 2 g, 2 g + 1 */
            a[2 * r] = sm90_mul_f16x2(low, scale);
            a[2 * r + 1] = sm90_mul_f16x2(high, scale);
        }
    }

    /* 32 keys of product m, from place 32 `keys` on: raw. */
    GPU_MEMBER void load(int m, int keys, uint32_t (&raw)[4]) const {
        sm90_load_matrices_turned(
            sm90_shared_address(record(records_key(keys * 32 + lane)) + first_column(m)), raw);
    }

    /* While a group of steps is multiplied, the next is widened. */
    GPU_MEMBER void add_tile() const {
        constexpr int STEPS = N == 64 ? 1 : 4; /* of a group; 64 rows: there are no registers for more */
        uint32_t a[2][STEPS][4], raw[4];
        uint64_t b = sm90_descriptor(sm90_shared_address(records_shared<N>().slot[slot]), 16);
        GPU_UNROLL for (int m = 0; m < 4; m++) sm90_pin(o[m]);
        GPU_UNROLL for (int m = 0; m < 4; m++) {
            const uint16_t *scale = side.scale[slot][(half * 4 + m) / 2] + (lane & 3) * 4;
            GPU_UNROLL for (int first = 0; first < 4; first += STEPS) {
                int group = (m * 4 + first) / STEPS, set = group & 1;
                if (group > 1) {
                    sm90_wgmma_wait<1>();
                    sm90_pin(a[set]);
                }
                GPU_UNROLL for (int k = 0; k < STEPS; k++) {
                    if ((first + k) % 2 == 0) load(m, (first + k) / 2, raw);
                    widen(raw, (first + k) & 1, *(const uint2 *)(scale + (first + k) * 16), a[set][k]);
                }
                sm90_wgmma_fence();
                GPU_UNROLL for (int k = 0; k < STEPS; k++)
                    sm90_wgmma_turned<SM90_F16>(o[m], a[set][k], sm90_advance(b, 32 * (first + k)), true);
                sm90_wgmma_commit();
            }
        }
        sm90_wgmma_wait<0>();
        GPU_UNROLL for (int set = 0; set < 2; set++) sm90_pin(a[set]);
        GPU_UNROLL for (int m = 0; m < 4; m++) sm90_pin(o[m]);
    }

    GPU_MEMBER void rescale() const {
        GPU_UNROLL for (int i = 0; i < SUMS; i += 4) {
            GPU_UNROLL for (int e = 0; e < 2; e++) {
                float factor = side.factor[slot][row(i + e)];
                GPU_UNROLL for (int m = 0; m < 4; m++) o[m][i + e] *= factor, o[m][i + 2 + e] *= factor;
            }
        }
    }

    /* --- keys that are added one by one --- */

    /* Of a key that some rows do not see: zero times its NaN must not reach them. Such are among the last 64 keys of
     * the range. Whether some of these, [first, last), has a NaN in this half. */
    GPU_MEMBER bool has_nan(int first, int last) const {
        bool found = false;
        GPU_NO_UNROLL for (int i = thread(); i < (last - first) * 64; i += 128) {
            uint32_t word = *(const uint32_t *)(record(first + i / 64) + half * 256 + i % 64 * 4);
            found |= (((word & 0x7f7f7f7fu) + 0x01010101u) & 0x80808080u) != 0;
        }
        return sm90_sync_or(RECORDS_SYNC_OUTPUT + half, 128, found);
    }

    /* Odd keys in fp32, others with values as the product has them. */
    GPU_MEMBER void add_key(int key, bool is_odd, int left, int item) const {
        uint32_t panel = sm90_shared_address(records_shared<N>().slot[slot]);
        int place = records_place(key);
        float v[4][2];
        GPU_UNROLL for (int m = 0; m < 4; m++) {
            int block = (half * 4 + m) / 2;
            float scale = *(const float *)(record(key) + RECORD_SCALES + block * 4) * side.unit[slot][block];
            uint32_t pair = *(const uint16_t *)(record(key) + first_column(m) + lane / 4 * 2), low, high;
            uint32_t rounded = side.scale[slot][block][records_scale_at(place)];
            sm90_widen_word(pair, low, high);
            high = sm90_mul_f16x2(low, rounded | rounded << 16);
            GPU_UNROLL for (int k = 0; k < 2; k++)
                v[m][k] = is_odd ? scale * sm90_unpack<SM90_F16>(low, k) : sm90_unpack<SM90_F16>(high, k);
        }
        GPU_UNROLL for (int i = 0; i < SUMS; i += 4) {
            GPU_UNROLL for (int e = 0; e < 2; e++) {
                int r = row(i + e);
                uint32_t at = records_chunk(panel, r, place / 8) - panel + place % 8 * 2;
                float p = sm90_unpack<SM90_F16>(*(const uint16_t *)(records_shared<N>().slot[slot] + at), 0);
                if (key >= left - side.masked_tail[item][r]) continue;
                GPU_UNROLL for (int m = 0; m < 4; m++) o[m][i + e] += p * v[m][0], o[m][i + 2 + e] += p * v[m][1];
            }
        }
    }

    GPU_MEMBER void add_odd(int flags) const {
        uint64_t odd = flags & RECORDS_ODD ? side.odd[slot] : 0;
        int left = side.left[slot], item = items & 1, tail = 0, last = left < RECORD_KEYS ? left : RECORD_KEYS;
        uint64_t zero = 0;
        if (flags & RECORDS_TAIL) {
            tail = side.masked_tail[item][0]; /* of the first row, the largest */
            int first = left - tail < 0 ? 0 : left - tail;
            if (first < last && has_nan(first, last))
                zero = (last < 64 ? ((uint64_t)1 << last) - 1 : ~(uint64_t)0) & ~(((uint64_t)1 << first) - 1);
        }
        if (!(odd | zero)) return;
        GPU_NO_UNROLL for (int key = 0; key < last; key++)
            if ((odd | zero) >> key & 1) add_key(key, odd >> key & 1, left, item);
        if (!zero) return;
        sync();
        GPU_NO_UNROLL for (int i = thread(); i < last * 16; i += 128)
            if (zero >> (i / 16) & 1) *(uint4 *)(record(i / 16) + half * 256 + i % 16 * 16) = make_uint4(0, 0, 0, 0);
        sync();
    }

    /* --- the way out --- */

    /* A pair of neighbouring columns; with DTYPE the whole item is of that type, its pairs at multiples of their size.
     */
    template <int DTYPE> GPU_INLINE void store_pair(const records_out_t &out, int column, float a, float b) {
        int dtype = DTYPE == AC_DTYPE_NONE ? out.dtype : DTYPE;
        uint32_t pair = dtype == AC_BFLOAT16 ? sm90_pack_bf16(a, b) : sm90_pack_f16(a, b);
        char *to = out.row + column * (dtype == AC_FLOAT32 ? 4 : 2);
        if (DTYPE == AC_FLOAT32) *(float2 *)to = make_float2(a, b);
        else if (DTYPE != AC_DTYPE_NONE) *(uint32_t *)to = pair;
        else if (dtype == AC_FLOAT32) *(float *)to = a, *(float *)(to + 4) = b;
        else *(uint16_t *)to = (uint16_t)pair, *(uint16_t *)(to + 2) = (uint16_t)(pair >> 16);
    }

    template <int DTYPE> GPU_MEMBER void store_rows() const {
        GPU_UNROLL for (int i = 0; i < SUMS; i += 4) {
            GPU_UNROLL for (int e = 0; e < 2; e++) {
                records_out_t out = side.out[row(i + e)];
                if (!out.row) continue;
                GPU_UNROLL for (int m = 0; m < 4; m++) {
                    float by = out.scale * side.out_unit[(half * 4 + m) / 2];
                    float a = out.empty ? 0 : o[m][i + e] * by, b = out.empty ? 0 : o[m][i + 2 + e] * by;
                    store_pair<DTYPE>(out, first_column(m) + lane / 4 * 2, a, b);
                }
            }
        }
    }

    GPU_MEMBER void store() const {
        sm90_barrier_wait(sm90_shared_address(&side.summed), items & 1);
        switch (side.out_dtype) {
        case AC_FLOAT32: store_rows<AC_FLOAT32>(); break;
        case AC_BFLOAT16: store_rows<AC_BFLOAT16>(); break;
        case AC_FLOAT16: store_rows<AC_FLOAT16>(); break;
        default: store_rows<AC_DTYPE_NONE>();
        }
        sm90_barrier_arrive(sm90_shared_address(&side.stored));
    }

    GPU_MEMBER void run() {
        GPU_NO_UNROLL for (;;) {
            sm90_barrier_wait(sm90_shared_address(&side.scored[slot]), slot_parity);
            find_thread();
            int flags = side.flags[slot];
            if (flags & RECORDS_END) return;
            if (flags & RECORDS_FIRST) {
                GPU_UNROLL for (int m = 0; m < 4; m++)
                    GPU_UNROLL for (int i = 0; i < SUMS; i++) o[m][i] = 0;
            }
            if (flags & RECORDS_RESCALE) rescale();
            if (flags & (RECORDS_ODD | RECORDS_TAIL)) add_odd(flags);
            add_tile();
            sm90_barrier_arrive(sm90_shared_address(&side.multiplied[slot]));
            sm90_barrier_arrive(sm90_shared_address(&side.empty[stage]));
            if (++stage == STAGES) stage = 0;
            slot ^= 1;
            if (slot == 0) slot_parity ^= 1;
            if (!(flags & RECORDS_LAST)) continue;
            store();
            items++;
        }
    }
};

#endif
