/* Sums over the threads of a workgroup, and barriers that order global memory too. */
#ifndef AC_GPU_SCAN_H
#define AC_GPU_SCAN_H

#include "lanes.h"

#define SCAN_MAX_WAVES 8

/* Waits for the workgroup; what its threads wrote to global memory is there for all of them afterwards. */
GPU_INLINE void gpu_global_barrier() {
#if defined(__CUDACC__)
    __syncthreads();
#else
    __builtin_amdgcn_fence(__ATOMIC_RELEASE, "workgroup");
    __builtin_amdgcn_s_barrier();
    __builtin_amdgcn_fence(__ATOMIC_ACQUIRE, "workgroup");
#endif
}

GPU_INLINE uint64_t gpu_of_lane_below(uint64_t x, int distance) {
    const uint64_t high = gpu_of_lane_below((uint32_t)(x >> 32), distance);
    return high << 32 | gpu_of_lane_below((uint32_t)x, distance);
}

template <class T> GPU_INLINE T scan_add(T x, T y, T limit) { return x + y < limit ? x + y : limit; }

/* Sums of N numbers over the threads before this one, and over all `THREADS`; both stop at `limit`. All threads take
 * part. `sums`: of the waves, in shared memory; two scans after one another need two. With last_is_largest it is the
 * largest of the last number instead of the sum. */
template <int THREADS, class T, int N, int M>
GPU_INLINE void scan(const T (&x)[N], T limit, T (&sums)[M][SCAN_MAX_WAVES], T (&before)[N], T (&all)[N],
                     bool last_is_largest = false) {
    auto join = [&](int i, T a, T b) {
        return i == N - 1 && last_is_largest ? (a > b ? a : b) : scan_add(a, b, limit);
    };
    static_assert(N <= M && THREADS <= SCAN_MAX_WAVES * GPU_WAVE, "the sums of the waves have a place");
    const int wave = gpu_thread() / GPU_WAVE, lane = gpu_thread() % GPU_WAVE;
    T sum[N];
    GPU_UNROLL for (int i = 0; i < N; i++) sum[i] = scan_add(x[i], (T)0, limit);
    GPU_UNROLL for (int distance = 1; distance < GPU_WAVE; distance *= 2) {
        GPU_UNROLL for (int i = 0; i < N; i++) {
            const T below = gpu_of_lane_below(sum[i], distance);
            if (lane >= distance) sum[i] = join(i, sum[i], below);
        }
    }
    if (lane == GPU_WAVE - 1)
        GPU_UNROLL for (int i = 0; i < N; i++) sums[i][wave] = sum[i];
    gpu_barrier();
    GPU_UNROLL for (int i = 0; i < N; i++) {
        const T below = gpu_of_lane_below(sum[i], 1);
        before[i] = all[i] = 0;
        GPU_UNROLL for (int w = 0; w < THREADS / GPU_WAVE; w++) {
            if (w == wave) before[i] = all[i];
            all[i] = join(i, all[i], sums[i][w]);
        }
        if (lane > 0) before[i] = join(i, before[i], below);
    }
}

/* The last of `count` ascending numbers that is not above n; the first is not. */
template <int THREADS, class T> GPU_INLINE int find_last(const T (&numbers)[THREADS], int count, T n) {
    int low = 0;
    GPU_UNROLL for (int step = THREADS / 2; step; step /= 2)
        if (low + step < count && numbers[low + step] <= n) low += step;
    return low;
}

#endif
