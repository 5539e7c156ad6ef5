/* The workgroups of the GPU kernels of top-k, and their shared memory; the kernels' rows list its size, and the kernels
 * assert it. Includes nothing. */
#ifndef AC_OPS_TOP_K_GPU_LOCAL_H
#define AC_OPS_TOP_K_GPU_LOCAL_H

#define AC_TOP_K_GPU_BITS 11   /* of a rank that one pass tells apart, at most */
#define AC_TOP_K_GPU_LIST 4096 /* columns that may be kept in shared memory */

#define AC_TOP_K_WHOLE_COLUMNS 65536 /* rows of so many are never cut into parts */

/* The counts, the list of columns and ranks, and what the waves tell each other. */
#define AC_TOP_K_GPU_LOCAL (4 * (1 << AC_TOP_K_GPU_BITS) + 8 * AC_TOP_K_GPU_LIST + 4 * 3 * 32 + 16)

#endif
