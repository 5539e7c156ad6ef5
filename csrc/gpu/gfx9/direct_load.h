/* gfx950: loads from global memory to LDS that bypass the registers, and the waits for them. */
#ifndef AC_GPU_GFX9_DIRECT_LOAD_H
#define AC_GPU_GFX9_DIRECT_LOAD_H

#include "lanes.h"

/* From `from` + OFFSET of each lane to `to`, lane after lane. The compiler does not know of the load, or it would wait
 * for it before every read of LDS; wait_for_all_but() waits instead. M0 is the address, to which the hardware adds
 * OFFSET; nothing else in these kernels uses M0. */
template <int OFFSET> GPU_INLINE void start_load16(const char *from, uint32_t to) {
    asm volatile("s_mov_b32 m0, %0\n\ts_nop 0\n\tglobal_load_lds_dwordx4 %1, off offset:%2" ::"s"(to - OFFSET),
                 "v"(from), "n"(OFFSET) : "memory");
}
/* The same where `starts`, which all lanes share, is not 0; `offset` is known once loops are unrolled. */
GPU_INLINE void start_load16_if(int starts, const char *from, uint32_t to, int offset) {
    asm volatile(
        "s_cmp_eq_u32 %3, 0\n\ts_cbranch_scc1 .Lnone%=\n\t"
        "s_mov_b32 m0, %0\n\ts_nop 0\n\tglobal_load_lds_dwordx4 %1, off offset:%2\n.Lnone%=:" ::"s"(to - offset),
        "v"(from), "i"(offset), "s"(gpu_uniform(starts)) : "memory", "scc");
}
GPU_INLINE void start_load4(const void *from, uint32_t to) {
    asm volatile("s_mov_b32 m0, %0\n\ts_nop 0\n\tglobal_load_lds_dword %1, off" ::"s"(to), "v"(from) : "memory");
}
/* Waits until at most COUNT loads, the latest ones, are in flight. The compiler cannot see through it. */
template <int COUNT> GPU_INLINE void wait_for_all_but() {
    static_assert(COUNT < 64, "the counter has 6 bits");
    asm volatile("s_waitcnt vmcnt(%0)" ::"n"(COUNT) : "memory");
}
/* Waits for all loads, the compiler's own among them (such as queries). Otherwise it would wait for those inside the
 * loop, where the counter also counts the loads that it does not know. */
GPU_INLINE void wait_for_all() {
    asm volatile("" ::: "memory");
    __builtin_amdgcn_s_waitcnt(0x0f70); /* vmcnt 0, the others as they are */
    asm volatile("" ::: "memory");
}

/* N runs of 64 bytes of 16 keys, starting with run FIRST; in LDS they are RUN bytes apart. */
template <int N, int RUN, int FIRST = 0> GPU_INLINE void start_runs(const char *from, uint32_t to) {
    if constexpr (FIRST < N) {
        start_load16<FIRST * 64>(from, to + FIRST * RUN);
        start_runs<N, RUN, FIRST + 1>(from, to);
    }
}

/* The same through a register, synchronously. */
template <int N, int RUN> GPU_INLINE void copy_runs(const char *from, uint32_t to) {
    GPU_NO_UNROLL for (int i = 0; i < N; i++)
        lds<u32x4_t>(to + i * RUN + recompute_lane_id() * 16) = gpu_load<u32x4_t>(from + i * 64);
}

#endif
