/* The product of a tile's probabilities with one consumer's half of its values. */
#ifndef AC_KERNELS_MLA_SM90_OUTPUT_H
#define AC_KERNELS_MLA_SM90_OUTPUT_H

#include "mla_sm90_consumer.h"

template <class KIND>
SM90_MEMBER void sm90_consumer<KIND>::rescale(int stage) {
    float factor[2] = {side.factor[stage][row], side.factor[stage][row + 8]};
    if (!gpu_any(factor[0] != 1 || factor[1] != 1)) return;
#pragma unroll
    for (int i = 0; i < 128; i++) o[i] *= factor[i >> 1 & 1];
}

/* This consumer's half of the values, keys 0 to 15. */
template <class KIND>
SM90_MEMBER uint64_t sm90_consumer<KIND>::values(int stage) const {
    return sm90_descriptor(keys(stage) + self * 4 * SM90_PANEL_BYTES, SM90_PANEL_BYTES);
}

/* Records: P times the scales of one group of 128 values, for keys 16 k to 16 k + 15. */
template <class KIND>
SM90_MEMBER void sm90_consumer<KIND>::scale_probabilities(int stage, int k, int group, const uint32_t (&packed)[4],
                                                          uint32_t (&a)[4]) const {
#pragma unroll
    for (int j = 0; j < 4; j++) { /* of row j & 1, two keys */
        int key = k * 16 + (j >> 1) * 8 + (lane & 3) * 2;
        a[j] = sm90_pack_bf16(sm90_unpack<SM90_F16>(packed[j], 0) * side.scales[stage][key][group],
                              sm90_unpack<SM90_F16>(packed[j], 1) * side.scales[stage][key + 1][group]);
    }
}

template <class KIND>
SM90_MEMBER void sm90_consumer<KIND>::start_record_output(int stage) {
    uint32_t packed[4][4];
    int from_row = warp * 16 + (lane & 15);
#pragma unroll
    for (int k = 0; k < 4; k++)
        sm90_load_matrices(sm90_chunk(probabilities(stage), from_row, 2 * k + (lane >> 4)), packed[k]);
    output_group<0>(stage, packed);
    sm90_wgmma_wait<0>(); /* the registers of the first group's probabilities serve the second */
    output_group<64>(stage, packed);
}

/* 128 columns, accumulators FIRST to FIRST + 63. */
template <class KIND>
template <int FIRST>
SM90_MEMBER void sm90_consumer<KIND>::output_group(int stage, const uint32_t (&packed)[4][4]) {
    uint32_t a[4][4];
#pragma unroll
    for (int k = 0; k < 4; k++) scale_probabilities(stage, k, self * 2 + FIRST / 64, packed[k], a[k]);
    sm90_pin(o);
    sm90_wgmma_fence();
#pragma unroll
    for (int k = 0; k < 4; k++)
        sm90_wgmma_pv_group<FIRST>(o, a[k],
                                   sm90_advance(values(stage), k * 2048 + FIRST / 64 * 2 * SM90_PANEL_BYTES));
    sm90_wgmma_commit();
}

/* Starts the product of the tile's probabilities with this consumer's half of its values. */
template <class KIND>
SM90_MEMBER void sm90_consumer<KIND>::start_output(int tile) {
    int stage = tile & 1;
    sm90_barrier_wait(scored(stage), parity(tile));
    if (!owns(tile)) wait_full(tile, self);
    if (tile) rescale(stage);
    if (keys_left(tile) - most_unseen < SM90_KEYS) keep_unseen_out(tile);
    if constexpr (RECORDS) {
        start_record_output(stage);
    } else {
        uint64_t a = sm90_descriptor(probabilities(stage), 16), b = values(stage);
        sm90_pin(o);
        sm90_wgmma_fence();
#pragma unroll
        for (int k = 0; k < 4; k++) sm90_wgmma_pv<TYPE>(o, sm90_advance(a, 32 * k), sm90_advance(b, 2048 * k));
        sm90_wgmma_commit();
    }
}

/* Frees this consumer's unit of the stage. */
template <class KIND>
SM90_MEMBER void sm90_consumer<KIND>::finish_output(int tile) {
    sm90_wgmma_wait<0>();
    sm90_pin(o);
    sm90_barrier_arrive(sm90_shared_address(&side.empty[tile & 1][self]));
}

#endif
