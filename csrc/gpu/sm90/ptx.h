/* The PTX of sm_90a that CUDA C++ has no functions for: mbarriers without transactions, cp.async, warpgroup matrix
 * products. Thin wrappers, no policy. Shared memory addresses are 32-bit (`uint32_t`), as the instructions take them.
 */
#ifndef AC_GPU_SM90_PTX_H
#define AC_GPU_SM90_PTX_H

#include "../gpu.h"

/* The tool would break the assembly apart. */
/* clang-format off */

GPU_INLINE uint32_t sm90_shared_address(const void *pointer) { return (uint32_t)__cvta_generic_to_shared(pointer); }

/* --- mbarriers: one phase completes after `count` arrivals; waiters name the phase by its parity --- */

GPU_INLINE void sm90_barrier_init(uint32_t barrier, uint32_t count) {
    asm volatile("mbarrier.init.shared::cta.b64 [%0], %1;" ::"r"(barrier), "r"(count) : "memory");
}

GPU_INLINE void sm90_barrier_arrive(uint32_t barrier) {
    asm volatile("{.reg .b64 state; mbarrier.arrive.shared::cta.b64 state, [%0];}" ::"r"(barrier) : "memory");
}

GPU_INLINE bool sm90_barrier_test(uint32_t barrier, uint32_t parity) {
    uint32_t done;
    asm volatile("{.reg .pred p; mbarrier.test_wait.parity.shared::cta.b64 p, [%1], %2; selp.u32 %0, 1, 0, p;}"
                 : "=r"(done) : "r"(barrier), "r"(parity) : "memory");
    return done != 0;
}

GPU_INLINE void sm90_barrier_wait(uint32_t barrier, uint32_t parity) {
    uint32_t done;
    do {
        asm volatile("{.reg .pred p; mbarrier.try_wait.parity.shared::cta.b64 p, [%1], %2; selp.u32 %0, 1, 0, p;}"
                     : "=r"(done) : "r"(barrier), "r"(parity) : "memory");
    } while (!done);
}

/* Arrives, and has the phase wait for so many bytes of bulk copies. */
GPU_INLINE void sm90_barrier_arrive_expect(uint32_t barrier, uint32_t bytes) {
    asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" ::"r"(barrier), "r"(bytes) : "memory");
}

/* Barrier number `id` of the hardware, for `threads` threads. */
GPU_INLINE void sm90_sync(int id, int threads) {
    asm volatile("bar.sync %0, %1;" ::"r"(id), "r"(threads) : "memory");
}

/* Counts this warp's threads, and does not wait. */
GPU_INLINE void sm90_sync_arrive(int id, int threads) {
    asm volatile("bar.arrive %0, %1;" ::"r"(id), "r"(threads) : "memory");
}

GPU_INLINE bool sm90_sync_or(int id, int threads, bool value) {
    uint32_t any;
    asm volatile("{.reg .pred p, q; setp.ne.u32 p, %3, 0; barrier.cta.red.or.pred q, %1, %2, p; selp.u32 %0, 1, 0, q;}"
                 : "=r"(any) : "r"(id), "r"(threads), "r"((uint32_t)value) : "memory");
    return any != 0;
}

/* Makes ordinary stores to shared memory visible to matrix products after the next barrier. */
GPU_INLINE void sm90_fence_async(void) { asm volatile("fence.proxy.async.shared::cta;" ::: "memory"); }

template <int REGISTERS> GPU_INLINE void sm90_more_registers(void) {
    asm volatile("setmaxnreg.inc.sync.aligned.u32 %0;" ::"n"(REGISTERS));
}

template <int REGISTERS> GPU_INLINE void sm90_fewer_registers(void) {
    asm volatile("setmaxnreg.dec.sync.aligned.u32 %0;" ::"n"(REGISTERS));
}

/* --- copies --- */

/* 16 bytes to shared memory; `bytes` = 0 reads nothing and writes zeros. */
GPU_INLINE void sm90_copy16(uint32_t to, const void *from, uint32_t bytes) {
    asm volatile("cp.async.cg.shared.global.L2::128B [%0], [%1], 16, %2;" ::"r"(to), "l"(from), "r"(bytes) : "memory");
}

GPU_INLINE void sm90_copies_wait(void) { asm volatile("cp.async.wait_all;" ::: "memory"); }

/* A run of bytes, a multiple of 16 and aligned so, by the copy engine; the barrier counts the bytes that are there. */
GPU_INLINE void sm90_copy_bulk(uint32_t to, const void *from, uint32_t bytes, uint32_t barrier) {
    asm volatile("cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1], %2, [%3];" ::"r"(to),
                 "l"(from), "r"(bytes), "r"(barrier) : "memory");
}

/* Groups of copies: commit closes one, wait leaves the last N of them running. */
GPU_INLINE void sm90_copies_commit(void) { asm volatile("cp.async.commit_group;" ::: "memory"); }
template <int RUNNING> GPU_INLINE void sm90_copies_wait(void) {
    asm volatile("cp.async.wait_group %0;" ::"n"(RUNNING) : "memory");
}

GPU_INLINE void sm90_copy4(uint32_t to, const void *from, uint32_t bytes) {
    asm volatile("cp.async.ca.shared.global [%0], [%1], 4, %2;" ::"r"(to), "l"(from), "r"(bytes) : "memory");
}

/* The barrier counts one arrival of this thread when all its copies so far are done. */
GPU_INLINE void sm90_copies_arrive(uint32_t barrier) {
    asm volatile("cp.async.mbarrier.arrive.noinc.shared::cta.b64 [%0];" ::"r"(barrier) : "memory");
}

/* --- kernels one after the other --- */

/* The next kernel may start when all workgroups have come here. It still waits for what this one writes. */
GPU_INLINE void sm90_let_next_start(void) { asm volatile("griddepcontrol.launch_dependents;" ::: "memory"); }

/* Waits until the kernel before this one has ended and what it wrote is there. Before that nothing of another kernel's
 * is read: prefetches into the L2, which holds every write, are no reads. */
GPU_INLINE void sm90_wait_for_previous(void) { asm volatile("griddepcontrol.wait;" ::: "memory"); }

/* Prefetches the line of 128 bytes into the L2. */
GPU_INLINE void sm90_prefetch(const void *address) { asm volatile("prefetch.global.L2 [%0];" ::"l"(address)); }

GPU_INLINE uint4 sm90_load16(const void *from) {
    uint4 v;
    asm volatile("ld.global.nc.L1::no_allocate.v4.u32 {%0, %1, %2, %3}, [%4];"
                 : "=r"(v.x), "=r"(v.y), "=r"(v.z), "=r"(v.w) : "l"(from));
    return v;
}

/* The same, or zeros without a read; the L2 fetches the 256 bytes around it. */
GPU_INLINE uint4 sm90_load16_if(bool read, const void *from) {
    uint4 v;
    asm volatile("{.reg .pred p; setp.ne.u32 p, %5, 0; mov.u32 %0, 0; mov.u32 %1, 0; mov.u32 %2, 0; mov.u32 %3, 0;"
                 "@p ld.global.nc.L1::no_allocate.L2::256B.v4.u32 {%0, %1, %2, %3}, [%4];}"
                 : "=&r"(v.x), "=&r"(v.y), "=&r"(v.z), "=&r"(v.w) : "l"(from), "r"((uint32_t)read));
    return v;
}

GPU_INLINE void sm90_store16(uint32_t to, uint4 v) {
    asm volatile("st.shared.v4.u32 [%0], {%1, %2, %3, %4};" ::"r"(to), "r"(v.x), "r"(v.y), "r"(v.z), "r"(v.w)
                 : "memory");
}

/* Four 8x8 matrices of 16-bit elements; lane l names row l % 8 of matrix l / 8. */
GPU_INLINE void sm90_store_matrices(uint32_t to, const uint32_t *v) {
    asm volatile("stmatrix.sync.aligned.m8n8.x4.shared.b16 [%0], {%1, %2, %3, %4};" ::"r"(to), "r"(v[0]), "r"(v[1]),
                 "r"(v[2]), "r"(v[3]) : "memory");
}

GPU_INLINE void sm90_load_matrices(uint32_t from, uint32_t *v) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(v[0]), "=r"(v[1]), "=r"(v[2]), "=r"(v[3]) : "r"(from) : "memory");
}

/* The same, each matrix transposed: a lane gets two elements of a column. */
GPU_INLINE void sm90_load_matrices_turned(uint32_t from, uint32_t *v) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(v[0]), "=r"(v[1]), "=r"(v[2]), "=r"(v[3]) : "r"(from) : "memory");
}

/* As short as possible. */
GPU_INLINE void sm90_pause(void) { asm volatile("nanosleep.u32 0;"); }

GPU_INLINE float sm90_exp2(float x) {
    float y;
    asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
    return y;
}

/* clang-format on */

#endif
