/* One tile of prefill: up to tile_rows query rows of one head of a request, and the keys that they see. Every value
 * from the caller's indptrs is clamped here, once, so that everything after it can trust them; entries of kv_indices
 * alone are left to the kernels. The same code runs in the kernels of every device. */
#ifndef AC_OPS_MLA_PREFILL_TILE_H
#define AC_OPS_MLA_PREFILL_TILE_H

#include "../attention/work.h"
#include "kernel_params.h"

/* Row r of the tile, of `rows`, sees the keys [begin, min(end, first_end + r)) of the request; where that is empty its
 * result is o = 0 and LSE -inf. Without causal mask first_end is end. */
typedef struct ac_prefill_tile_t {
    int64_t row;          /* of q, o and lse: the tile's first */
    int64_t partial_row;  /* of the partials, likewise; or -1: the rows are final */
    const int32_t *slots; /* key j of the request is in slot slots[j]; or NULL: in slot first_slot + j. A slot outside
                             [0, num_slots) is a masked key: nothing of it is read. */
    int64_t first_slot;
    int32_t rows;          /* 1 .. tile_rows */
    int32_t head, kv_head; /* of q and o; of k and v */
    int32_t begin, end;    /* of the keys; the last row sees all of them */
    int32_t first_end;     /* may be below begin, and below 0 */
} ac_prefill_tile_t;

/* The query rows and keys of a request. */
typedef struct ac_prefill_request_t {
    int64_t row, rows, entry, keys;
} ac_prefill_request_t;

AC_INLINE ac_prefill_request_t ac_prefill_request(const ac_mla_prefill_params_t *p, int64_t request) {
    ac_prefill_request_t out;
    ac_request_queries(p->qo_indptr, 0, request, p->num_rows, &out.row, &out.rows);
    ac_request_queries(p->kv_indptr, 0, request, p->num_indices, &out.entry, &out.keys);
    return out;
}

/* The rows [from, from + tile_rows) of the request, those below `rows_end`, and its keys [begin, end). THE causal rule:
 * query row i of nq sees the keys up to number L - nq + i. Returns 0 when there is no such row. */
AC_INLINE int ac_prefill_tile(const ac_mla_prefill_params_t *p, const ac_prefill_request_t *request, int64_t from,
                              int64_t rows_end, int64_t begin, int64_t end, int32_t head, int tile_rows,
                              ac_prefill_tile_t *out) {
    if (from >= rows_end) return 0;
    const int64_t rows = ac_min64(rows_end - from, tile_rows);
    int64_t first_end = request->keys - request->rows + from + 1;
    if (!p->causal) first_end = end;
    else end = ac_clamp64(first_end + rows - 1, begin, end);
    out->row = request->row + from;
    out->rows = (int32_t)rows;
    out->head = head;
    out->kv_head = head / p->group_size;
    out->slots = p->kv_indices ? p->kv_indices + request->entry : 0;
    out->first_slot = request->entry;
    out->begin = (int32_t)begin;
    out->end = (int32_t)end;
    out->first_end = (int32_t)first_end;
    return 1;
}

/* Tile `tile` of a head of a request, all of its keys; for kernels that walk the grid in an order of their own. */
AC_INLINE int ac_prefill_grid_tile(const ac_mla_prefill_params_t *p, int64_t request, int32_t head, int64_t tile,
                                   int tile_rows, ac_prefill_tile_t *out) {
    const ac_prefill_request_t r = ac_prefill_request(p, request);
    const int64_t rows = ac_min64(r.rows, p->max_seqlen_q);
    out->partial_row = -1;
    return ac_prefill_tile(p, &r, tile * tile_rows, rows, 0, r.keys, head, tile_rows, out);
}

#endif
