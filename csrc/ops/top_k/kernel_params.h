/* What the top-k kernels get: plain data, shared by the host and by the kernels of every device. Every value that a
 * pointer leads to is untrusted; the kernels clamp. Strides of tensors are in bytes.
 *
 * A long row may be cut into parts: one launch selects the best of every part (its candidates), another selects among
 * the candidates of a row. Whoever is among the best k of the row is among the best k of its part. */
#ifndef AC_OPS_TOP_K_KERNEL_PARAMS_H
#define AC_OPS_TOP_K_KERNEL_PARAMS_H

#include "../attention/work.h"

typedef enum ac_top_k_stage_t {
    AC_TOP_K_ROWS,  /* a work item is a row: writes indices and values */
    AC_TOP_K_PARTS, /* a work item is a part of a row, number row * parts + part: writes candidates */
    AC_TOP_K_MERGE, /* a work item is a row: reads candidates, writes indices and values */
} ac_top_k_stage_t;

typedef struct ac_top_k_params_t {
    const char *logits; /* [num_rows, columns] float32 */
    int64_t logits_stride;
    /* The window of row r is [begins[r], ends[r / next_n] - (next_n - 1 - r % next_n)), clamped to the columns. */
    const int32_t *begins; /* [num_rows], or NULL: 0 */
    const int32_t *ends;   /* [ceil(num_rows / next_n)] */
    int64_t next_n;
    char *indices; /* [num_rows, k] int32, ascending in a row, then -1 */
    int64_t indices_stride;
    char *values; /* [num_rows, k] float32 or NULL; the logits at the indices, then 0 */
    int64_t values_stride;
    int32_t *candidate_indices; /* [num_rows, parts, part_k]: the parts of a row one after the other, without gaps */
    float *candidate_values;    /* likewise */
    int64_t num_rows, columns;
    int64_t k;
    int64_t part_k; /* candidates of a part at most: k, or all of it */
    int32_t parts;  /* of a row */
    int32_t stage;  /* ac_top_k_stage_t */
} ac_top_k_params_t;

/* A run of columns. */
typedef struct ac_columns_t {
    int64_t begin, end; /* begin <= end */
} ac_columns_t;

AC_INLINE ac_columns_t ac_top_k_window(const ac_top_k_params_t *p, int64_t row) {
    const int64_t request = p->next_n == 1 ? row : row / p->next_n;
    const int64_t hidden = (request + 1) * p->next_n - 1 - row; /* tokens after the row's own */
    int64_t begin = p->begins ? ac_list_entry(p->begins, row) : 0;
    int64_t end = ac_list_entry(p->ends, request) - hidden;
    if (begin < 0) begin = 0;
    if (end > p->columns) end = p->columns;
    const ac_columns_t window = {begin < end ? begin : 0, begin < end ? end : 0};
    return window;
}

/* Columns of every part of a window but the last, which may have fewer or none. A part that is not the last has its
 * full number of candidates. */
AC_INLINE int64_t ac_top_k_part_columns(const ac_top_k_params_t *p, ac_columns_t window) {
    const int64_t share = (window.end - window.begin + p->parts - 1) / p->parts;
    return share > p->part_k ? share : p->part_k;
}

AC_INLINE ac_columns_t ac_top_k_part(const ac_top_k_params_t *p, ac_columns_t window, int64_t part) {
    const int64_t columns = ac_top_k_part_columns(p, window), begin = window.begin + part * columns;
    const ac_columns_t found = {ac_min64(begin, window.end), ac_min64(begin + columns, window.end)};
    return found;
}

/* Candidates of all parts of a row together. */
AC_INLINE int64_t ac_top_k_candidates(const ac_top_k_params_t *p, ac_columns_t window) {
    const int64_t length = window.end - window.begin, columns = ac_top_k_part_columns(p, window);
    if (length == 0) return 0;
    const int64_t full = (length - 1) / columns, rest = length - full * columns; /* rest: of the last, 1 or more */
    return full * p->part_k + (rest < p->part_k ? rest : p->part_k);
}

#endif
