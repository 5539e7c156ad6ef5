/* The groups of a merge, with every value from the caller's tensors clamped here, once. The same code runs in the
 * kernels of every device. */
#ifndef AC_OPS_MLA_MERGE_GROUP_H
#define AC_OPS_MLA_MERGE_GROUP_H

#include "../attention/unserved.h"
#include "kernel_params.h"

typedef struct ac_merge_group_t {
    int64_t first_row, num_rows; /* final rows */
    int64_t num_parts;           /* partials of each */
    const int32_t *locations;    /* [num_parts]: where the first final row's are; NULL: beside one another */
} ac_merge_group_t;

/* Rows [from, to) of num_rows. */
AC_INLINE void ac_merge_rows(ac_merge_group_t *group, int64_t from, int64_t to, int64_t num_rows) {
    group->first_row = ac_clamp64(from, 0, num_rows);
    group->num_rows = ac_clamp64(to, group->first_row, num_rows) - group->first_row;
}

AC_INLINE ac_merge_group_t ac_merge_request(const ac_mla_merge_params_t *p, int64_t number) {
    ac_merge_group_t group = {0, 0, p->num_splits, 0};
    int64_t from = p->qo_indptr ? p->qo_indptr[number] : number * p->max_seqlen_q;
    int64_t to = p->qo_indptr ? p->qo_indptr[number + 1] : from + p->max_seqlen_q;
    ac_merge_rows(&group, from, to, p->num_rows);
    group.num_rows = ac_min64(group.num_rows, p->max_seqlen_q);
    return group;
}

/* The LSE of rows that no request serves; whoever has row 0 and head 0 of the request calls it. */
AC_INLINE void ac_merge_fill_unserved(const ac_mla_merge_params_t *p, int64_t number, int thread, int threads) {
    const ac_query_rows_t rows = {p->qo_indptr, p->num_groups, p->max_seqlen_q, p->num_rows};
    ac_fill_unserved(&rows, number, p->lse, p->num_heads, -__builtin_inff(), thread, threads);
}

/* A group without partials has no rows. */
AC_INLINE ac_merge_group_t ac_merge_listed(const ac_mla_merge_params_t *p, int64_t number) {
    ac_merge_group_t group = {0, 0, 0, 0};
    int64_t begin = ac_clamp64(p->reduce_indptr[number], 0, p->num_entries);
    group.num_parts = ac_clamp64(p->reduce_indptr[number + 1], begin, p->num_entries) - begin;
    if (group.num_parts == 0) return group;
    group.locations = p->partial_map + begin;
    int64_t from, to;
    if (p->final_map) {
        from = p->final_map[2 * number];
        to = p->final_map[2 * number + 1];
    } else {
        int64_t rows = group.num_parts > 1 ? (int64_t)group.locations[1] - group.locations[0] : p->max_seqlen_q;
        from = number * rows;
        to = from + rows;
    }
    ac_merge_rows(&group, from, to, p->num_rows);
    return group;
}

/* Whether the group's row `row` has a partial by a list's entry `location`. */
AC_INLINE int ac_merge_has_partial(int64_t location, int64_t row, int64_t num_partials) {
    return location >= 0 && location + row < num_partials;
}

#endif
