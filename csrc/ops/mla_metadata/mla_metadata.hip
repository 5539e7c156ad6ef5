/* Work lists planned on a GPU by one workgroup: 256 requests at a time, 256 of their tiles at a time. Everything about
 * them is computed in parallel but how much of a worker's share is used where a tile begins, which one thread finds
 * tile after tile: its step has no division, and no memory access that it would have to wait for. Then every thread
 * writes items. What does not fit was left out by the sums; the stores are bounded as well, since lengths may change
 * between two reads. */
#include "../../gpu/scan.h"

#include "local.h"
#include "pieces.h"

#define AC_FAMILY_ROWS "mla_metadata/kernels.inc"
#include "../local_bytes.inc"

constexpr int THREADS = AC_LISTS_THREADS;
constexpr uint32_t MOST = 1u << 30; /* sums stop here */

/* What the threads know of a chunk of requests and of a chunk of their tiles. */
struct shared_t {
    ac_link_t links[THREADS];
    ac_cursor_t begins[THREADS];
    ac_listed_request_t requests[THREADS];
    uint32_t tiles_before[THREADS]; /* of the requests of the chunk */
    int32_t owners[THREADS];        /* of a tile: its request in the chunk */
    int32_t tiles[THREADS];         /* its number in the request */
    int32_t pieces[THREADS];
    int32_t last_workers[THREADS]; /* who has its last piece */
    uint32_t cuts_before[THREADS]; /* of the tiles of the chunk; the next two count from the first chunk on */
    uint32_t entries_before[THREADS], rows_before[THREADS];
    uint32_t sums[4][4][SCAN_MAX_WAVES]; /* of the waves, for four scans of up to four numbers */
};
CHECK_LOCAL_BYTES("mla_metadata", (int)sizeof(shared_t));

GPU_INLINE uint32_t add(uint32_t x, uint32_t y, uint32_t limit) { return scan_add(x, y, limit); }

struct planner_t {
    const ac_mla_metadata_params_t &p;
    shared_t &s;
    ac_budget_t budget;
    ac_cursor_t cursor;                   /* `used`: of thread 0 */
    uint32_t tiles, items, entries, rows; /* so far */
    int32_t last_worker;                  /* of the items so far */
    int num_requests;                     /* at hand */
    uint32_t tiles_before;                /* this thread's request */

    /* Where there is a thread for every request, they stay in s.requests, and `tiles_before` is right. */
    GPU_MEMBER ac_list_totals_t totals(int32_t block_limit, uint32_t (&sums)[4][SCAN_MAX_WAVES]) {
        ac_list_totals_t mine = {0, 0, 0, 0, 0};
        GPU_NO_UNROLL for (int32_t number = gpu_thread(); number < p.num_requests; number += THREADS) {
            const ac_listed_request_t request = ac_listed_request(&p, number);
            ac_add_request(&p, &request, block_limit, &mine);
            s.requests[gpu_thread()] = request;
        }
        uint32_t before[4], all[4];
        const uint32_t x[4] = {mine.tiles, mine.blocks, mine.splits, p.deterministic ? mine.pieces : mine.longest};
        scan<THREADS>(x, AC_LIST_MAX_BLOCKS + 1, sums, before, all, !p.deterministic);
        tiles_before = before[0];
        const ac_list_totals_t out = {all[0], all[1], all[2], all[3], all[3]};
        return out;
    }

    GPU_MEMBER void find_budget() {
        ac_list_totals_t sum = totals(INT32_MAX, s.sums[0]);
        const int32_t block_limit = ac_block_limit(&p, &sum);
        if (block_limit < INT32_MAX) sum = totals(block_limit, s.sums[1]);
        budget = ac_budget_of(&p, &sum, block_limit);
    }

    /* What is used before each tile, to s.begins. The next links are loaded before those at hand are used: nothing but
     * the sum so far has to be waited for. What follows the last tile changes nothing. */
    GPU_MEMBER void walk(int count) {
        constexpr int AT_ONCE = 4;
        ac_link_t links[AT_ONCE], next[AT_ONCE];
        if (gpu_thread() != 0) return;
        GPU_UNROLL for (int k = 0; k < AT_ONCE; k++) next[k] = s.links[k];
        GPU_NO_UNROLL for (int i = 0; i < count; i += AT_ONCE) {
            GPU_UNROLL for (int k = 0; k < AT_ONCE; k++) links[k] = next[k];
            GPU_UNROLL for (int k = 0; k < AT_ONCE; k++) next[k] = s.links[(i + AT_ONCE + k) % THREADS];
            GPU_UNROLL for (int k = 0; k < AT_ONCE; k++) {
                s.begins[i + k].used = cursor.used;
                cursor.used = ac_used_after(&links[k], cursor.used);
            }
        }
    }

    /* deterministic: what the pieces before this thread's tile cost. */
    GPU_MEMBER int32_t deal(uint32_t cost) {
        uint32_t before[1], all[1];
        const uint32_t x[1] = {cost};
        scan<THREADS>(x, MOST, s.sums[1], before, all);
        const int32_t begin = cursor.worker + (int32_t)before[0];
        cursor.worker += (int32_t)all[0];
        return begin;
    }

    GPU_MEMBER void write_tile(uint32_t number, uint32_t first_entry, const ac_listed_request_t &request,
                               int32_t tile) const {
        const int64_t row = request.first_row + (int64_t)tile * request.tiles.rows;
        p.reduce_indptr[number] = (int32_t)first_entry;
        p.final_map[2 * (int64_t)number] = (int32_t)row;
        p.final_map[2 * (int64_t)number + 1] =
            (int32_t)ac_min64(row + request.tiles.rows, (int64_t)request.first_row + request.num_rows);
    }

    /* A piece of tile `t` of those at hand. */
    GPU_MEMBER void write_piece(int32_t first_request, int t, int32_t piece) const {
        const int owner = s.owners[t];
        const int32_t pieces = s.pieces[t];
        const ac_listed_request_t request = s.requests[owner];
        const ac_cursor_t begin = s.begins[t];
        const int64_t at = (int64_t)items + s.cuts_before[t] + t + piece;
        const uint32_t entry = s.entries_before[t] + (uint32_t)piece;
        const int32_t partial_row = (int32_t)s.rows_before[t] + piece * request.tiles.rows;
        if (at >= p.max_items) return;
        ac_write_item(&p, &budget, first_request + owner, &request, s.tiles[t], begin, piece, pieces,
                      pieces > 1 ? partial_row : -1, p.work_info + at * AC_WORK_FIELDS);
        if (pieces > 1 && entry < (uint32_t)p.max_entries) p.partial_map[entry] = partial_row;
        const int64_t worker = ac_piece_worker(&p, &budget, &request, begin, piece);
        int64_t before = t > 0 ? s.last_workers[t - 1] : last_worker;
        if (piece > 0) before = ac_piece_worker(&p, &budget, &request, begin, piece - 1);
        GPU_NO_UNROLL for (int64_t w = ac_max64(before + 1, 0); w <= worker && w <= p.num_workers; w++)
            p.work_indptr[w] = (int32_t)at;
    }

    /* s.owners of the tiles [from, from + count) of the requests at hand: each thread those of its request. */
    GPU_MEMBER void find_owners(uint32_t from, int count) const {
        const uint32_t mine = s.tiles_before[gpu_thread()], end = from + (uint32_t)count;
        const uint32_t tiles = gpu_thread() < num_requests ? (uint32_t)s.requests[gpu_thread()].tiles.count : 0;
        GPU_NO_UNROLL for (uint32_t n = mine > from ? mine : from; n < end && n < mine + tiles; n++)
            s.owners[n - from] = gpu_thread();
    }

    /* Tiles [from, from + count) of the requests at hand. */
    GPU_MEMBER void plan_tiles(int32_t first_request, uint32_t from, int count) {
        const int self = gpu_thread();
        const bool active = self < count;
        if (from > 0) gpu_barrier(); /* the tiles before are written */
        find_owners(from, count);
        gpu_barrier();
        const int owner = active ? s.owners[self] : 0;
        const ac_listed_request_t request = s.requests[owner];
        const ac_step_t none = {{INT32_MAX, INT32_MAX, 0, 0}, 0};
        const ac_step_t step = active ? ac_step_of(&p, &budget, request.pages) : none;
        const ac_link_t &link = step.link;
        /* Lists that are alike need no walk, if each begins with a new worker. */
        const bool alike = budget.are_alike && link.room + link.rest >= link.full;
        ac_cursor_t begin = {0, 0};
        s.links[self] = link;
        s.tiles[self] = (int32_t)(from + (uint32_t)self - s.tiles_before[owner]);
        gpu_barrier();
        if (p.deterministic) {
            const int32_t all = ac_fixed_pieces(&request);
            begin.worker = deal(active ? (uint32_t)ac_fixed_cost(&p, &budget, &request, all) : 0);
        } else if (alike) begin.worker = (int32_t)(tiles + from + (uint32_t)self) * (step.workers + 1);
        else walk(count);
        gpu_barrier();
        const bool walked = active && !p.deterministic && !alike;
        const int32_t used = s.begins[self].used;
        if (walked) begin.used = ac_used_before(&link, used);
        const int32_t pieces = active ? ac_num_pieces(&p, &request, &step, begin.used) : 1;
        const uint32_t split = pieces > 1 ? (uint32_t)pieces : 0, is_full = walked && used >= link.full;
        const uint32_t x[4] = {(uint32_t)pieces - 1, split, split * (uint32_t)request.tiles.rows,
                               walked ? (uint32_t)pieces - 1 + is_full : 0};
        uint32_t before[4], all[4];
        scan<THREADS>(x, MOST, s.sums[2], before, all);
        if (walked) begin.worker = cursor.worker + (int32_t)(before[3] + is_full);
        cursor.worker += (int32_t)all[3];
        s.begins[self] = begin;
        s.pieces[self] = pieces;
        s.last_workers[self] = ac_piece_worker(&p, &budget, &request, begin, pieces - 1);
        s.cuts_before[self] = before[0];
        s.entries_before[self] = entries + before[1];
        s.rows_before[self] = rows + before[2];
        if (active) write_tile(tiles + from + (uint32_t)self, entries + before[1], request, s.tiles[self]);
        gpu_barrier();
        /* First pieces by the threads of the tiles, the others by all threads, the idle ones first. */
        if (active) write_piece(first_request, self, 0);
        const uint32_t cuts = (uint32_t)ac_min64(all[0], p.max_items);
        GPU_NO_UNROLL for (uint32_t i = (uint32_t)(THREADS - 1 - self); i < cuts; i += THREADS) {
            const int t = find_last(s.cuts_before, count, i);
            write_piece(first_request, t, (int32_t)(i - s.cuts_before[t]) + 1);
        }
        items = add(items, all[0] + (uint32_t)count, MOST);
        entries = add(entries, all[1], MOST);
        rows = add(rows, all[2], MOST);
        last_worker = s.last_workers[count - 1];
    }

    /* The requests from this one on that threads have. */
    GPU_MEMBER void plan_requests(int32_t first) {
        const uint32_t limit = (uint32_t)budget.tiles - tiles;
        uint32_t before[1] = {add(tiles_before, 0, limit)}, all[1] = {limit};
        num_requests = (int)ac_min64((int64_t)p.num_requests - first, THREADS);
        if (p.num_requests > THREADS) {
            ac_listed_request_t request = {0, 0, {0, 0}, 0, 0, 0, 0};
            if (gpu_thread() < num_requests) request = ac_listed_request(&p, first + gpu_thread());
            gpu_barrier(); /* those before are done */
            s.requests[gpu_thread()] = request;
            const uint32_t x[1] = {(uint32_t)request.tiles.count};
            scan<THREADS>(x, limit, s.sums[3], before, all);
        }
        s.tiles_before[gpu_thread()] = before[0];
        GPU_NO_UNROLL for (uint32_t from = 0; from < all[0]; from += THREADS)
            plan_tiles(first, from, (int)(all[0] - from < THREADS ? all[0] - from : THREADS));
        tiles += all[0];
    }

    GPU_MEMBER void finish() const {
        const int32_t end = (int32_t)ac_min64(items, p.max_items);
        for (int64_t w = ac_max64(last_worker, -1) + 1 + gpu_thread(); w <= p.num_workers; w += THREADS)
            p.work_indptr[w] = end;
        for (int64_t i = (int64_t)tiles + gpu_thread(); i < p.reduce_entries; i += THREADS)
            p.reduce_indptr[i] = (int32_t)entries;
        if (gpu_thread() != 0) return;
        p.tag[0] = AC_WORK_TAG;
        p.tag[1] = p.deterministic ? AC_WORK_TAG_DETERMINISTIC : 0;
    }
};

GPU_KERNEL(AC_LISTS_THREADS) mla_metadata(GPU_PARAMS(ac_mla_metadata_params_t) p) {
    planner_t planner = {p, *(shared_t *)gpu_shared, {0, 0, 1, 0}, {0, 0}, 0, 0, 0, 0, -1, 0, 0};
    planner.find_budget();
    GPU_NO_UNROLL for (int32_t first = 0; first < p.num_requests; first += THREADS) planner.plan_requests(first);
    planner.finish();
}
