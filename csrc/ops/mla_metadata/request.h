/* The requests of a batch as a planner of work lists sees them: query rows cut into tiles, and the KV list that each
 * tile reads. Every value from the caller's tensors is clamped here, once. The same code runs on every device. */
#ifndef AC_OPS_MLA_METADATA_REQUEST_H
#define AC_OPS_MLA_METADATA_REQUEST_H

#include "../attention/fixed_splits.h"
#include "../attention/work.h"
#include "kernel_params.h"

typedef struct ac_tiles_t {
    int32_t count, rows; /* of every tile but the last, which may have fewer */
} ac_tiles_t;

/* As few tiles of at most `most` rows as hold them, equally filled. */
AC_INLINE ac_tiles_t ac_tiles_of(int32_t rows, int32_t most) {
    ac_tiles_t tiles = {rows > 0, rows};
    if (rows <= most) return tiles;
    tiles.count = (int32_t)(((uint32_t)rows - 1) / (uint32_t)most + 1);
    tiles.rows = (int32_t)(((uint32_t)rows - 1) / (uint32_t)tiles.count + 1);
    return tiles;
}

typedef struct ac_listed_request_t {
    int32_t first_row, num_rows;
    ac_tiles_t tiles;
    int32_t pages;    /* in the list of a tile */
    int32_t kv_begin; /* where tile 0's begins, counted from kv_indptr[0] */
    int32_t kv_step;  /* where the next tile's begins from there; 0: all tiles read one list */
    int32_t run;      /* with deterministic: pages of a piece */
} ac_listed_request_t;

/* Query rows of the request. Rows of a uniform batch need no qo_indptr; those that int32 cannot count are none. */
AC_INLINE void ac_find_rows(const ac_mla_metadata_params_t *p, int32_t number, ac_listed_request_t *out) {
    int64_t begin, end, rows;
    if (p->uni_seqlen_q > 0) {
        rows = p->uni_seqlen_q;
        if (p->topk >= 0 && rows == 1) rows = ac_max64((int64_t)p->qo_indptr[1] - p->qo_indptr[0], 0);
        begin = number * rows; /* below 2^20 * 2^32 */
        end = begin + rows;
        if (end > INT32_MAX) begin = end = 0;
    } else {
        begin = ac_max64(p->qo_indptr[number], 0);
        end = ac_max64(p->qo_indptr[number + 1], begin);
    }
    rows = end - begin;
    if (p->topk < 0 && p->max_seqlen_q > 0) rows = ac_min64(rows, p->max_seqlen_q);
    out->first_row = (int32_t)begin;
    out->num_rows = (int32_t)rows;
}

/* Entries [begin, end) of kv_indptr's numbering, as they are there. */
typedef struct ac_list_ends_t {
    int32_t origin, begin, end;
} ac_list_ends_t;

AC_INLINE void ac_find_list(const ac_mla_metadata_params_t *p, ac_list_ends_t ends, ac_listed_request_t *out) {
    const int64_t begin = ac_max64(ends.begin, 0), pages = ac_max64(ends.end, begin) - begin;
    out->pages = (int32_t)pages;
    out->kv_begin = (int32_t)(begin - ac_max64(ends.origin, 0));
    out->kv_step = 0;
    if (p->topk < 0) return;
    /* A dense table of one list per query row. */
    out->pages = (int32_t)ac_min64(pages, p->topk);
    out->kv_begin = (int32_t)ac_min64((int64_t)out->first_row * p->topk, INT32_MAX);
    out->kv_step = p->topk;
}

/* deterministic: pages of a piece. */
AC_INLINE int32_t ac_fixed_run(const ac_mla_metadata_params_t *p, int32_t pages) {
    const int64_t part = ac_ceil_div64((int64_t)pages * p->page_size, AC_FIXED_SPLITS);
    const int64_t run = ac_ceil_div64(part, AC_FIXED_GRANULE) * AC_FIXED_GRANULE;
    return (int32_t)ac_ceil_div64(ac_max64(run, AC_FIXED_MIN_KEYS), p->page_size);
}

AC_INLINE ac_listed_request_t ac_listed_request(const ac_mla_metadata_params_t *p, int32_t number) {
    ac_listed_request_t request;
    /* Loaded first, so that they are under way while the rows are looked for. */
    const ac_list_ends_t ends = {p->kv_indptr[0], p->kv_indptr[number], p->kv_indptr[number + 1]};
    ac_find_rows(p, number, &request);
    ac_find_list(p, ends, &request);
    request.tiles.count = request.num_rows;
    request.tiles.rows = 1;
    if (p->topk < 0) request.tiles = ac_tiles_of(request.num_rows, p->tile_rows);
    request.run = p->deterministic ? ac_fixed_run(p, request.pages) : 0;
    return request;
}

/* The part of a tile's list that some row of the tile sees. */
typedef struct ac_tile_list_t {
    int64_t begin, seen_end, end; /* begin <= seen_end <= end <= INT32_MAX */
} ac_tile_list_t;

AC_INLINE ac_tile_list_t ac_tile_list(const ac_mla_metadata_params_t *p, const ac_listed_request_t *request,
                                      int32_t tile) {
    ac_tile_list_t list;
    list.begin = ac_min64((int64_t)tile * request->kv_step + request->kv_begin, INT32_MAX);
    list.end = ac_min64(list.begin + request->pages, INT32_MAX);
    list.seen_end = ac_max64(list.end - (p->trims ? request->tiles.count - 1 - tile : 0), list.begin);
    return list;
}

#endif
