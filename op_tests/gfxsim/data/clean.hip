/* One correct kernel for each thing that the machine sets up. */
#include "device.h"

KERNEL vector_add(const float *a, const float *b, float *c, int n) {
    int i = block_x() * 256 + thread_x();
    if (i < n) c[i] = a[i] + b[i];
}

/* The workgroup's sizes come from the hidden arguments, the grid's from the dispatch packet. */
KERNEL grid_sizes(u32 *out) {
    u32 x = __builtin_amdgcn_workgroup_id_x() * __builtin_amdgcn_workgroup_size_x() + __builtin_amdgcn_workitem_id_x();
    u32 y = __builtin_amdgcn_workgroup_id_y() * __builtin_amdgcn_workgroup_size_y() + __builtin_amdgcn_workitem_id_y();
    u32 z = __builtin_amdgcn_workgroup_id_z() * __builtin_amdgcn_workgroup_size_z() + __builtin_amdgcn_workitem_id_z();
    u32 width = __builtin_amdgcn_grid_size_x(), height = __builtin_amdgcn_grid_size_y();
    out[(z * height + y) * width + x] = z << 20 | y << 10 | x;
}

KERNEL reverse_in_lds(const float *in, float *out) {
    __shared__ float tile[256];
    int t = thread_x(), base = block_x() * 256;
    tile[t] = in[base + t];
    barrier();
    out[base + t] = tile[255 - t];
}

/* c[16][16] = a[16][16] bt[16][16]^T in bf16. */
KERNEL mfma_tile(const short *a, const short *bt, float *c) {
    int lane = thread_x() & 63, row = lane & 15, group = lane >> 4;
    s16x4 left = *(const s16x4 *)(a + row * 16 + group * 4), right = *(const s16x4 *)(bt + row * 16 + group * 4);
    f32x4 sum = {0, 0, 0, 0};
    sum = __builtin_amdgcn_mfma_f32_16x16x16bf16_1k(left, right, sum, 0, 0, 0);
    for (int i = 0; i < 4; i++) c[(group * 4 + i) * 16 + row] = sum[i];
}

/* An array that is indexed at run time lives in scratch. */
KERNEL uses_scratch(const float *in, float *out, int shift) {
    float values[40];
    for (int i = 0; i < 40; i++) values[i] = in[i] * (float)(thread_x() + 1);
    asm volatile("" ::: "memory");
    out[block_x() * 64 + thread_x()] = values[(thread_x() * 7 + shift) % 40];
}

KERNEL atomics(u32 *count, float *sums, u32 *largest) {
    int i = block_x() * 256 + thread_x();
    __hip_atomic_fetch_add(count, 1u, __ATOMIC_RELAXED, __HIP_MEMORY_SCOPE_AGENT);
    __hip_atomic_fetch_add(sums + (i & 3), (float)(i & 7), __ATOMIC_RELAXED, __HIP_MEMORY_SCOPE_AGENT);
    __hip_atomic_fetch_max(largest, (u32)(i * 37 % 1001), __ATOMIC_RELAXED, __HIP_MEMORY_SCOPE_AGENT);
}

extern __shared__ int dynamic[];

/* Hidden arguments as code object version 5 lays them out. The size of dynamic LDS is among them where it is used. */
KERNEL hidden_arguments(u32 *out) {
    const u32 *hidden = (const u32 *)__builtin_amdgcn_implicitarg_ptr();
    ((volatile int *)dynamic)[thread_x()] = 0;
    if (thread_x() < 32) out[thread_x()] = hidden[thread_x()];
}

KERNEL dynamic_lds(const int *in, int *out, int n) {
#pragma unroll 1
    for (int i = thread_x(); i < n; i += 64) dynamic[i] = in[i];
    barrier();
#pragma unroll 1
    for (int i = thread_x(); i < n; i += 64) out[i] = dynamic[n - 1 - i];
}

struct large_t {
    int scale;
    int values[80];
    double last;
};

KERNEL by_value(large_t large, int *out, double *out_last) {
    int t = thread_x();
    if (t < 80) out[t] = large.values[t] * large.scale;
    if (t == 0) *out_last = large.last;
}

extern "C" __constant__ int table[64] = {3, 1, 4, 1, 5, 9, 2, 6, 5, 3, 5, 8, 9, 7, 9, 3};
extern "C" __device__ int variable = 100;
extern "C" __device__ int *pointer_to_variable = &variable; /* a relocation */

KERNEL module_memory(int *out) {
    int t = thread_x();
    out[t] = table[t] + *pointer_to_variable;
    if (t == 0) out[64] = variable;
}

KERNEL bump_variable(int by) {
    if (thread_x() == 0) variable += by;
}

/* For measuring: mostly one kind of instruction. */
KERNEL mfma_loop(float *out, int rounds) {
    s16x4 a = {0x3f80, 0x3f80, 0x3f80, 0x3f80};
    f32x4 sum[4] = {};
    for (int i = 0; i < rounds; i++) {
        for (int j = 0; j < 4; j++) sum[j] = __builtin_amdgcn_mfma_f32_16x16x16bf16_1k(a, a, sum[j], 0, 0, 0);
    }
    out[block_x() * 256 + thread_x()] = sum[0][0] + sum[1][0] + sum[2][0] + sum[3][0];
}

KERNEL valu_loop(float *out, int rounds) {
    float x = (float)thread_x(), y = 1.0f;
    for (int i = 0; i < rounds; i++) {
#pragma unroll
        for (int j = 0; j < 8; j++) {
            x = __builtin_fmaf(x, 0.5f, y);
            y = __builtin_fmaxf(x, y) + 1.0f;
        }
    }
    out[block_x() * 256 + thread_x()] = x + y;
}

/* The traffic of a matrix product: each round the workgroup stores a tile in LDS and each wave reads all of it. */
KERNEL gemm_loop(float *out, int rounds) {
    __shared__ s16x8 tiles[2][256];
    s16x8 one = {0x3f80, 0x3f80, 0x3f80, 0x3f80, 0x3f80, 0x3f80, 0x3f80, 0x3f80};
    f32x4 sum[2] = {};
    for (int i = 0; i < rounds; i++) {
        tiles[i & 1][thread_x()] = one;
        barrier();
#pragma unroll
        for (int j = 0; j < 4; j++) {
            s16x8 part = tiles[i & 1][64 * j + thread_x() % 64];
            s16x4 low = __builtin_shufflevector(part, part, 0, 1, 2, 3);
            s16x4 high = __builtin_shufflevector(part, part, 4, 5, 6, 7);
            sum[0] = __builtin_amdgcn_mfma_f32_16x16x16bf16_1k(low, low, sum[0], 0, 0, 0);
            sum[1] = __builtin_amdgcn_mfma_f32_16x16x16bf16_1k(high, high, sum[1], 0, 0, 0);
        }
    }
    out[block_x() * 256 + thread_x()] = sum[0][0] + sum[1][0];
}

/* A function of its own, which has no symbol. */
static __device__ __attribute__((noinline)) float twice(float x) {
    asm volatile("v_add_f32 %0, %0, %0" : "+v"(x));
    return x;
}

KERNEL calls_a_function(const float *in, float *out) { out[thread_x()] = twice(in[thread_x()]) + 1.0f; }
