/* The workgroups of the GPU kernels of top-k, and their shared memory; the kernels' rows list its size, and the kernels
 * assert it. Includes nothing. */
#ifndef AC_OPS_TOP_K_GPU_LOCAL_H
#define AC_OPS_TOP_K_GPU_LOCAL_H

#define AC_TOP_K_GPU_BITS 11   /* of a rank that one pass tells apart, at most */
#define AC_TOP_K_GPU_LIST 4096 /* columns that may be kept in shared memory */

#define AC_TOP_K_WHOLE_COLUMNS 65536 /* rows of so many are never cut into parts */

/* The counts, the list of columns and ranks, and what the waves tell each other. */
#define AC_TOP_K_GPU_LOCAL (4 * (1 << AC_TOP_K_GPU_BITS) + 8 * AC_TOP_K_GPU_LIST + 4 * 3 * 32 + 16)

/* Workgroups of a cluster on sm_90a, columns of a thread at most, and the shared memory: counts of all workgroups in 16
 * bits, the own ones, barriers, sums, what was found, and the columns. */
#define AC_TOP_K_CLUSTER 8
#define AC_TOP_K_CLUSTER_EACH 32
#define AC_TOP_K_CLUSTER_COLUMNS (AC_TOP_K_CLUSTER * 1024 * AC_TOP_K_CLUSTER_EACH)
#define AC_TOP_K_CLUSTER_LOCAL                                                                                         \
    (4 * AC_TOP_K_CLUSTER * 512 + 4 * 1024 + 4 * 8 + 4 * 48 + 32 + 4096 * AC_TOP_K_CLUSTER_EACH)

#endif
