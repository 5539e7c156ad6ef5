/* The workgroups of the GPU kernels of top-k, and their shared memory; the kernels' rows list its size, and the kernels
 * assert it. Includes nothing. */
#ifndef AC_OPS_TOP_K_GPU_LOCAL_H
#define AC_OPS_TOP_K_GPU_LOCAL_H

#define AC_TOP_K_GPU_BITS 11  /* of a rank that one pass tells apart, at most */
#define AC_TOP_K_GPU_COPIES 4 /* of every count: lanes that count the same digit meet in one of them less often */

/* The counts, and what the waves tell each other. */
#define AC_TOP_K_GPU_LOCAL (4 * (AC_TOP_K_GPU_COPIES << AC_TOP_K_GPU_BITS) + 4 * 3 * 32 + 16)

#endif
