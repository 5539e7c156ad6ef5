/* The schedule: which worker takes which pieces of which tile's KV list. Integers only; the same code runs on every
 * device, and gives the same lists.
 *
 * Bins are filled in order: every worker has a budget of share + overhead blocks, an item costs its blocks + overhead.
 * A tile that does not fit is cut where the budget ends and goes on with the next worker. Where there is a worker for
 * every tile and the number of splits is automatic, a share is no more than the longest list cut into as many pieces as
 * there are workers for it: lists of one length are cut into equal pieces. Where there are more of them than workers, a
 * share is whole lists if that is hardly more: cuts would cost more than they level out. With deterministic the cuts
 * follow from the list's length alone, and the pieces are dealt out by what those before them cost. */
#ifndef AC_OPS_MLA_METADATA_SCHEDULE_H
#define AC_OPS_MLA_METADATA_SCHEDULE_H

#include "request.h"

#define AC_LIST_MAX_BLOCKS (1u << 29) /* of all tiles together: longer lists are counted as shorter than they are */

/* Where the number of splits is automatic a piece has so many keys at least: the kernels' smallest tile of keys. */
#define AC_LIST_PIECE_KEYS 64

/* And lists of one length, more than workers, are not cut where that is more than the share by this part of it at most.
 * On an H200 128 lists of 4,096 keys and 128 heads are 3 % more; cut, they took 9 % longer. */
#define AC_LIST_WHOLE_PART 16

/* Sums over all tiles; each stops at a little above AC_LIST_MAX_BLOCKS. And the blocks of the longest list. */
typedef struct ac_list_totals_t {
    uint32_t tiles, blocks, splits, pieces, longest;
} ac_list_totals_t;

AC_INLINE uint32_t ac_total(uint64_t sum) { return sum > AC_LIST_MAX_BLOCKS ? AC_LIST_MAX_BLOCKS + 1 : (uint32_t)sum; }

AC_INLINE int32_t ac_blocks(const ac_mla_metadata_params_t *p, int32_t pages) {
    return (int32_t)(((uint32_t)pages + (uint32_t)p->granule - 1) / (uint32_t)p->granule);
}

/* deterministic: pieces of each tile of the request. */
AC_INLINE int32_t ac_fixed_pieces(const ac_listed_request_t *r) {
    return r->pages > 0 ? (int32_t)(((uint32_t)r->pages - 1) / (uint32_t)r->run + 1) : 1;
}

AC_INLINE void ac_add_request(const ac_mla_metadata_params_t *p, const ac_listed_request_t *r, int32_t block_limit,
                              ac_list_totals_t *totals) {
    const uint64_t tiles = (uint64_t)r->tiles.count, blocks = (uint64_t)ac_min64(ac_blocks(p, r->pages), block_limit);
    const int64_t keys = ac_min64((int64_t)r->pages * p->page_size, INT32_MAX);
    const uint32_t splits = (uint32_t)keys / AC_LIST_PIECE_KEYS;
    const uint64_t pieces = p->deterministic ? (uint64_t)ac_fixed_pieces(r) : 1;
    totals->tiles = ac_total(totals->tiles + tiles);
    totals->blocks = ac_total(totals->blocks + ac_total(blocks * tiles));
    totals->splits = ac_total(totals->splits + ac_total((splits > 1 ? splits : 1) * tiles));
    totals->pieces = ac_total(totals->pieces + pieces * tiles);
    if (tiles > 0 && blocks > totals->longest) totals->longest = (uint32_t)blocks;
}

typedef struct ac_budget_t {
    int32_t tiles;       /* that are planned */
    int32_t block_limit; /* a list counts as no more than this */
    int32_t share;       /* blocks of a worker, or with deterministic what its items cost */
    int32_t are_alike;   /* all lists have as many blocks, and no cut depends on more than that */
} ac_budget_t;

AC_INLINE int32_t ac_planned_tiles(const ac_mla_metadata_params_t *p, const ac_list_totals_t *totals) {
    return (int32_t)ac_min64(totals->tiles, p->max_tiles);
}

/* What a list counts as at most; INT32_MAX where the sum is small enough. Otherwise the blocks are summed up again. */
AC_INLINE int32_t ac_block_limit(const ac_mla_metadata_params_t *p, const ac_list_totals_t *totals) {
    if (totals->blocks <= AC_LIST_MAX_BLOCKS) return INT32_MAX;
    return (int32_t)(AC_LIST_MAX_BLOCKS / (uint32_t)ac_max64(ac_planned_tiles(p, totals), 1));
}

/* Workers that share the lists. Beside one item per tile there is one more for each of them but the first, and two
 * entries for merging, or one per tile and one more: so the buffers bound the number, too. */
AC_INLINE int32_t ac_num_splits(const ac_mla_metadata_params_t *p, const ac_list_totals_t *totals, int32_t tiles) {
    int64_t splits = ac_min64(p->num_workers, p->max_splits >= 0 ? p->max_splits : (int64_t)totals->splits);
    splits = ac_min64(splits, AC_LIST_MAX_TILES);
    splits = ac_min64(splits, (int64_t)p->max_items - tiles + 1);
    splits = ac_min64(splits, 1 + ac_max64(p->max_entries / 2, (int64_t)p->max_entries - tiles));
    return (int32_t)ac_max64(splits, 1);
}

/* Blocks of a piece, where each of `tiles` lists of at most `longest` blocks gets as many of the workers as any other:
 * whole tiles of keys. 0: there are not enough, or no blocks. */
AC_INLINE uint32_t ac_even_share(const ac_mla_metadata_params_t *p, uint32_t longest, uint32_t tiles,
                                 uint32_t workers) {
    const int64_t block = (int64_t)p->page_size * p->granule;
    const uint32_t unit = block < AC_LIST_PIECE_KEYS ? AC_LIST_PIECE_KEYS / (uint32_t)block : 1;
    if (tiles == 0 || workers < tiles) return 0;
    const uint32_t each = workers / tiles, blocks = longest / each + (longest % each != 0);
    return (blocks + unit - 1) / unit * unit;
}

/* What a worker has where `tiles` lists of one length, of more than it, are dealt out whole. */
AC_INLINE uint64_t ac_whole_share(const ac_mla_metadata_params_t *p, uint32_t blocks, uint32_t tiles,
                                  uint32_t workers) {
    const uint64_t each = tiles / workers + (tiles % workers != 0);
    return each * blocks + (each - 1) * (uint32_t)p->overhead;
}

AC_INLINE ac_budget_t ac_budget_of(const ac_mla_metadata_params_t *p, const ac_list_totals_t *totals,
                                   int32_t block_limit) {
    ac_budget_t budget = {ac_planned_tiles(p, totals), block_limit, 1, 0};
    const uint32_t most = AC_LIST_MAX_TILES * AC_FIXED_SPLITS, pieces = totals->pieces < most ? totals->pieces : most;
    const uint32_t items = p->deterministic ? pieces : (uint32_t)budget.tiles;
    const uint32_t workers = (uint32_t)(p->deterministic ? p->num_workers : ac_num_splits(p, totals, budget.tiles));
    const uint32_t total = totals->blocks + items * (uint32_t)p->overhead; /* below 2^30 */
    budget.share = (int32_t)(total / workers + (total % workers != 0));
    if (p->max_splits < 0 && !p->deterministic) {
        const uint32_t even = ac_even_share(p, totals->longest, items, workers), share = (uint32_t)budget.share;
        if (even > 0 && even < share) budget.share = (int32_t)even;
        if (items > workers && (uint64_t)totals->longest * items == totals->blocks) {
            const uint64_t whole = ac_whole_share(p, totals->longest, items, workers);
            if (whole > share && whole <= share + share / AC_LIST_WHOLE_PART) budget.share = (int32_t)whole;
        }
    }
    if (budget.share == 0) budget.share = 1; /* no tiles */
    budget.are_alike = p->tail_keys <= 0 && totals->tiles == items &&
                       (uint64_t)totals->longest * items == totals->blocks;
    return budget;
}

#endif
