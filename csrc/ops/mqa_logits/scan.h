/* A sum over a team of threads: see mqa_everyone_t. */
#ifndef AC_OPS_MQA_LOGITS_SCAN_H
#define AC_OPS_MQA_LOGITS_SCAN_H

#include "../../gpu/lanes.h"

/* The sum of x over the team's threads up to this one, and over all. `sums` is shared: one number per wave. */
template <class team_t> GPU_INLINE uint32_t mqa_scan(uint32_t x, uint32_t (&sums)[8], uint32_t &all) {
    constexpr int WAVES = team_t::THREADS / GPU_WAVE;
    const int wave = team_t::thread() / GPU_WAVE, lane = team_t::thread() % GPU_WAVE;
    GPU_UNROLL for (int distance = 1; distance < GPU_WAVE; distance *= 2) {
        const uint32_t below = gpu_of_lane_below(x, distance);
        if (lane >= distance) x += below;
    }
    team_t::barrier(); /* of the last scan's readers */
    if (lane == GPU_WAVE - 1) sums[wave] = x;
    team_t::barrier();
    all = 0;
    GPU_UNROLL for (int w = 0; w < WAVES; w++) {
        if (w == wave) x += all;
        all += sums[w];
    }
    return x;
}

#endif
