/* Tiles in their order, each cut into pieces: the inner part of the schedule. */
#ifndef AC_OPS_MLA_METADATA_PIECES_H
#define AC_OPS_MLA_METADATA_PIECES_H

#include "../attention/work_list.h"
#include "schedule.h"

/* What a tile makes of `used`, the blocks of the current worker's budget that are used: tile after tile waits for it,
 * so it takes three additions and choices, and no condition. */
typedef struct ac_link_t {
    int32_t full; /* a worker that has used so much begins no such tile */
    int32_t
        carry;    /* share - room: where `used` is not below, the last piece is one worker further; no cut: share + 1 */
    int32_t room; /* (last - 1) % share, see ac_step_t; no cut: 0 */
    int32_t rest; /* what the list costs beside its first last - 1 blocks; no cut: all of it */
} ac_link_t;

/* A tile's list has n blocks, and a cut before block `last` or later would leave too few keys. Cuts come after share -
 * used blocks, and after every `share` from there. */
typedef struct ac_step_t {
    ac_link_t link;
    int32_t workers; /* (last - 1) / share */
} ac_step_t;

/* Where a tile begins. */
typedef struct ac_cursor_t {
    int32_t worker; /* with deterministic: the cost of all pieces before */
    int32_t used;
} ac_cursor_t;

AC_INLINE ac_step_t ac_step_of(const ac_mla_metadata_params_t *p, const ac_budget_t *budget, int32_t pages) {
    const int32_t blocks = (int32_t)ac_min64(ac_blocks(p, pages), budget->block_limit), share = budget->share;
    int32_t last = blocks;
    ac_step_t step = {{share + (blocks == 0), share + 1, 0, blocks + p->overhead}, 0};
    if (p->tail_keys > 0 && pages < p->tail_keys) last = 0;
    else if (p->tail_keys > 0)
        last = (int32_t)ac_min64(blocks, (uint32_t)(pages - p->tail_keys) / (uint32_t)p->granule + 1);
    if (last == 0) return step;
    step.workers = (int32_t)((uint32_t)(last - 1) / (uint32_t)share);
    step.link.room = last - 1 - step.workers * share;
    step.link.carry = share - step.link.room;
    step.link.rest -= last - 1;
    return step;
}

/* Of the worker that does the tile's first blocks. */
AC_INLINE int32_t ac_used_before(const ac_link_t *link, int32_t used) { return used < link->full ? used : 0; }

/* Of the worker that does its last ones: begin + room + rest, or where begin >= carry a share less, begin - carry +
 * rest. Differences that are negative are large unsigned numbers. */
AC_INLINE int32_t ac_used_after(const ac_link_t *link, int32_t used) {
    const uint32_t full = (uint32_t)link->full, below = (uint32_t)used - full;
    const uint32_t begin = below > 0 - full ? below : 0 - full; /* minus full */
    const uint32_t same = begin + (full + (uint32_t)link->room), next = begin + (full - (uint32_t)link->carry);
    return (int32_t)((next < same ? next : same) + (uint32_t)link->rest);
}

/* Pieces of the tile, one item each. */
AC_INLINE int32_t ac_num_pieces(const ac_mla_metadata_params_t *p, const ac_listed_request_t *r, const ac_step_t *step,
                                int32_t begin) {
    if (p->deterministic) return ac_fixed_pieces(r);
    return step->workers + (begin >= step->link.carry) + 1;
}

/* deterministic: what the tile's first `count` pieces cost; all of them where `count` is their number. */
AC_INLINE int32_t ac_fixed_cost(const ac_mla_metadata_params_t *p, const ac_budget_t *budget,
                                const ac_listed_request_t *r, int32_t count) {
    const int64_t end = ac_min64((int64_t)count * r->run, r->pages);
    const int64_t blocks = ac_min64(ac_blocks(p, (int32_t)end), budget->block_limit);
    return (int32_t)(blocks + (int64_t)count * p->overhead);
}

AC_INLINE int32_t ac_piece_worker(const ac_mla_metadata_params_t *p, const ac_budget_t *budget,
                                  const ac_listed_request_t *r, ac_cursor_t begin, int32_t piece) {
    if (!p->deterministic) return begin.worker + piece;
    const uint32_t before = (uint32_t)begin.worker + (uint32_t)ac_fixed_cost(p, budget, r, piece);
    return (int32_t)ac_min64(before / (uint32_t)budget->share, p->num_workers - 1);
}

/* Pages of the tile's list before the piece; `piece` may be the number of pieces. */
AC_INLINE int64_t ac_piece_begin(const ac_mla_metadata_params_t *p, const ac_budget_t *budget,
                                 const ac_listed_request_t *r, ac_cursor_t begin, int32_t piece, int32_t pieces) {
    if (piece == 0) return 0;
    if (piece == pieces) return r->pages;
    if (p->deterministic) return (int64_t)piece * r->run;
    return ((int64_t)piece * budget->share - begin.used) * p->granule;
}

/* The item of a piece. */
AC_INLINE void ac_write_item(const ac_mla_metadata_params_t *p, const ac_budget_t *budget, int32_t number,
                             const ac_listed_request_t *request, int32_t tile, ac_cursor_t begin, int32_t piece,
                             int32_t pieces, int32_t partial_row, int32_t *item) {
    const ac_tile_list_t list = ac_tile_list(p, request, tile);
    const int64_t from = list.begin + ac_piece_begin(p, budget, request, begin, piece, pieces);
    const int64_t to = list.begin + ac_piece_begin(p, budget, request, begin, piece + 1, pieces);
    const int64_t kv_begin = ac_min64(from, list.seen_end), kv_end = ac_clamp64(to, kv_begin, list.seen_end);
    const int64_t row = request->first_row + (int64_t)tile * request->tiles.rows;
    int64_t after = list.end - kv_end;
    if (p->page_size == 1 && p->topk >= 0) after += request->num_rows - 1 - tile;
    else if (p->page_size > 1 && after > 0)
        after = (after - 1) * p->page_size + ac_clamp64(p->last_page_lens[number], 0, p->page_size);
    item[AC_WORK_REQUEST] = number;
    item[AC_WORK_PARTIAL] = partial_row;
    item[AC_WORK_Q_BEGIN] = (int32_t)row;
    item[AC_WORK_Q_END] = (int32_t)ac_min64(row + request->tiles.rows, (int64_t)request->first_row + request->num_rows);
    item[AC_WORK_KV_BEGIN] = (int32_t)kv_begin;
    item[AC_WORK_KV_END] = (int32_t)kv_end;
    item[AC_WORK_KV_AFTER] = (int32_t)ac_min64(after, INT32_MAX);
    item[AC_WORK_HEADS] = 0;
}

#endif
