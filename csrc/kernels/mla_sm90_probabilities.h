/* Scores to probabilities: what a row does not see, the running softmax, and the hand-over to both consumers. */
#ifndef AC_KERNELS_MLA_SM90_PROBABILITIES_H
#define AC_KERNELS_MLA_SM90_PROBABILITIES_H

#include "mla_sm90_consumer.h"

template <class KIND>
SM90_MEMBER void sm90_consumer<KIND>::hide(float (&s)[32], uint64_t exists, int64_t left) const {
#pragma unroll
    for (int r = 0; r < 2; r++) {
        uint64_t seen =
            ac_clamp64(left - side.unseen[row + 8 * r], 0, SM90_KEYS) == SM90_KEYS
                ? exists
                : exists & (((uint64_t)1 << ac_clamp64(left - side.unseen[row + 8 * r], 0, SM90_KEYS)) - 1);
        seen >>= (lane & 3) * 2;
#pragma unroll
        for (int i = 0; i < 16; i++)
            if (!(seen >> (i / 2 * 8 + (i & 1)) & 1)) s[index(i, r)] = GPU_MINUS_INFINITY;
    }
}

/* Adds the scores of the three terms of each query, which lie in three warps' registers, by way of panel 8. */
template <class KIND>
SM90_MEMBER void sm90_consumer<KIND>::join_terms(float (&s)[32], int stage) const {
    float *terms = (float *)(sm90_shared().key[stage] + SM90_ROPE_PANEL * SM90_PANEL_BYTES) + lane;
    sm90_sync(SM90_SYNC_CONSUMER + self, 128);
    if (warp == 1 || warp == 2) {
#pragma unroll
        for (int i = 0; i < 32; i++) terms[((warp - 1) * 32 + i) * 32] = s[i];
    }
    sm90_sync(SM90_SYNC_CONSUMER + self, 128);
    if (warp == 0) {
        const volatile float *second = terms, *third = terms + 32 * 32; /* not all in registers at once */
#pragma unroll
        for (int i = 0; i < 32; i++) {
            float small = second[i * 32] + third[i * 32];
            /* An infinite key: the first term alone has the sign. */
            s[i] = (fabsf(s[i]) <= GPU_FLT_MAX ? s[i] + small : s[i]) * side.row_scale[row + (i >> 1 & 1) * 8];
        }
    } else {
#pragma unroll
        for (int i = 0; i < 32; i++) s[i] = GPU_MINUS_INFINITY;
    }
}

/* Scores to probabilities; hands them and the new base to both consumers. If the tile before is being added (`adds`),
 * ends that on the way: its stage is waited for. Records: P in fp16, which is finer than the bf16 of the product, since
 * it is rounded again behind the scales. */
template <class KIND>
SM90_MEMBER void sm90_consumer<KIND>::soften(float (&s)[32], int tile, bool adds) {
    int stage = tile & 1;
    uint64_t exists = *(const uint64_t *)side.exists[stage];
    int64_t left = keys_left(tile);
    float scale = score_scale > 0 ? score_scale : 1, base[2]; /* scale: what is yet to be applied */
    if constexpr (KIND::TERMS > 1) join_terms(s, stage);
    if (!(score_scale > 0)) { /* applied at once: it would turn the -inf of hidden keys */
#pragma unroll
        for (int i = 0; i < 32; i++) s[i] *= score_scale;
    }
    if (!(exists == ~(uint64_t)0 && left - most_unseen >= SM90_KEYS)) hide(s, exists, left);
#pragma unroll
    for (int r = 0; r < 2; r++) {
        float tops[4] = {s[index(0, r)], s[index(1, r)], s[index(2, r)], s[index(3, r)]};
#pragma unroll
        for (int i = 4; i < 16; i++) tops[i & 3] = gpu_max(tops[i & 3], s[index(i, r)]);
        float top = gpu_max(gpu_max(tops[0], tops[1]), gpu_max(tops[2], tops[3]));
        top = gpu_max(top, __shfl_xor_sync(0xffffffffu, top, 1));
        top = gpu_max(top, __shfl_xor_sync(0xffffffffu, top, 2)) * scale;
        mla_softmax_t running = {tile ? side.base[stage ^ 1][row + 8 * r] : mla_softmax_start().base, 0};
        float factor = mla_move_base(top, KIND::HEADROOM, &running);
        if (running.base != softmax[r].base) softmax[r].sum *= mla_rebase(softmax[r].base, running.base);
        base[r] = softmax[r].base = running.base;
        if ((lane & 3) == 0) side.base[stage][row + 8 * r] = running.base, side.factor[stage][row + 8 * r] = factor;
    }
    if (adds) finish_output(tile - 1);
#pragma unroll
    for (int i = 0; i < 32; i++) {
        int r = i >> 1 & 1;
        s[i] = sm90_exp2(fmaf(s[i], scale, -base[r]));
        softmax[r].sum += s[i];
    }
    /* Panel 8 holds rope parts until all warps' products are done. */
    sm90_sync(SM90_SYNC_CONSUMER + self, 128);
    int to_row = warp * 16 + (lane & 15);
#pragma unroll
    for (int k = 0; k < 4; k++) {
        uint32_t packed[4];
#pragma unroll
        for (int i = 0; i < 4; i++) {
            float low = s[8 * k + 2 * i], high = s[8 * k + 2 * i + 1];
            packed[i] = RECORDS ? sm90_pack_f16(low, high) : sm90_pack<TYPE>(low, high);
        }
        sm90_store_matrices(sm90_chunk(probabilities(stage), to_row, 2 * k + (lane >> 4)), packed);
    }
    sm90_fence_async();
    sm90_barrier_arrive(scored(stage));
}

#endif
