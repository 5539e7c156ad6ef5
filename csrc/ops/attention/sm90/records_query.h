/* Queries on their way into shared memory: a warp for a row, whose 72 chunks of 16 bytes its lanes load side by side,
 * and a few rows under way. The first item's are the work of all warps that compute, later ones' that of the scores. */
#ifndef AC_OPS_ATTENTION_SM90_RECORDS_QUERY_H
#define AC_OPS_ATTENTION_SM90_RECORDS_QUERY_H

#include "records_tile.h"

template <int N, int WARPS, class items_t> struct records_query {
    static constexpr int PANEL = records_shared_t<N>::PANEL;
    static constexpr int ROWS = (N + WARPS - 1) / WARPS; /* of a warp: warp + WARPS i */
    static constexpr int AHEAD = ROWS < 4 ? ROWS : 4;    /* on their way */

    const ac_attention_params_t &p;
    const items_t &items;
    const records_item_t &item;
    int warp, lane;

    /* A lane's chunks of a row: lane, lane + 32, and of the rope part one for 8 lanes. */
    struct row_t {
        uint4 chunk[3];
    };

    GPU_MEMBER char *panel(int i) const { return records_shared<N>().query + i * PANEL; }
    GPU_MEMBER uint32_t *chunk(int i, int row, int c) const {
        return (uint32_t *)(panel(i) + row * 128 + ((c ^ (row & 7)) << 4));
    }
    GPU_MEMBER bool is_half() const { return p.q_dtype == AC_FLOAT16; }
    GPU_MEMBER float element(uint32_t pair, int high) const {
        return is_half() ? sm90_unpack<SM90_F16>(pair, high) : sm90_unpack<SM90_BF16>(pair, high);
    }

    GPU_MEMBER row_t load(const char *q) const {
        row_t row;
        GPU_UNROLL for (int k = 0; k < 3; k++)
            row.chunk[k] = sm90_load16_if(q && (k < 2 || lane < 8), q + (lane + k * 32) * 16);
        return row;
    }

    /* The same from any address, by way of the row's place in shared memory. */
    GPU_MEMBER row_t gather(const char *q, int r) const {
        row_t row;
        GPU_NO_UNROLL for (int c = lane; c < 72; c += 32)
            *(uint4 *)chunk(c / 8, r, c % 8) = sm90_fetch16<2>(q ? q + c * 16 : nullptr, false);
        GPU_UNROLL for (int k = 0; k < 3; k++)
            row.chunk[k] =
                k < 2 || lane < 8 ? *(const uint4 *)chunk(lane / 8 + 4 * k, r, lane % 8) : make_uint4(0, 0, 0, 0);
        __syncwarp();
        return row;
    }

    /* The largest finite magnitude of a chunk of bf16, as bits. */
    GPU_INLINE uint32_t largest(uint4 v) {
        uint32_t word[4] = {v.x, v.y, v.z, v.w}, top = 0;
        GPU_UNROLL for (int k = 0; k < 4; k++) top = __vmaxu2(top, word[k] & 0x7fff7fffu);
        top = __vmaxu2(top, top >> 16) & 0xffff;
        if (top < 0x7f80) return top;
        top = 0; /* something is not finite: which is the largest that is */
        GPU_UNROLL for (int k = 0; k < 8; k++) {
            uint32_t bits = word[k / 2] >> k % 2 * 16 & 0x7fff;
            if (bits < 0x7f80 && bits > top) top = bits;
        }
        return top;
    }

    /* A power of two that brings the row's largest latent element just below the largest fp16, and keeps the rope part
     * finite in bf16. An element below the normal numbers of fp16 then loses 2^-40 of the largest at most. */
    GPU_MEMBER int exponent(const row_t &row) const {
        if (is_half()) return 0;
        uint32_t latent = __reduce_max_sync(0xffffffffu, max(largest(row.chunk[0]), largest(row.chunk[1])));
        uint32_t rope = __reduce_max_sync(0xffffffffu, largest(row.chunk[2]));
        int up = min(127 + 14 - (int)(latent >> 7), 127 + 120 - (int)(rope >> 7)); /* exponents of 14 and 120 then */
        return max(min(up, 120), -120);
    }

    /* Elements 16 c + 4 t + { 0, 1, 2, 3 } of a panel are lane c's in step t: at 2 c, 2 c + 1, 2 c + 8, 2 c + 9. So the
     * words of chunk c are word c / 2 of the chunks 4 (c % 2) + { 0, 1, 2, 3 }. */
    GPU_MEMBER void store_latent(int i, int r, uint4 v, float by) const {
        uint32_t word[4] = {v.x, v.y, v.z, v.w};
        int c = lane % 8;
        GPU_UNROLL for (int k = 0; k < 4; k++) {
            if (!is_half())
                word[k] = sm90_pack_f16(sm90_unpack<SM90_BF16>(word[k], 0) * by,
                                        sm90_unpack<SM90_BF16>(word[k], 1) * by);
            chunk(i, r, c % 2 * 4 + k)[c / 2] = word[k];
        }
    }

    GPU_MEMBER void store_rope(int r, uint4 v, float by) const {
        uint32_t word[4] = {v.x, v.y, v.z, v.w}, rounded[4], rest[4];
        GPU_UNROLL for (int k = 0; k < 4; k++)
            rounded[k] = sm90_pack_bf16(element(word[k], 0) * by, element(word[k], 1) * by);
        *(uint4 *)chunk(RECORDS_ROPE_PANEL, r, lane) = make_uint4(rounded[0], rounded[1], rounded[2], rounded[3]);
        if (!is_half()) return;
        GPU_UNROLL for (int k = 0; k < 4; k++) {
            float low = element(word[k], 0) * by, high = element(word[k], 1) * by;
            low = fabsf(low) <= GPU_FLT_MAX ? low - sm90_unpack<SM90_BF16>(rounded[k], 0) : 0;
            high = fabsf(high) <= GPU_FLT_MAX ? high - sm90_unpack<SM90_BF16>(rounded[k], 1) : 0;
            rest[k] = sm90_pack_bf16(low, high);
        }
        *(uint4 *)chunk(RECORDS_REST_PANEL, r, lane) = make_uint4(rest[0], rest[1], rest[2], rest[3]);
    }

    /* Row `i` of the warp, of which lane `i` has the address; NULL past the item's last. */
    GPU_MEMBER const char *row_of(uint64_t mine, int i) const {
        const char *q = (const char *)__shfl_sync(0xffffffffu, mine, i);
        return warp + WARPS * i < item.work.num_rows ? q : nullptr;
    }

    GPU_MEMBER void store(const row_t &row, int r, float scale) const {
        int up = exponent(row);
        float by = __uint_as_float((uint32_t)(127 + up) << 23);
        store_latent(lane / 8, r, row.chunk[0], by);
        store_latent(lane / 8 + 4, r, row.chunk[1], by);
        if (lane < 8) store_rope(r, row.chunk[2], by);
        if (lane == 0) records_shared<N>().side.row[r].scale = scale * __uint_as_float((uint32_t)(127 - up) << 23);
    }

    /* All rows. row[r].scale: what the scores of a row are to be multiplied by. A loop of one row, since its code runs
     * for the first time. */
    GPU_MEMBER void run(float scale) const {
        mla_row_t at = items.row(item.work, item.range, warp + WARPS * (lane % ROWS)); /* a lane finds one of them */
        uint64_t mine = (uint64_t)(p.q + at.query * p.q_row_stride + at.head * p.q_head_stride);
        bool aligned = (((int64_t)p.q | p.q_row_stride | p.q_head_stride) & 15) == 0;
        row_t row[AHEAD];
        auto fetch = [&](int i) {
            const char *q = row_of(mine, i);
            return load(aligned ? q : nullptr);
        };
        GPU_UNROLL for (int i = 0; i < AHEAD; i++) row[i] = fetch(i);
        GPU_NO_UNROLL for (int i = 0; i < ROWS; i++) {
            int r = warp + WARPS * i;
            if (!aligned && r < N) row[0] = gather(row_of(mine, i), r);
            if (N % WARPS == 0 || r < N) store(row[0], r, scale);
            GPU_UNROLL for (int k = 0; k + 1 < AHEAD; k++) row[k] = row[k + 1];
            if (ROWS > AHEAD) row[AHEAD - 1] = fetch(i + AHEAD);
        }
    }
};

#endif
