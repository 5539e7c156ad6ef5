/* Queries on their way into shared memory, by the warpgroup of the scores. A few threads share a row; each has whole
 * panels of it, 64 elements, and nobody else touches them. */
#ifndef AC_OPS_ATTENTION_SM90_RECORDS_QUERY_H
#define AC_OPS_ATTENTION_SM90_RECORDS_QUERY_H

#include "records_tile.h"

template <int N> struct records_query {
    static constexpr int SHARE = 128 / N; /* threads of a row */
    static constexpr int PANEL = records_shared_t<N>::PANEL;

    const ac_attention_params_t &p;
    int row, part; /* of the thread */

    GPU_MEMBER uint32_t panel(int i) const { return sm90_shared_address(records_shared<N>().query) + i * PANEL; }
    GPU_MEMBER uint4 *chunk(int i, int c) const {
        char *query = records_shared<N>().query;
        return (uint4 *)(query + (records_chunk(panel(i), row, c) - panel(0)));
    }
    GPU_MEMBER bool is_half() const { return p.q_dtype == AC_FLOAT16; }
    GPU_MEMBER float element(uint32_t pair, int high) const {
        return is_half() ? sm90_unpack<SM90_F16>(pair, high) : sm90_unpack<SM90_BF16>(pair, high);
    }

    /* Panels part, part + SHARE, ... of the row as they are; zeros past the last row. */
    GPU_MEMBER void copy(const records_item_t &item) const {
        mla_row_t at = mla_tile_row(p, item.work, item.range, row);
        const char *q = p.q + at.query * p.q_row_stride + at.head * p.q_head_stride;
        bool exists = row < item.work.num_rows;
        bool aligned = (((int64_t)p.q | p.q_row_stride | p.q_head_stride) & 15) == 0;
        GPU_NO_UNROLL for (int i = part; i < 9; i += SHARE) {
            GPU_UNROLL for (int c = 0; c < 8; c++) {
                if (aligned) sm90_copy16(records_chunk(panel(i), row, c), q + i * 128 + c * 16, exists ? 16 : 0);
                else *chunk(i, c) = sm90_fetch16<2>(exists ? q + i * 128 + c * 16 : nullptr, false);
            }
        }
        sm90_copies_wait();
    }

    /* The largest finite magnitude of a panel of bf16, as bits. */
    GPU_MEMBER uint32_t largest(int i) const {
        uint32_t top = 0;
        GPU_UNROLL for (int c = 0; c < 8; c++) {
            uint4 v = *chunk(i, c);
            uint32_t word[4] = {v.x, v.y, v.z, v.w};
            GPU_UNROLL for (int k = 0; k < 4; k++) top = __vmaxu2(top, word[k] & 0x7fff7fffu);
        }
        top = __vmaxu2(top, top >> 16) & 0xffff;
        if (top < 0x7f80) return top;
        top = 0; /* something is not finite: which is the largest that is */
        GPU_NO_UNROLL for (int k = 0; k < 64; k++) {
            uint32_t bits = ((const uint16_t *)chunk(i, k / 8))[k % 8] & 0x7fff;
            if (bits < 0x7f80 && bits > top) top = bits;
        }
        return top;
    }

    /* A power of two that brings the row's largest latent element just below the largest fp16, and keeps the rope part
     * finite in bf16. An element below the normal numbers of fp16 then loses 2^-40 of the largest at most. */
    GPU_MEMBER float scale() const {
        uint32_t latent = 0, rope = 0;
        if (is_half()) return 1;
        GPU_NO_UNROLL for (int i = part; i < 9; i += SHARE) {
            uint32_t top = largest(i);
            if (i == RECORDS_ROPE_PANEL) rope = top;
            else if (top > latent) latent = top;
        }
        GPU_UNROLL for (int distance = 1; distance < SHARE; distance *= 2) {
            latent = max(latent, __shfl_xor_sync(0xffffffffu, latent, distance));
            rope = max(rope, __shfl_xor_sync(0xffffffffu, rope, distance));
        }
        int up = min(127 + 14 - (int)(latent >> 7), 127 + 120 - (int)(rope >> 7)); /* exponents of 14 and 120 then */
        up = max(min(up, 120), -120);
        return __uint_as_float((uint32_t)(127 + up) << 23);
    }

    /* Elements 16 c + 4 t + { 0, 1, 2, 3 } of a panel are lane c's in step t: at 2 c, 2 c + 1, 2 c + 8, 2 c + 9. */
    GPU_MEMBER void convert_latent(int i, float by) const {
        uint32_t word[8][4];
        GPU_UNROLL for (int c = 0; c < 8; c++) {
            uint4 v = *chunk(i, c);
            word[c][0] = v.x, word[c][1] = v.y, word[c][2] = v.z, word[c][3] = v.w;
            if (is_half()) continue;
            GPU_UNROLL for (int k = 0; k < 4; k++)
                word[c][k] = sm90_pack_f16(sm90_unpack<SM90_BF16>(word[c][k], 0) * by,
                                           sm90_unpack<SM90_BF16>(word[c][k], 1) * by);
        }
        GPU_UNROLL for (int c = 0; c < 8; c++) { /* step c / 2, its lower or upper 8 */
            int k = c / 2 % 2 * 2 + c % 2, from = c / 4;
            *chunk(i, c) = make_uint4(word[from][k], word[2 + from][k], word[4 + from][k], word[6 + from][k]);
        }
    }

    GPU_MEMBER void convert_rope(float by) const {
        GPU_NO_UNROLL for (int c = 0; c < 8; c++) {
            uint4 v = *chunk(RECORDS_ROPE_PANEL, c);
            uint32_t word[4] = {v.x, v.y, v.z, v.w}, rest[4];
            GPU_UNROLL for (int k = 0; k < 4; k++) {
                float low = element(word[k], 0) * by, high = element(word[k], 1) * by;
                word[k] = sm90_pack_bf16(low, high);
                low = fabsf(low) <= GPU_FLT_MAX ? low - sm90_unpack<SM90_BF16>(word[k], 0) : 0;
                high = fabsf(high) <= GPU_FLT_MAX ? high - sm90_unpack<SM90_BF16>(word[k], 1) : 0;
                rest[k] = sm90_pack_bf16(low, high);
            }
            *chunk(RECORDS_ROPE_PANEL, c) = make_uint4(word[0], word[1], word[2], word[3]);
            if (is_half()) *chunk(RECORDS_REST_PANEL, c) = make_uint4(rest[0], rest[1], rest[2], rest[3]);
        }
    }

    /* Returns what the scores of the row are to be multiplied by. */
    GPU_MEMBER float load(const records_item_t &item) const {
        copy(item);
        float by = scale();
        GPU_NO_UNROLL for (int i = part; i < 8; i += SHARE) convert_latent(i, by);
        if (RECORDS_ROPE_PANEL % SHARE == part) convert_rope(by);
        return 1 / by;
    }
};

#endif
