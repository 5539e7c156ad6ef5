/* What a row sees and where a key is: every value of the caller's index tensors is clamped here, so that everything
 * after it can trust them. The same code runs in the kernels of every device. */
#ifndef AC_OPS_MQA_LOGITS_ROWS_H
#define AC_OPS_MQA_LOGITS_ROWS_H

#include "../attention/work.h"
#include "kernel_params.h"

/* Columns of a row: [begin, seen) have logits, [seen, end) are -inf, the others are written only where `clean`. */
typedef struct ac_mqa_window_t {
    int64_t begin, seen, end; /* ascending, at most p->columns */
} ac_mqa_window_t;

/* Of row `row` of group `group`. With one length for all rows of a request its last row sees it all, and every row
 * before one column less; with a length per row a row sees its own. */
AC_INLINE ac_mqa_window_t ac_mqa_window(const ac_mqa_logits_params_t *p, int64_t group, int64_t row) {
    ac_mqa_window_t window = {0, 0, 0};
    if (p->lengths) {
        int64_t length = 0, hidden = 0;
        if (group < p->num_requests) {
            length = p->lengths[group * p->lengths_stride + (p->length_per_row ? row * p->lengths_row_stride : 0)];
            hidden = p->length_per_row ? 0 : p->group_rows - 1 - row;
        }
        window.end = ac_clamp64(length, 0, p->columns);
        window.seen = ac_clamp64(length - hidden, 0, window.end);
    } else {
        const int64_t at = group * p->group_rows + row;
        const int64_t begin = ac_max64(p->begins[at * p->begins_stride], 0);
        const int64_t end = ac_min64(p->ends[at * p->ends_stride], p->columns);
        if (begin < end) window.begin = begin, window.seen = window.end = end;
    }
    return window;
}

/* The page of key j of a group, or -1 where there is none. */
AC_INLINE int64_t ac_mqa_page(const ac_mqa_keys_t *k, int64_t group, int64_t j, int64_t *out_token) {
    /* Both fit 32 bits: a division of those is several times faster on a GPU. */
    const uint32_t key = (uint32_t)j, size = (uint32_t)k->page_size;
    const uint32_t entry = k->page_shift >= 0 ? key >> k->page_shift : key / size;
    *out_token = key - entry * size;
    if (!k->table) return 0;
    if (entry >= k->table_width) return -1;
    const int32_t page = k->table[group * k->table_stride + entry];
    return page >= 0 && page < k->num_pages ? page : -1;
}

/* The first of the 16-byte runs of a key, and the distance of the next. */
AC_INLINE const char *ac_mqa_key(const ac_mqa_keys_t *k, int64_t page, int64_t token) {
    const int64_t at = k->preshuffled ? (token >> 4) * (16 * AC_MQA_DIM) + (token & 15) * 16 : token * k->key_stride;
    return k->keys + page * k->page_stride + at;
}
AC_INLINE int64_t ac_mqa_run_stride(const ac_mqa_keys_t *k) { return k->preshuffled ? 256 : 16; }

AC_INLINE const char *ac_mqa_scale(const ac_mqa_keys_t *k, int64_t page, int64_t token) {
    return k->scales + page * k->page_stride + token * k->scale_stride;
}

#endif
