/* Scratch of one running work item of the indexer logits; the kernels' rows list its size, and the kernels assert it.
 * Includes nothing. */
#ifndef AC_OPS_MQA_LOGITS_CPU_LOCAL_H
#define AC_OPS_MQA_LOGITS_CPU_LOCAL_H

#define AC_MQA_ITEM_COLUMNS 256 /* of a work item */
#define AC_MQA_ITEM_ROWS 32     /* of a work item where keys are not in pages */

/* A bf16 word is two elements, a fp32 word one. Keys and the rows of a query as words, then what is one number per key
 * (scale, logit), per head (weight), and the bytes of a key. */
#define AC_MQA_LOCAL_OF(words) (4 * (words) * (AC_MQA_ITEM_COLUMNS + 64) + 4 * 2 * AC_MQA_ITEM_COLUMNS + 4 * 64)
#define AC_MQA_LOCAL_BF16 AC_MQA_LOCAL_OF(64)
#define AC_MQA_LOCAL_F32 AC_MQA_LOCAL_OF(128)

#endif
