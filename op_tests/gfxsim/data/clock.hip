/* For the tests of the clock. */
#include "device.h"

typedef u32 u32x4 __attribute__((ext_vector_type(4)));

/* Room for instructions that a test puts over the s_nop, with LDS of its own from byte 0 on; v0 is the lane, v1 its
 * LDS address if lanes are `stride` bytes apart. Two waves of `late` clocks' difference go through a barrier behind it. */
extern "C" __global__ __attribute__((amdgpu_flat_work_group_size(1, 256))) void slot(u32 *out, u32 stride) {
    __shared__ u32 lds[8192];
    u32 t = (u32)thread_x(), lane = t % 64;
    for (u32 i = t; i < 8192; i += 256) lds[i] = i;
    barrier();
    u32 address = (u32)(__attribute__((address_space(3))) u32 *)lds + lane * stride;
    asm volatile("v_mov_b32 v0, %0\n\tv_mov_b32 v1, %1\n\ts_nop 7\n\t.rept 256\n\ts_nop 0\n\t.endr\n\ts_waitcnt lgkmcnt(0)"
                 ::"v"(lane), "v"(address)
                 : "v0", "v1", "v2", "v3", "v4", "v5", "v6", "v7", "v8", "v9", "v10", "v11", "v12", "v13", "v14", "v15",
                   "v16", "v17", "v18", "v19", "v20", "v21", "v22", "v23", "v24", "v25", "v26", "v27", "v28", "v29", "v30",
                   "v31", "v32", "v33", "v34", "v35", "v36", "v37", "v38", "v39", "v60", "memory");
    out[block_x() * 256 + t] = t;
}

/* 16 bytes of a lane, `rounds` times, rows of the grid apart. */
KERNEL copy(const u32x4 *in, u32x4 *out, int rounds, int row) {
    int at = block_x() * 256 + thread_x();
#pragma unroll 4
    for (int i = 0; i < rounds; i++) __builtin_nontemporal_store(in[at + i * row], &out[at + i * row]);
}

/* The first wave does more than the others, and all meet. */
KERNEL uneven(float *out, int rounds) {
    float value = 1.0f;
    if (__builtin_amdgcn_readfirstlane(thread_x()) < 64) {
#pragma unroll 1
        for (int i = 0; i < rounds; i++) asm volatile("v_add_f32 %0, 1.0, %0" : "+v"(value));
    }
    barrier();
    out[thread_x()] = value;
}

/* Every wave reads the same `rounds` KiB, `passes` times. */
KERNEL again(const u32x4 *in, u32x4 *out, int rounds, int passes) {
    u32x4 sum = 0;
    for (int pass = 0; pass < passes; pass++) {
        asm volatile("" ::: "memory"); /* they are read again */
#pragma unroll 4
        for (int i = 0; i < rounds; i++) sum += in[i * 64 + thread_x() % 64];
    }
    out[block_x() * 1024 + thread_x()] = sum;
}
