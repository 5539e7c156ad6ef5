/* Scratch of one tile on the CPU, in closed form: what the rows of the kernels list, and the kernels assert. Includes
 * nothing. */
#ifndef AC_OPS_MLA_PREFILL_CPU_LOCAL_H
#define AC_OPS_MLA_PREFILL_CPU_LOCAL_H

#define AC_PREFILL_ROWS 128 /* query rows of a tile */
#define AC_PREFILL_DIM 256  /* elements of the widest key, and of the widest value */

/* Keys that are resident at a time. A block with what surrounds it fits a 1 MB L2. */
#define AC_PREFILL_F32_KEYS 96
#define AC_PREFILL_DOT_KEYS 128

/* What all engines hold, in fp32: accumulators; per row the maximum, the sum and the last rescale factor; one query row
 * on its way in. */
#define AC_PREFILL_COMMON (AC_PREFILL_ROWS * AC_PREFILL_DIM * 4 + AC_PREFILL_ROWS * 3 * 4 + AC_PREFILL_DIM * 4)

/* Queries, keys, values and scores, all fp32. */
#define AC_PREFILL_LOCAL_F32                                                                                           \
    (AC_PREFILL_COMMON + (AC_PREFILL_ROWS + 2 * AC_PREFILL_F32_KEYS) * AC_PREFILL_DIM * 4 +                            \
     AC_PREFILL_F32_KEYS * AC_PREFILL_ROWS * 4)

/* Queries and keys in bf16, values in bf16 with the keys interleaved in pairs, scores in fp32. */
#define AC_PREFILL_LOCAL_DOT                                                                                           \
    (AC_PREFILL_COMMON + (AC_PREFILL_ROWS + 2 * AC_PREFILL_DOT_KEYS) * AC_PREFILL_DIM * 2 +                            \
     AC_PREFILL_DOT_KEYS * AC_PREFILL_ROWS * 4)

#endif
