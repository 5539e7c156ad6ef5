/* Runs of elements in registers: vectors of words, elements of any dtype as fp32 and back, and values of other lanes.
 */
#ifndef AC_GPU_VECTOR_H
#define AC_GPU_VECTOR_H

#include "../core/dtype.h"
#include "../core/fp8.h"
#include "gpu.h"

#if defined(__CUDACC__)
#define GPU_ANY_ALIGNMENT 0 /* of a vector in global memory */
#else
#define GPU_ANY_ALIGNMENT 1
#endif

template <int N> struct gpu_words_t {
    uint32_t word[N];
};

/* A vector at an address that is aligned to it, where the device wants that. CUDA reads and writes whole vectors only
 * by types of its own. */
template <int N> GPU_INLINE gpu_words_t<N> gpu_load_words(const char *from) {
    static_assert(N == 4 || N == 2 || N == 1, "a load of the device");
#if defined(__CUDACC__)
    if constexpr (N == 4) {
        uint4 v = *(const uint4 *)from;
        return {{v.x, v.y, v.z, v.w}};
    } else if constexpr (N == 2) {
        uint2 v = *(const uint2 *)from;
        return {{v.x, v.y}};
    } else return {{*(const uint32_t *)from}};
#else
    return gpu_load<gpu_words_t<N>>(from);
#endif
}

template <int N> GPU_INLINE void gpu_store_words(char *to, const gpu_words_t<N> &value) {
    static_assert(N == 4 || N == 2 || N == 1, "a store of the device");
#if defined(__CUDACC__)
    if constexpr (N == 4) *(uint4 *)to = make_uint4(value.word[0], value.word[1], value.word[2], value.word[3]);
    else if constexpr (N == 2) *(uint2 *)to = make_uint2(value.word[0], value.word[1]);
    else *(uint32_t *)to = value.word[0];
#else
    gpu_store(to, value);
#endif
}

GPU_INLINE float gpu_half_value(uint32_t bits) {
#if defined(__CUDACC__)
    float f;
    asm("cvt.f32.f16 %0, %1;" : "=f"(f) : "h"((uint16_t)bits));
    return f;
#else
    return (float)__builtin_bit_cast(_Float16, (uint16_t)bits);
#endif
}

/* Two values as a word of two of 16 bits. */
GPU_INLINE uint32_t gpu_pack_halves(float low, float high, bool bf16) {
#if defined(__CUDACC__)
    uint32_t pair;
    if (bf16) asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(pair) : "f"(high), "f"(low));
    else asm("cvt.rn.f16x2.f32 %0, %1, %2;" : "=r"(pair) : "f"(high), "f"(low));
    return pair;
#else
    return bf16 ? gpu_bf16(low) | gpu_bf16(high) << 16 : gpu_f16(low) | gpu_f16(high) << 16;
#endif
}

/* Bytes of an element of bfloat16, float16, float32, or fp8. */
GPU_INLINE int gpu_element_bytes(int dtype) {
    return dtype == AC_FLOAT32 ? 4 : dtype == AC_BFLOAT16 || dtype == AC_FLOAT16 ? 2 : 1;
}

/* The value of 16 bits. */
GPU_INLINE float gpu_value_of(uint32_t bits, int dtype) {
    return dtype == AC_BFLOAT16 ? __builtin_bit_cast(float, bits << 16) : gpu_half_value(bits);
}

/* Element i of a row of bfloat16, float16 or float32. */
GPU_INLINE float gpu_load_value(const char *row, int64_t i, int dtype) {
    if (dtype == AC_FLOAT32) return gpu_entry((const float *)row + i);
    return gpu_value_of(gpu_entry((const uint16_t *)row + i), dtype);
}

/* The bits of x as an element. */
GPU_INLINE uint32_t gpu_code_of(float x, int dtype) {
    if (dtype == AC_FLOAT32) return __builtin_bit_cast(uint32_t, x);
    if (dtype == AC_BFLOAT16 || dtype == AC_FLOAT16) return gpu_pack_halves(x, 0, dtype == AC_BFLOAT16) & 0xffff;
    return ac_fp8_of(x, dtype == AC_FLOAT8_E4M3FNUZ);
}

GPU_INLINE void gpu_store_code(char *row, int64_t i, uint32_t code, int bytes) {
    if (bytes == 4) gpu_store(row + i * 4, code);
    else if (bytes == 2) gpu_store(row + i * 2, (uint16_t)code);
    else gpu_store(row + i, (uint8_t)code);
}

/* Four values as fp8, the first in the lowest byte. */
GPU_INLINE uint32_t gpu_pack_fp8(float a, float b, float c, float d, int dtype) {
#if defined(__CUDACC__)
    if (dtype == AC_FLOAT8_E4M3FN) { /* saturates, and has one NaN, as ac_fp8_of */
        uint32_t word;
        asm("{.reg .b16 low, high; cvt.rn.satfinite.e4m3x2.f32 low, %2, %1; cvt.rn.satfinite.e4m3x2.f32 high, %4, %3;"
            "mov.b32 %0, {low, high};}" : "=r"(word) : "f"(a), "f"(b), "f"(c), "f"(d));
        return word;
    }
#endif
    const int is_fnuz = dtype == AC_FLOAT8_E4M3FNUZ;
    return ac_fp8_of(a, is_fnuz) | ac_fp8_of(b, is_fnuz) << 8 | ac_fp8_of(c, is_fnuz) << 16 |
           ac_fp8_of(d, is_fnuz) << 24;
}

/* x of the lane whose number differs in the bit `step`. */
GPU_INLINE float gpu_lane_across(float x, int step) {
#if defined(__CUDACC__)
    return __shfl_xor_sync(0xffffffffu, x, step);
#else
    const int bits = __builtin_amdgcn_ds_bpermute((gpu_lane() ^ step) * 4, __builtin_bit_cast(int, x));
    return __builtin_bit_cast(float, bits);
#endif
}

/* A number that all lanes of the wave share. */
GPU_INLINE int gpu_shared_number(int x) {
#if defined(__CUDACC__)
    return x;
#else
    return gpu_uniform(x);
#endif
}

#endif
