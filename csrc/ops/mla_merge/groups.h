/* Groups of rows to be merged, from requests or from lists; the same code in the kernels of every device. */
#ifndef AC_OPS_MLA_MERGE_GROUPS_H
#define AC_OPS_MLA_MERGE_GROUPS_H

#include "kernel_params.h"

typedef struct ac_merge_group_t {
    int32_t row, num_rows; /* of o */
    int32_t num_partials;  /* of every row; 0: the rows are not touched */
    const int32_t *map;    /* partial s of row t of the group is partial row map[s] + t; NULL: see first_partial() */
} ac_merge_group_t;

AC_INLINE ac_merge_group_t ac_merge_group(const ac_mla_merge_params_t *p, int64_t number) {
    ac_merge_group_t group = {0, 0, p->num_splits, 0};
    if (!p->reduce_indptr) {
        int64_t begin, count;
        ac_request_queries(p->qo_indptr, number, p->num_rows, &begin, &count);
        group.row = (int32_t)begin;
        group.num_rows = (int32_t)ac_min64(count, p->group_rows);
        return group;
    }
    int64_t begin = ac_clamp64(p->reduce_indptr[number], 0, p->num_map);
    group.num_partials = (int32_t)(ac_clamp64(p->reduce_indptr[number + 1], begin, p->num_map) - begin);
    group.map = p->partial_map + begin;
    if (group.num_partials == 0) return group;
    int64_t rows = group.num_partials > 1 ? (int64_t)group.map[1] - group.map[0] : p->group_rows;
    int64_t row = p->final_map ? p->final_map[2 * number] : number * ac_max64(rows, 0);
    int64_t end = p->final_map ? p->final_map[2 * number + 1] : row + rows;
    if (row < 0 || row >= p->num_rows) return group;
    group.row = (int32_t)row;
    group.num_rows = (int32_t)(ac_clamp64(end, row, p->num_rows) - row);
    return group;
}

/* Partial s of row t is at first_partial + partial_offset(s); it is empty where that is no partial row. */
AC_INLINE int64_t ac_first_partial(const ac_merge_group_t *group, uint32_t t) {
    return group->map ? t : ((int64_t)group->row + t) * group->num_partials;
}
AC_INLINE int32_t ac_partial_offset(const ac_merge_group_t *group, int32_t s) {
    return group->map ? group->map[s] : s;
}
AC_INLINE int ac_is_partial(const ac_mla_merge_params_t *p, int64_t partial) {
    return partial >= 0 && partial < p->num_partials;
}

#endif
