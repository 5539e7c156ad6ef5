/* Functions that host, CPU kernels and GPU kernels share. */
#ifndef AC_CORE_INLINE_H
#define AC_CORE_INLINE_H

#if defined(__CUDACC__)
#define AC_INLINE static inline __device__ __attribute__((always_inline))
#elif defined(__HIP__)
#define AC_INLINE static inline __attribute__((device)) __attribute__((always_inline))
#else
#define AC_INLINE static inline
#endif

#endif
