/* The LSE of query rows that no request serves: those before the first request's rows, after the last's, and past
 * max_seqlen_q of a request. Whoever has a request's first rows fills what is beside it; nothing has to be filled
 * before the kernel. The same code runs in the kernels of every device. */
#ifndef AC_OPS_ATTENTION_UNSERVED_H
#define AC_OPS_ATTENTION_UNSERVED_H

#include "work.h"

typedef struct ac_query_rows_t {
    const int32_t *qo_indptr;                     /* [B+1]; or NULL: every row is served */
    int64_t num_requests, max_seqlen_q, num_rows; /* B, -, T */
} ac_query_rows_t;

/* In a qo_indptr that ascends no row beside a request is served by another; no value of it is an error, though. */
AC_INLINE int ac_row_is_served(const ac_query_rows_t *rows, int64_t row) {
    for (int64_t request = 0; request < rows->num_requests; request++) {
        int64_t begin = ac_clamp64(rows->qo_indptr[request], 0, rows->num_rows);
        if (row >= begin && row < begin + rows->max_seqlen_q && row < rows->qo_indptr[request + 1]) return 1;
    }
    return 0;
}

/* lse[row, 0 .. width) = value, for the rows beside the request; thread number `thread` of `threads` takes turns. */
AC_INLINE void ac_fill_unserved(const ac_query_rows_t *rows, int64_t request, float *lse, int64_t width, float value,
                                int thread, int threads) {
    int64_t begin, count;
    if (!rows->qo_indptr || !lse) return;
    ac_request_queries(rows->qo_indptr, 0, request, rows->num_rows, &begin, &count);
    for (int run = 0; run < 3; run++) { /* before the first request, past the request's served rows, after the last */
        int64_t from = 0, to = begin;
        if (run == 0 && request != 0) continue;
        if (run == 1) {
            from = begin + ac_min64(count, rows->max_seqlen_q);
            to = begin + count;
        }
        if (run == 2) {
            if (request != rows->num_requests - 1) continue;
            from = begin + count;
            to = rows->num_rows;
        }
        for (int64_t row = from + thread; row < to; row += threads) {
            if (ac_row_is_served(rows, row)) continue;
            for (int64_t i = 0; i < width; i++) lse[row * width + i] = value;
        }
    }
}

#endif
