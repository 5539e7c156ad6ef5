/* A wave's lanes: votes, which are one bit per lane, and what lanes hand to others. All lanes take part. */
#ifndef AC_GPU_LANES_H
#define AC_GPU_LANES_H

#include "gpu.h"

#if defined(__CUDACC__)

#define GPU_WAVE 32
typedef uint32_t gpu_votes_t;
GPU_INLINE gpu_votes_t gpu_ballot(bool x) { return __ballot_sync(0xffffffffu, x); }
GPU_INLINE int gpu_vote_count(gpu_votes_t votes) { return __popc(votes); }
GPU_INLINE int gpu_lowest_vote(gpu_votes_t votes) { return __ffs((int)votes) - 1; } /* of some */
/* Of the lanes below this one. */
GPU_INLINE int gpu_votes_before(gpu_votes_t votes) { return __popc(votes & ((1u << gpu_lane()) - 1)); }
/* What one lane, the same for all, holds. */
GPU_INLINE gpu_votes_t gpu_votes_of(gpu_votes_t held, int lane) { return __shfl_sync(0xffffffffu, held, lane); }
/* What a lane of each one's choice holds; what the lane so far below does. */
GPU_INLINE uint32_t gpu_of_lane(uint32_t x, int lane) { return __shfl_sync(0xffffffffu, x, lane); }
GPU_INLINE uint32_t gpu_of_lane_below(uint32_t x, int distance) { return __shfl_up_sync(0xffffffffu, x, distance); }

#else

#define GPU_WAVE 64
typedef uint64_t gpu_votes_t;
GPU_INLINE gpu_votes_t gpu_ballot(bool x) { return __builtin_amdgcn_ballot_w64(x); }
GPU_INLINE int gpu_vote_count(gpu_votes_t votes) { return __builtin_popcountll(votes); }
GPU_INLINE int gpu_lowest_vote(gpu_votes_t votes) { return __builtin_ctzll(votes); } /* of some */
/* Of the lanes below this one. */
GPU_INLINE int gpu_votes_before(gpu_votes_t votes) {
    return (int)__builtin_amdgcn_mbcnt_hi((uint32_t)(votes >> 32), __builtin_amdgcn_mbcnt_lo((uint32_t)votes, 0));
}

/* What one lane, the same for all, holds. */
GPU_INLINE gpu_votes_t gpu_votes_of(gpu_votes_t held, int lane) {
    const uint32_t low = (uint32_t)__builtin_amdgcn_readlane((int)(uint32_t)held, lane);
    return (uint64_t)(uint32_t)__builtin_amdgcn_readlane((int)(uint32_t)(held >> 32), lane) << 32 | low;
}
/* What a lane of each one's choice holds; what the lane so far below does. */
GPU_INLINE uint32_t gpu_of_lane(uint32_t x, int lane) {
    return (uint32_t)__builtin_amdgcn_ds_bpermute(lane * 4, (int)x);
}
GPU_INLINE uint32_t gpu_of_lane_below(uint32_t x, int distance) { return gpu_of_lane(x, gpu_lane() - distance); }

#endif

#endif
