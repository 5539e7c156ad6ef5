/* What the kernels of the indexer logits get: plain data, shared by the host and by the kernels of every device. Every
 * value that a pointer leads to is untrusted; see rows.h, which clamps. Strides are in bytes unless they say entries.
 *
 *     logit[row, j] = k_scale[j] * sum_h weights[row, h] * max(<q[row, h], key[j]>, 0)
 *
 * Paged and contiguous keys are one thing here: contiguous ones are a single page. */
#ifndef AC_OPS_MQA_LOGITS_KERNEL_PARAMS_H
#define AC_OPS_MQA_LOGITS_KERNEL_PARAMS_H

#include <stdint.h>

#define AC_MQA_DIM 128  /* elements, and bytes, of a query head and of a key */
#define AC_MQA_HEADS 64 /* at most */

/* Keys and their scales. Key j of a request is number j % page_size of page table[j / page_size]; byte d of key t of a
 * page is at t * key_stride + d, or where `preshuffled` at t / 16 * 2048 + d / 16 * 256 + t % 16 * 16 + d % 16. */
typedef struct ac_mqa_keys_t {
    const char *keys;   /* of page 0 */
    const char *scales; /* likewise, float32 */
    int64_t page_stride;
    int64_t key_stride, scale_stride; /* from key to key of a page */
    const int32_t *table;             /* [requests, table_width] pages, looked at where keys are in pages */
    int64_t table_stride;             /* entries */
    int64_t table_width;
    int64_t num_pages;
    int64_t page_size;
    int32_t is_paged; /* else all keys are page 0 */
    int32_t preshuffled;
    int32_t dtype;              /* ac_dtype_t, fp8 */
    int32_t alignment;          /* of every run of 16 bytes of a key: 16, 4 or 1 */
    uint32_t divide_multiplier; /* j / page_size = j * multiplier >> shift, for j below 2^31 */
    int32_t divide_shift;
} ac_mqa_keys_t;

typedef struct ac_mqa_logits_params_t {
    const char *q; /* [groups, group_rows, num_heads, 128] fp8 */
    int64_t q_group_stride, q_row_stride, q_head_stride;
    const float *weights;   /* [rows, num_heads] */
    int64_t weights_stride; /* entries */
    char *logits;           /* [rows, columns or more] float32 */
    int64_t logits_stride;
    int64_t columns; /* that may be written */
    ac_mqa_keys_t k;
    /* The window of a row: by the length of its group, which is a request, or by bounds of its own. */
    const int32_t *lengths; /* [num_requests] or [num_requests, group_rows], where keys are in pages */
    int64_t lengths_stride, lengths_row_stride; /* entries */
    const int32_t *begins, *ends;               /* [rows] where they are not */
    int64_t begins_stride, ends_stride;         /* entries */
    int64_t num_groups, num_rows;               /* the last group may have fewer rows */
    int64_t num_requests; /* groups that have a length and a row of the table: the others have length 0 */
    int64_t group_rows;
    int64_t items_per_group; /* work items: runs of `item_columns` columns */
    int32_t item_columns;
    int32_t length_per_row; /* lengths has a second dimension */
    int32_t num_heads;
    int32_t q_dtype;
    int32_t q_alignment; /* as that of the keys */
    int32_t clean;       /* write -inf to all columns that are not seen */
    /* On a GPU: see schedule.h. The rows of a group in blocks, and the number of workgroups. */
    int32_t row_blocks, block_rows;
    int64_t num_workers;
} ac_mqa_logits_params_t;

#endif
