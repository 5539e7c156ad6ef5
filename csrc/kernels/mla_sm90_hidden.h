/* Values that must not reach every row: see keep_unseen_out(). */
#ifndef AC_KERNELS_MLA_SM90_HIDDEN_H
#define AC_KERNELS_MLA_SM90_HIDDEN_H

#include "mla_sm90_consumer.h"

/* A key that only some rows see must not reach the others, to which 0 * NaN or 0 * Inf would carry it. Such keys
 * are among the last 64 of the range. Only if their values are not all finite: adds them to the rows that see
 * them, one by one, and puts zeros in their place. Nothing else writes the stage any more: these are the last
 * tiles. A scale of a record can be infinite as well. */
template <class KIND>
SM90_MEMBER void sm90_consumer<KIND>::keep_unseen_out(int tile) {
    int stage = tile & 1;
    int64_t left = keys_left(tile);
    int first = left - most_unseen < 0 ? 0 : (int)(left - most_unseen);
    int last = left < SM90_KEYS ? (int)left : SM90_KEYS;
    uint32_t half = keys(stage) + self * 4 * SM90_PANEL_BYTES;
    const char *base = sm90_shared().key[stage] + self * 4 * SM90_PANEL_BYTES;
    constexpr uint32_t INFINITE = TYPE == SM90_BF16 ? 0x7f80 : 0x7c00;
    bool found = false;
    if (first >= last) return;
#pragma unroll 1
    for (int i = warp * 32 + lane; i < (last - first) * 128; i += 128) { /* pairs of columns */
        int key = first + i / 128, c = i % 128;
        uint32_t pair = *(const uint32_t *)(base + (sm90_chunk(half, key, c / 4) - half) + c % 4 * 4);
        found |= (pair & INFINITE) == INFINITE || (pair >> 16 & INFINITE) == INFINITE;
    }
    if (RECORDS && warp == 0)
        for (int i = lane; i < (last - first) * 2; i += 32)
            found |= !(fabsf(side.scales[stage][first + i / 2][self * 2 + i % 2]) <= GPU_FLT_MAX);
    if (!sm90_sync_or(SM90_SYNC_CONSUMER + self, 128, found)) return;
#pragma unroll 1
    for (int key = first; key < last; key++) add_key(stage, key, left);
    sm90_sync(SM90_SYNC_CONSUMER + self, 128);
#pragma unroll 1
    for (int i = warp * 32 + lane; i < (last - first) * 32; i += 128)
        sm90_store16(sm90_chunk(half, first + i / 32, i % 32), make_uint4(0, 0, 0, 0));
    if (RECORDS && warp == 0)
        for (int i = lane; i < (last - first) * 2; i += 32) side.scales[stage][first + i / 2][self * 2 + i % 2] = 0;
    sm90_fence_async();
    sm90_sync(SM90_SYNC_CONSUMER + self, 128);
}

template <class KIND>
SM90_MEMBER void sm90_consumer<KIND>::add_key(int stage, int key, int64_t left) {
    const char *matrix = sm90_shared().key[stage];
    uint32_t start = keys(stage);
    float weight[2];
#pragma unroll
    for (int r = 0; r < 2; r++) {
        uint32_t at = sm90_chunk(start, row + 8 * r, SM90_ROPE_PANEL * 8 + key / 8) - start + key % 8 / 2 * 4;
        uint32_t pair = *(const uint32_t *)(matrix + at);
        weight[r] = RECORDS ? sm90_unpack<SM90_F16>(pair, key & 1) : sm90_unpack<TYPE>(pair, key & 1);
    }
#pragma unroll
    for (int block = 0; block < 32; block++) {
        uint32_t at = sm90_chunk(start, key, self * 32 + block) - start + (lane & 3) * 4;
        uint32_t pair = *(const uint32_t *)(matrix + at);
        float scale = RECORDS ? side.scales[stage][key][self * 2 + block / 16] : 1;
#pragma unroll
        for (int r = 0; r < 2; r++) {
            if (key >= left - side.unseen[row + 8 * r]) continue;
            /* Records: rounded as scale_probabilities() does. */
            float p = RECORDS ? sm90_unpack<SM90_BF16>(sm90_pack_bf16(weight[r] * scale, 0), 0) : weight[r];
            o[block * 4 + r * 2] += p * sm90_unpack<TYPE>(pair, 0);
            o[block * 4 + r * 2 + 1] += p * sm90_unpack<TYPE>(pair, 1);
        }
    }
}

#endif
