/* The PTX of clusters of workgroups; see ptx.h. */
#ifndef AC_GPU_SM90_CLUSTER_H
#define AC_GPU_SM90_CLUSTER_H

#include "ptx.h"

/* clang-format off */

GPU_INLINE uint32_t sm90_cluster_rank(void) {
    uint32_t rank;
    asm("mov.u32 %0, %%cluster_ctarank;" : "=r"(rank));
    return rank;
}

/* A barrier of all threads of a cluster in two halves. Who has waited sees the mbarriers that others have initialized;
 * of other memory nothing is promised. */
GPU_INLINE void sm90_cluster_arrive(void) {
    asm volatile("fence.mbarrier_init.release.cluster; barrier.cluster.arrive.relaxed;" ::: "memory");
}
GPU_INLINE void sm90_cluster_wait(void) { asm volatile("barrier.cluster.wait;" ::: "memory"); }

/* Where a workgroup of the cluster has what is at this address of the own shared memory. */
GPU_INLINE uint32_t sm90_address_in(uint32_t address, uint32_t rank) {
    uint32_t there;
    asm("mapa.shared::cluster.u32 %0, %1, %2;" : "=r"(there) : "r"(address), "r"(rank));
    return there;
}

/* Stores in another workgroup's shared memory; a barrier of that workgroup counts the bytes that are there. */
GPU_INLINE void sm90_send16(uint32_t to, uint4 v, uint32_t barrier) {
    asm volatile("st.async.shared::cluster.mbarrier::complete_tx::bytes.v4.b32 [%0], {%1, %2, %3, %4}, [%5];" ::"r"(to),
                 "r"(v.x), "r"(v.y), "r"(v.z), "r"(v.w), "r"(barrier) : "memory");
}

/* Waits for a barrier of this workgroup that others of the cluster complete. */
GPU_INLINE void sm90_cluster_barrier_wait(uint32_t barrier, uint32_t parity) {
    uint32_t done;
    do {
        asm volatile("{.reg .pred p; mbarrier.try_wait.parity.acquire.cluster.shared::cta.b64 p, [%1], %2;"
                     "selp.u32 %0, 1, 0, p;}" : "=r"(done) : "r"(barrier), "r"(parity) : "memory");
    } while (!done);
}

/* clang-format on */

#endif
