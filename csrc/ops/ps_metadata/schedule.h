/* The schedule of prefill: which worker takes which pieces of which tile's keys. The keys of all tiles, counted in
 * units, stand in one row, tile after tile in the order of visits: of a request the first, the last, the second, the
 * last but one, ... The row is dealt to the workers in equal runs, one unit more for the first of them; a tile is cut
 * where a run ends within it. Integers only; every value from the caller's tensors is clamped here, once. The same code
 * runs on every device, and gives the same lists. */
#ifndef AC_OPS_PS_METADATA_SCHEDULE_H
#define AC_OPS_PS_METADATA_SCHEDULE_H

#include "../attention/work.h"
#include "../attention/work_list.h"
#include "kernel_params.h"

typedef struct ac_ps_request_t {
    int32_t number;
    int32_t first_row, num_rows, tiles;
    int32_t keys;
    int32_t page_begin, page_end; /* entries of kv_indices */
} ac_ps_request_t;

/* Of its tiles no more than `most`. */
AC_INLINE ac_ps_request_t ac_ps_request(const ac_ps_metadata_params_t *p, int32_t number, int64_t most) {
    ac_ps_request_t out = {.number = number};
    const int64_t begin = ac_max64(p->qo_indptr[number], 0), rows = ac_max64(p->qo_indptr[number + 1], begin) - begin;
    const int64_t page_begin = ac_max64(p->kv_indptr[number], 0);
    out.first_row = (int32_t)begin;
    out.num_rows = (int32_t)rows;
    out.tiles = (int32_t)ac_min64(ac_ceil_div64(rows, p->tile_rows), most);
    out.keys = (int32_t)ac_max64(p->context_lens[number], 0);
    out.page_begin = (int32_t)page_begin;
    out.page_end = (int32_t)ac_max64(p->kv_indptr[number + 1], page_begin);
    return out;
}

/* The tile of a visit, and back. */
AC_INLINE int32_t ac_ps_visited(const ac_ps_request_t *r, int32_t visit) {
    return visit % 2 == 0 ? visit / 2 : r->tiles - 1 - visit / 2;
}

/* Rows [begin, end) of the request, and how many units of keys they see. */
typedef struct ac_ps_tile_t {
    int32_t begin, end, units;
} ac_ps_tile_t;

AC_INLINE ac_ps_tile_t ac_ps_tile(const ac_ps_metadata_params_t *p, const ac_ps_request_t *r, int32_t tile) {
    const int64_t begin = (int64_t)tile * p->tile_rows, end = ac_min64(begin + p->tile_rows, r->num_rows);
    const int64_t seen = p->causal ? ac_max64((int64_t)r->keys - r->num_rows + end, 0) : r->keys;
    const ac_ps_tile_t out = {(int32_t)begin, (int32_t)end, (int32_t)ac_ceil_div64(seen, p->unit_keys)};
    return out;
}

/* How the row of units is dealt. Where no tile sees a key, each of them counts as one unit. */
typedef struct ac_ps_shares_t {
    int64_t total, share, longer; /* `longer` workers have share + 1 */
    int32_t counts_tiles;
} ac_ps_shares_t;

AC_INLINE ac_ps_shares_t ac_ps_shares(const ac_ps_metadata_params_t *p, int64_t units, int64_t tiles) {
    ac_ps_shares_t out = {units > 0 ? units : tiles, 0, 0, units == 0};
    out.share = out.total / p->workers;
    out.longer = out.total % p->workers;
    return out;
}

AC_INLINE int64_t ac_ps_counted(const ac_ps_shares_t *shares, const ac_ps_tile_t *tile) {
    return shares->counts_tiles ? 1 : tile->units;
}

/* The first unit of a worker, and the worker of a unit. */
AC_INLINE int64_t ac_ps_first_unit(const ac_ps_shares_t *shares, int64_t worker) {
    return worker * shares->share + ac_min64(worker, shares->longer);
}
AC_INLINE int32_t ac_ps_worker(const ac_ps_shares_t *shares, int64_t unit) {
    const int64_t longer = shares->longer * (shares->share + 1);
    if (unit < longer) return (int32_t)(unit / (shares->share + 1));
    return (int32_t)(shares->longer + (unit - longer) / shares->share);
}

/* The workers of a tile whose first unit is `first`: one piece each. A tile of no unit goes with the unit after it, or
 * with the last. */
typedef struct ac_ps_pieces_t {
    int64_t first;
    int32_t worker, count;
} ac_ps_pieces_t;

AC_INLINE ac_ps_pieces_t ac_ps_pieces(const ac_ps_shares_t *shares, int64_t first, int64_t units) {
    ac_ps_pieces_t out = {first, ac_ps_worker(shares, ac_min64(first, shares->total - 1)), 1};
    if (units > 1) out.count = ac_ps_worker(shares, first + units - 1) - out.worker + 1;
    return out;
}

/* The item of a piece for one head of keys and values; but for that head's query heads. */
AC_INLINE void ac_ps_fill_item(const ac_ps_metadata_params_t *p, const ac_ps_shares_t *shares, const ac_ps_request_t *r,
                               const ac_ps_tile_t *tile, const ac_ps_pieces_t *pieces, int32_t piece,
                               int32_t partial_row, int32_t *item) {
    const int is_last = piece == pieces->count - 1;
    int64_t begin = piece == 0 ? 0 : ac_ps_first_unit(shares, pieces->worker + piece) - pieces->first;
    int64_t end = is_last ? tile->units : ac_ps_first_unit(shares, pieces->worker + piece + 1) - pieces->first;
    begin = ac_min64(r->page_begin + begin * p->unit_pages, r->page_end);
    end = ac_min64(r->page_begin + end * p->unit_pages, r->page_end);
    item[AC_WORK_REQUEST] = r->number;
    item[AC_WORK_PARTIAL] = partial_row;
    item[AC_WORK_Q_BEGIN] = r->first_row + tile->begin;
    item[AC_WORK_Q_END] = r->first_row + tile->end;
    item[AC_WORK_KV_BEGIN] = (int32_t)begin;
    item[AC_WORK_KV_END] = (int32_t)end;
    item[AC_WORK_KV_AFTER] = is_last ? 0 : (int32_t)ac_max64(r->keys - (end - r->page_begin) * p->page_size, 0);
}

/* The query heads of head `head` of keys and values: low and high 16 bits. */
AC_INLINE int32_t ac_ps_heads(const ac_ps_metadata_params_t *p, int32_t head) {
    const uint32_t begin = (uint32_t)head * (uint32_t)p->group_size;
    return (int32_t)(begin | (begin + (uint32_t)p->group_size) << 16);
}

/* Whether a tile in so many pieces leaves partials. */
AC_INLINE int ac_ps_has_partials(const ac_ps_metadata_params_t *p, int32_t pieces) { return pieces > 1 || p->need_lse; }

#endif
