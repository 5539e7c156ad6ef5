/* Scratch of one running work item, in closed form: sums of named pieces, which the rows of kernels list and the
 * plan reports. The kernels assert that their layout has exactly these sizes. Includes nothing. */
#ifndef AC_OPS_ATTENTION_CPU_LOCAL_H
#define AC_OPS_ATTENTION_CPU_LOCAL_H

#define AC_LOCAL_ROWS 64    /* rows of a tile: (query token, head) pairs that share one pass over the KV */
#define AC_LOCAL_FEW_ROWS 8 /* of a tile of the engines for few rows */
#define AC_MERGE_HEADS 16   /* of a work item of the merge: one request with 128 heads is work for 8 threads */
#define AC_LOCAL_KEY 576    /* elements of the widest key */
#define AC_LOCAL_VALUE 512  /* elements of a value */

/* KV rows that are resident at a time. A block with what surrounds it fits a 512 KB L2 (fp32) or a 1 MB one (dot); of
 * few rows the L1. */
#define AC_LOCAL_F32_TOKENS 48
#define AC_LOCAL_DOT_TOKENS 128
#define AC_LOCAL_FEW_TOKENS 16
#define AC_LOCAL_FEW_LANES 16 /* of the widest vector */

/* What both engines hold: fp32 accumulators; per row the running maximum, the running sum and the last rescale
 * factor; one query row on its way in. */
#define AC_LOCAL_COMMON (AC_LOCAL_ROWS * AC_LOCAL_VALUE * 4 + AC_LOCAL_ROWS * 3 * 4 + AC_LOCAL_KEY * 4)

/* Queries, keys (which are the values as well) and scores, all fp32. */
#define AC_LOCAL_F32                                                                                                   \
    (AC_LOCAL_COMMON + AC_LOCAL_ROWS * AC_LOCAL_KEY * 4 + AC_LOCAL_F32_TOKENS * AC_LOCAL_KEY * 4 +                     \
     AC_LOCAL_F32_TOKENS * AC_LOCAL_ROWS * 4)

/* Queries and keys in bf16, values in bf16 with the tokens interleaved in pairs, scores in fp32. */
#define AC_LOCAL_DOT                                                                                                   \
    (AC_LOCAL_COMMON + AC_LOCAL_ROWS * AC_LOCAL_KEY * 2 + AC_LOCAL_DOT_TOKENS * AC_LOCAL_KEY * 2 +                     \
     AC_LOCAL_DOT_TOKENS * AC_LOCAL_VALUE * 2 + AC_LOCAL_DOT_TOKENS * AC_LOCAL_ROWS * 4)

/* Few rows: room for the same in fp32. */
#define AC_LOCAL_FEW                                                                                                   \
    (AC_LOCAL_FEW_ROWS * (AC_LOCAL_KEY + AC_LOCAL_VALUE) * 4 + AC_LOCAL_FEW_TOKENS * AC_LOCAL_KEY * 4 +                \
     AC_LOCAL_FEW_TOKENS * AC_LOCAL_FEW_ROWS * 4 + AC_LOCAL_FEW_ROWS * (AC_LOCAL_FEW_LANES + 3) * 4 +                  \
     AC_LOCAL_KEY * 4)

#endif
