/* One bug for each check; an argument, or a twin, makes the kernel correct. */
#include "device.h"

KERNEL shifted_read(const float *in, float *out, int shift) {
    out[thread_x()] = in[thread_x() + shift];
}

KERNEL shifted_write(float *out, int shift) {
    out[thread_x() + shift] = 1.0f;
}

/* The first workgroup takes its time and then does the same as the others. */
KERNEL slow_first(float *out, int rounds, int shift) {
    float value = 1.0f;
    if (block_x() == 0) {
#pragma unroll 1
        for (int i = 0; i < rounds; i++) asm volatile("v_add_f32 %0, 1.0, %0" : "+v"(value));
    }
    out[thread_x() + shift] = value;
}

KERNEL lds_read(float *out, int shift) {
    __shared__ float tile[64];
    tile[thread_x()] = 1.0f;
    barrier();
    out[thread_x()] = tile[thread_x() + shift];
}

KERNEL reverse_without_barrier(const float *in, float *out) {
    __shared__ float tile[256];
    int t = thread_x();
    tile[t] = 0;
    barrier();
    tile[t] = in[t];
    __builtin_amdgcn_wave_barrier();
    out[t] = tile[255 - t];
}

KERNEL early_exit(float *out, int waves) {
    if (thread_x() >= waves * 64) return;
    barrier();
    out[thread_x()] = 1.0f;
}

/* Which wave comes first shows in the result; with `fixed` it does not. */
KERNEL arrival(u32 *count, u32 *out, int fixed) {
    if (thread_x() % 64 != 0) return;
    u32 wave = (u32)(thread_x() / 64);
    u32 ticket = __hip_atomic_fetch_add(count, 1u, __ATOMIC_RELAXED, __HIP_MEMORY_SCOPE_AGENT);
    out[wave] = fixed ? wave : ticket;
}

KERNEL load_without_wait(const float *in, float *out) {
    float value;
    asm volatile("global_load_dword %0, %1, off" : "=v"(value) : "v"(in + thread_x()));
    out[thread_x()] = value + 1.0f;
    asm volatile("s_waitcnt vmcnt(0)");
}

KERNEL load_with_wait(const float *in, float *out) {
    float value;
    asm volatile("global_load_dword %0, %1, off\n\ts_waitcnt vmcnt(0)" : "=v"(value) : "v"(in + thread_x()));
    out[thread_x()] = value + 1.0f;
}

KERNEL unwritten_register(float *out, int write) {
    float value;
    if (write) asm volatile("v_mov_b32 v100, 1.0" ::: "v100");
    asm volatile("v_add_f32 %0, v100, v100" : "=v"(value)::"v100");
    out[thread_x()] = value;
}

KERNEL unwritten_lds(float *out, int written) {
    __shared__ float tile[64];
    if (thread_x() < written) tile[thread_x()] = 1.0f;
    barrier();
    out[thread_x()] = tile[thread_x()];
}

KERNEL spin(volatile u32 *flag, u32 *out) {
    while (*flag == 0) {}
    out[thread_x()] = *flag;
}

KERNEL two_barriers(float *out, int apart) {
    __shared__ float tile[128];
    tile[thread_x()] = 1.0f;
    if (apart && __builtin_amdgcn_readfirstlane(thread_x()) >= 64) {
        asm volatile("s_waitcnt lgkmcnt(0)\n\ts_barrier\n\ts_nop 1" ::: "memory");
    } else {
        asm volatile("s_waitcnt lgkmcnt(0)\n\ts_barrier\n\ts_nop 2" ::: "memory");
    }
    out[thread_x()] = tile[thread_x()];
}

/* ---- loads from memory straight to LDS: two waves fetch a row each and read that of the other ---------------------- */

#if defined(__gfx950__)
#define LOAD_TO_LDS "global_load_lds_dwordx4"
enum { ROW = 256 }; /* dwords of one instruction */
#else
#define LOAD_TO_LDS "global_load_lds_dword"
enum { ROW = 64 };
#endif

typedef __attribute__((address_space(3))) u32 lds_u32;

static __device__ inline void fetch_row(const u32 *row, u32 *lds) {
    const u32 *from = row + thread_x() % 64 * (ROW / 64);
    asm volatile("s_mov_b32 m0, %0\n\ts_nop 0\n\t" LOAD_TO_LDS " %1, off" ::"s"((u32)(lds_u32 *)lds), "v"(from) : "memory");
}

static __device__ inline void wait_for_loads() { asm volatile("s_waitcnt vmcnt(0)" ::: "memory"); }

enum { CORRECT, WAIT_BEHIND_BARRIER, NO_BARRIER, NO_WAIT, OVERWRITES, OUT_OF_BOUNDS };

KERNEL exchange_rows(const u32 *in, u32 *out, int fault) {
    __shared__ __attribute__((aligned(16))) u32 rows[2][ROW];
    int wave = __builtin_amdgcn_readfirstlane(thread_x() / 64);
    for (int i = thread_x() % 64; i < ROW; i += 64) rows[wave][i] = 0;
    barrier();
    fetch_row(in + wave * ROW, rows[wave] + (fault == OUT_OF_BOUNDS ? 4 : 0));
    if (fault != WAIT_BEHIND_BARRIER && fault != NO_WAIT) wait_for_loads();
    if (fault != NO_BARRIER) asm volatile("s_barrier" ::: "memory");
    if (fault == WAIT_BEHIND_BARRIER) wait_for_loads();
    for (int i = thread_x() % 64; i < ROW; i += 64) out[wave * ROW + i] = rows[1 - wave][i];
    if (fault == OVERWRITES) {
        fetch_row(in, rows[wave]);
        wait_for_loads();
    }
}

/* ---- LDS accesses that a barrier does not wait for: two waves, each with a row of its own and that of the other ---- */

enum { ALL_WAITED, NO_WAIT_FOR_WRITE, NO_WAIT_FOR_READ, NO_WAIT_OVER_TWO_BARRIERS, WAIT_FOR_ONE_OF_TWO, NEEDS_ONE_OF_TWO };

static __device__ inline void lds_store(u32 address, u32 value) {
    asm volatile("ds_write_b32 %0, %1" ::"v"(address), "v"(value) : "memory");
}

static __device__ inline void lds_wait() { asm volatile("s_waitcnt lgkmcnt(0)" ::: "memory"); }

static __device__ inline void bare_barrier() { asm volatile("s_barrier" ::: "memory"); }

KERNEL swap_rows(u32 *out, int fault) {
    __shared__ u32 rows[4][64];
    u32 t = (u32)thread_x(), lane = t % 64, wave = t / 64, base = (u32)(lds_u32 *)rows, value;
    u32 own = base + (wave * 64 + lane) * 4, own_second = own + 512, other = base + ((1 - wave) * 64 + lane) * 4;
    if (fault == NEEDS_ONE_OF_TWO) {
        lds_store(own, t);
        lds_store(own_second, t);
    } else {
        lds_store(own_second, t);
        lds_store(own, t);
    }
    if (fault == WAIT_FOR_ONE_OF_TWO || fault == NEEDS_ONE_OF_TWO) asm volatile("s_waitcnt lgkmcnt(1)" ::: "memory");
    else if (fault != NO_WAIT_FOR_WRITE && fault != NO_WAIT_OVER_TWO_BARRIERS) lds_wait();
    bare_barrier();
    if (fault == NO_WAIT_OVER_TWO_BARRIERS) bare_barrier();
    asm volatile("ds_read_b32 %0, %1" : "=v"(value) : "v"(other) : "memory");
    if (fault != NO_WAIT_FOR_READ) asm volatile("s_waitcnt lgkmcnt(0)" : "+v"(value)::"memory");
    bare_barrier();
    lds_store(own, t + 1000);
    asm volatile("s_waitcnt lgkmcnt(0)" : "+v"(value)::"memory");
    out[t] = value;
}

/* ---- too close to each other --------------------------------------------------------------------------------------- */

KERNEL m0_too_late(const u32 *in) {
    __shared__ u32 row[ROW];
    asm volatile("s_mov_b32 m0, %0\n\t" LOAD_TO_LDS " %1, off" ::"s"((u32)(lds_u32 *)row), "v"(in) : "memory");
}
