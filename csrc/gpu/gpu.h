/* What the kernels need of the compiler and of the device, under one name on AMD and NVIDIA: markers, thread numbers,
 * barriers, shared memory (AMD's LDS), a few functions. No ROCm header is needed: clang -x hip -nogpuinc -nogpulib is
 * enough. */
#ifndef AC_GPU_GPU_H
#define AC_GPU_GPU_H

#include <stdint.h>

/* A kernel whose workgroups have `threads` threads, a multiple of 256 on AMD, and registers for `per_unit` workgroups
 * on one unit. GPU_KERNEL: all registers of the unit are the workgroup's. */
#if defined(__CUDACC__)
#define GPU_KERNEL_OF(threads, per_unit) extern "C" __global__ void __launch_bounds__(threads, per_unit)
#define GPU_PARAMS(type) const __grid_constant__ type
#else
#define __global__ __attribute__((global))
#define __device__ __attribute__((device))
#define __host__ __attribute__((host))
#define GPU_KERNEL_OF(threads, per_unit)                                                                               \
    extern "C" __global__                                                                                              \
        __attribute__((amdgpu_flat_work_group_size(threads, threads),                                                  \
                       amdgpu_waves_per_eu((per_unit) * (threads) / 256, (per_unit) * (threads) / 256))) void
#define GPU_PARAMS(type) type
#endif
#define GPU_KERNEL(threads) GPU_KERNEL_OF(threads, 1)

/* Everything that a kernel calls is inlined into it: GPU_INLINE for functions, GPU_MEMBER for members of a struct. */
#define GPU_MEMBER inline __device__ __attribute__((always_inline))
#define GPU_INLINE static GPU_MEMBER

/* A loop over an array that has to stay in registers, and one that is to stay a loop. */
#define GPU_UNROLL _Pragma("unroll")
#define GPU_NO_UNROLL _Pragma("unroll 1")

#define GPU_MINUS_INFINITY (-__builtin_inff())
#define GPU_FLT_MAX 3.402823466e+38f

#if defined(__CUDACC__)

GPU_INLINE int gpu_thread() { return threadIdx.x; }
GPU_INLINE int64_t gpu_block() { return blockIdx.x; }
GPU_INLINE int gpu_lane() { return threadIdx.x & 31; }
GPU_INLINE void gpu_barrier() { __syncthreads(); }
GPU_INLINE float gpu_exp2(float x) { return exp2f(x); }
GPU_INLINE float gpu_log2(float x) { return log2f(x); }
GPU_INLINE float gpu_max(float a, float b) { return fmaxf(a, b); }
GPU_INLINE bool gpu_any(bool x) { return __any_sync(0xffffffffu, x); }
/* The kernel's parameters, to be read again: nothing that was computed from them before stays in registers. */
template <class T> GPU_INLINE const T &gpu_params_again(const T &params) { return params; }
extern __shared__ __align__(1024) char gpu_shared[];

#else

GPU_INLINE int gpu_thread() { return (int)__builtin_amdgcn_workitem_id_x(); }
GPU_INLINE int64_t gpu_block() { return __builtin_amdgcn_workgroup_id_x(); }
GPU_INLINE int gpu_lane() { return gpu_thread() & 63; }
/* Orders shared memory only: loads from global memory stay in flight across it. */
GPU_INLINE void gpu_barrier() {
    __builtin_amdgcn_fence(__ATOMIC_RELEASE, "workgroup", "local");
    __builtin_amdgcn_s_barrier();
    __builtin_amdgcn_fence(__ATOMIC_ACQUIRE, "workgroup", "local");
}
GPU_INLINE float gpu_exp2(float x) { return __builtin_amdgcn_exp2f(x); }
GPU_INLINE float gpu_log2(float x) { return __builtin_amdgcn_logf(x); }
GPU_INLINE float gpu_max(float a, float b) { return __builtin_fmaxf(a, b); }
GPU_INLINE bool gpu_any(bool x) { return __builtin_amdgcn_ballot_w64(x) != 0; }
/* A value that all lanes of the wave share, in a scalar register. */
GPU_INLINE int gpu_uniform(int x) { return __builtin_amdgcn_readfirstlane(x); }
/* The kernel's parameters, to be read again: nothing that was computed from them before stays in registers. */
template <class T> GPU_INLINE const T &gpu_params_again(const T &) {
    const __attribute__((address_space(4)))
    T *at = (const __attribute__((address_space(4))) T *)__builtin_amdgcn_kernarg_segment_ptr();
    asm volatile("" : "+s"(at));
    return *(const T *)at;
}
/* The same of a part of parameters that were read so. */
template <class T> GPU_INLINE const T &gpu_part_again(const T &part) {
    const __attribute__((address_space(4))) T *at = (const __attribute__((address_space(4))) T *)&part;
    asm volatile("" : "+s"(at));
    return *(const T *)at;
}
#define GPU_SHARED __attribute__((address_space(3)))
#define GPU_GLOBAL __attribute__((address_space(1)))
extern __attribute__((shared, aligned(16))) char gpu_shared[]; /* at address 0: no kernel has static LDS */

#endif

/* A value at an address that is aligned to its elements only. AMD's global memory instructions take any address
 * (unaligned access mode is part of the amdhsa ABI); elsewhere an unaligned value is read piece by piece. */
template <class T> GPU_INLINE T gpu_load(const void *from) {
    struct __attribute__((packed, aligned(1))) any_t {
        T value;
    };
#if defined(__CUDACC__)
    struct __attribute__((aligned(sizeof(T)))) whole_t {
        T value;
    };
    if (((uintptr_t)from & (sizeof(T) - 1)) == 0) return ((const whole_t *)from)->value;
    return ((const any_t *)from)->value;
#else
    return ((const GPU_GLOBAL any_t *)from)->value;
#endif
}

/* An entry of an array that is aligned to its elements. */
template <class T> GPU_INLINE T gpu_entry(const T *from) {
#if defined(__CUDACC__)
    return *from;
#else
    return *(const GPU_GLOBAL T *)from;
#endif
}

template <class T> GPU_INLINE void gpu_store(void *to, T value) {
    struct __attribute__((packed, aligned(1))) any_t {
        T value;
    };
#if defined(__CUDACC__)
    struct __attribute__((aligned(sizeof(T)))) whole_t {
        T value;
    };
    if (((uintptr_t)to & (sizeof(T) - 1)) == 0) ((whole_t *)to)->value = value;
    else ((any_t *)to)->value = value;
#else
    ((GPU_GLOBAL any_t *)to)->value = value;
#endif
}

/* The 16 bits of x, rounded to nearest even. */
GPU_INLINE uint32_t gpu_bf16(float x) {
#if defined(__gfx950__)
    return __builtin_bit_cast(uint16_t, (__bf16)x);
#else
    uint32_t bits = __builtin_bit_cast(uint32_t, x);
    return x != x ? 0x7fc0 : (bits + 0x7fff + (bits >> 16 & 1)) >> 16;
#endif
}
GPU_INLINE uint32_t gpu_f16(float x) {
#if defined(__CUDACC__)
    uint16_t bits;
    asm("cvt.rn.f16.f32 %0, %1;" : "=h"(bits) : "f"(x));
    return bits;
#else
    return __builtin_bit_cast(uint16_t, (_Float16)x);
#endif
}

#endif
