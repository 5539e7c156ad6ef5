/* A sum over a team of threads: see mqa_everyone_t. */
#ifndef AC_OPS_MQA_LOGITS_SCAN_H
#define AC_OPS_MQA_LOGITS_SCAN_H

#include "../../gpu/gpu.h"

#if defined(__CUDACC__)
constexpr int MQA_WAVE = 32;
GPU_INLINE uint32_t mqa_lane_below(uint32_t x, int distance) { return __shfl_up_sync(0xffffffffu, x, distance); }
#else
constexpr int MQA_WAVE = 64;
GPU_INLINE uint32_t mqa_lane_below(uint32_t x, int distance) {
    return (uint32_t)__builtin_amdgcn_ds_bpermute((gpu_lane() - distance) * 4, (int)x);
}
#endif

/* The sum of x over the team's threads up to this one, and over all. `sums` is shared: one number per wave. */
template <class team_t> GPU_INLINE uint32_t mqa_scan(uint32_t x, uint32_t (&sums)[8], uint32_t &all) {
    constexpr int WAVES = team_t::THREADS / MQA_WAVE;
    const int wave = team_t::thread() / MQA_WAVE, lane = team_t::thread() % MQA_WAVE;
    GPU_UNROLL for (int distance = 1; distance < MQA_WAVE; distance *= 2) {
        const uint32_t below = mqa_lane_below(x, distance);
        if (lane >= distance) x += below;
    }
    team_t::barrier(); /* of the last scan's readers */
    if (lane == MQA_WAVE - 1) sums[wave] = x;
    team_t::barrier();
    all = 0;
    GPU_UNROLL for (int w = 0; w < WAVES; w++) {
        if (w == wave) x += all;
        all += sums[w];
    }
    return x;
}

#endif
