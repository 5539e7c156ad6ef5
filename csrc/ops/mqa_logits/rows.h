/* What a row sees and where a key is: every value of the caller's index tensors is clamped here, so that everything
 * after it can trust them. The same code runs in the kernels of every device. */
#ifndef AC_OPS_MQA_LOGITS_ROWS_H
#define AC_OPS_MQA_LOGITS_ROWS_H

#include "../attention/work.h"
#include "kernel_params.h"

/* Entry i of a list in the caller's memory. */
AC_INLINE int32_t ac_mqa_entry(const int32_t *list, int64_t i) {
#if defined(__AMDGCN__)
    return ((const __attribute__((address_space(1))) int32_t *)list)[i];
#else
    return list[i];
#endif
}

/* The length of a row's context as the caller says it. */
AC_INLINE int64_t ac_mqa_length(const ac_mqa_logits_params_t *p, int64_t group, int64_t row) {
    if (group >= p->num_requests) return 0;
    return ac_mqa_entry(p->lengths, group * p->lengths_stride + (p->length_per_row ? row * p->lengths_row_stride : 0));
}

/* Columns of a row: [begin, seen) have logits, [seen, end) are -inf, the others are written only where `clean`. */
typedef struct ac_mqa_window_t {
    int64_t begin, seen, end; /* ascending, at most p->columns */
} ac_mqa_window_t;

/* Of row `row` of group `group`. With one length for all rows of a request its last row sees it all, and every row
 * before one column less; with a length per row a row sees its own. */
AC_INLINE ac_mqa_window_t ac_mqa_window(const ac_mqa_logits_params_t *p, int64_t group, int64_t row) {
    ac_mqa_window_t window = {0, 0, 0};
    if (p->k.is_paged) {
        const int64_t length = ac_mqa_length(p, group, row);
        const int64_t hidden = p->length_per_row ? 0 : p->group_rows - 1 - row; /* rows after this one */
        window.end = ac_clamp64(length, 0, p->columns);
        window.seen = ac_clamp64(length - hidden, 0, window.end);
    } else {
        const int64_t at = group * p->group_rows + row;
        const int64_t begin = ac_max64(ac_mqa_entry(p->begins, at * p->begins_stride), 0);
        const int64_t end = ac_min64(ac_mqa_entry(p->ends, at * p->ends_stride), p->columns);
        if (begin < end) window.begin = begin, window.seen = window.end = end;
    }
    return window;
}

/* The entry of the table that key j is under, and the key's number in its page. */
AC_INLINE uint32_t ac_mqa_entry_of(const ac_mqa_keys_t *k, int64_t j, uint32_t *out_token) {
    const uint32_t entry = (uint32_t)((uint64_t)j * k->divide_multiplier >> k->divide_shift);
    *out_token = (uint32_t)j - entry * (uint32_t)k->page_size;
    return entry;
}

/* The page of key j of a group, or -1 where there is none. */
AC_INLINE int64_t ac_mqa_page(const ac_mqa_keys_t *k, int64_t group, int64_t j, uint32_t *out_token) {
    const uint32_t entry = ac_mqa_entry_of(k, j, out_token);
    if (!k->is_paged) return 0;
    if (entry >= k->table_width) return -1;
    const int32_t page = ac_mqa_entry(k->table, group * k->table_stride + entry);
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
