/* What the kernels that convert indices get: plain data, shared by the host and by the kernels of every device, and how
 * they read it. Every value that a pointer leads to is untrusted; it is clamped here, once. Strides of tensors are in
 * bytes. Symbols: T rows, k columns, R requests.
 *
 * An entry is the position of a key in the list of its request, or nothing (below 0). A request's slots stand in pages:
 * position n is row n % page_size of page n // page_size. A CSR list of slots is pages of one row. */
#ifndef AC_OPS_INDEX_CONVERSION_KERNEL_PARAMS_H
#define AC_OPS_INDEX_CONVERSION_KERNEL_PARAMS_H

#include "../attention/work.h"
#include "tile.h"

typedef struct ac_index_params_t {
    const char *entries; /* [T, k] int32 */
    int64_t entries_stride;
    int64_t columns;         /* k: of an entry's row, and of what is written for it at most */
    const int32_t *requests; /* [T]: the request of a row; NULL: row r is of request r */
    int64_t num_requests;
    const int32_t *firsts; /* [num_requests]: the entry that is a request's position 0; NULL: 0 */
    /* The pages of a request. */
    const char *pages;          /* int32: [num_pages] with `page_indptr`, else [R, num_pages] */
    const int32_t *page_indptr; /* [R+1], or NULL */
    int64_t num_pages, pages_stride;
    int32_t page_size, page_stride_rows; /* rows of a page, and from page to page */
    /* What is written. */
    char *out;                 /* int32: [out_size] with `out_indptr`, else [T, k] */
    const int32_t *out_indptr; /* [T+1], or NULL */
    int64_t out_size, out_stride;
    int32_t tiles; /* work items of a row; 0: the entries are slots already, and each row is compacted by one */
} ac_index_params_t;

/* Numbers [begin, begin + length). */
typedef struct ac_index_run_t {
    int64_t begin, length;
} ac_index_run_t;

/* Run number i of an indptr within [0, size): empty where it descends. */
AC_INLINE ac_index_run_t ac_index_run(const int32_t *indptr, int64_t i, int64_t size) {
    const int64_t begin = ac_clamp64(ac_list_entry(indptr, i), 0, size);
    const int64_t end = ac_clamp64(ac_list_entry(indptr, i + 1), begin, size);
    const ac_index_run_t run = {begin, end - begin};
    return run;
}

/* The pages of a row's request; none where there is no such request. */
typedef struct ac_index_pages_t {
    const int32_t *pages;
    int64_t positions; /* that they hold */
    int32_t first;     /* the entry that is position 0; not below 0 */
} ac_index_pages_t;

AC_INLINE ac_index_pages_t ac_index_pages(const ac_index_params_t *p, int64_t row) {
    const int64_t request = p->requests ? ac_list_entry(p->requests, row) : row;
    ac_index_pages_t none = {(const int32_t *)(const void *)p->pages, 0, 0};
    if (request < 0 || request >= p->num_requests) return none;
    ac_index_run_t run = {0, p->num_pages};
    if (p->page_indptr) run = ac_index_run(p->page_indptr, request, p->num_pages);
    const char *first = p->pages + (p->page_indptr ? run.begin * (int64_t)sizeof(int32_t) : request * p->pages_stride);
    const int32_t entry = p->firsts ? ac_list_entry(p->firsts, request) : 0;
    const ac_index_pages_t found = {(const int32_t *)(const void *)first, run.length * p->page_size,
                                    entry > 0 ? entry : 0};
    return found;
}

/* The position that an entry names, or one below 0. */
AC_INLINE int32_t ac_index_position(const ac_index_pages_t *pages, int32_t entry) {
    return entry < 0 ? -1 : entry - pages->first;
}

/* Where a row's slots go, and how many there are. */
typedef struct ac_index_target_t {
    int32_t *slots;
    int64_t count;
} ac_index_target_t;

AC_INLINE ac_index_target_t ac_index_target(const ac_index_params_t *p, int64_t row) {
    ac_index_target_t target = {(int32_t *)(void *)(p->out + row * p->out_stride), p->columns};
    if (!p->out_indptr) return target;
    const ac_index_run_t run = ac_index_run(p->out_indptr, row, p->out_size);
    target.slots = (int32_t *)(void *)p->out + run.begin;
    target.count = ac_min64(run.length, p->columns);
    return target;
}

/* Where the page of a position stands in `pages`, and the row in it; the position is one of them. */
AC_INLINE uint32_t ac_index_page_of(const ac_index_params_t *p, int32_t position, uint32_t *out_row) {
    const uint32_t size = (uint32_t)p->page_size, page = size == 1 ? (uint32_t)position : (uint32_t)position / size;
    *out_row = (uint32_t)position - page * size;
    return page;
}

/* The slot of a page's row; -1: an invalid page, or a slot that int32 cannot count. */
AC_INLINE int32_t ac_index_slot(const ac_index_params_t *p, int32_t page, uint32_t row) {
    const int64_t slot = (int64_t)page * p->page_stride_rows + row;
    return page < 0 || slot > INT32_MAX ? -1 : (int32_t)slot;
}

#endif
