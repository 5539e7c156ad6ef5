/* Scratch of one running work item of top-k; the kernels' rows list its size, and the kernels assert it. Includes
 * nothing. */
#ifndef AC_OPS_TOP_K_CPU_LOCAL_H
#define AC_OPS_TOP_K_CPU_LOCAL_H

#define AC_TOP_K_DIGIT_BITS 10 /* of a rank that one pass tells apart */
#define AC_TOP_K_BLOCK 1024    /* columns that a pass looks at before it uses what it found */
#define AC_TOP_K_LANES 16      /* at least those of any instruction set */

/* A count per digit, and what was found in a block. */
#define AC_TOP_K_LOCAL (4 * (1 << AC_TOP_K_DIGIT_BITS) + 4 * (AC_TOP_K_BLOCK + AC_TOP_K_LANES))

#endif
