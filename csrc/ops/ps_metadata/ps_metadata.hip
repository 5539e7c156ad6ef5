/* Work lists of prefill planned on a GPU by one workgroup: 256 requests at a time, 256 of their tiles at a time, one
 * for each thread. The tiles are walked four times: for the sum of their units, for the workers' first pieces, for the
 * items, and in the order of their rows for the groups. All stores are bounded, since lengths may change between two
 * reads. */
#include "../../gpu/scan.h"

#include "local.h"
#include "schedule.h"

#define AC_FAMILY_ROWS "ps_metadata/kernels.inc"
#include "../local_bytes.inc"

constexpr int THREADS = AC_PS_THREADS;
constexpr uint64_t MOST = UINT64_C(1) << 62; /* sums stop here */

/* What the threads know of a chunk of requests and of a chunk of their tiles. */
struct shared_t {
    uint64_t sums[3][2][SCAN_MAX_WAVES]; /* of the waves, for three scans of up to two numbers */
    ac_ps_pieces_t pieces[THREADS];      /* of the tiles */
    ac_ps_request_t requests[THREADS];
    ac_ps_tile_t tiles[THREADS];
    uint32_t tiles_before[THREADS]; /* of the requests of the chunk */
    int32_t owners[THREADS];        /* of a tile: its request in the chunk */
    uint32_t pieces_before[THREADS];
    int32_t partials[THREADS];     /* of a tile: its first, or -1 */
    int32_t last_workers[THREADS]; /* who has its last piece */
};
CHECK_LOCAL_BYTES("ps_metadata", (int)sizeof(shared_t));

/* A thread's tile of a chunk. */
struct mine_t {
    ac_ps_request_t request;
    int32_t visit;  /* tiles of the request before it */
    uint64_t place; /* tiles of all requests before those of this one */
    int count;      /* of the tiles of the chunk */
    bool active;    /* there is one */
};

struct planner_t {
    const ac_ps_metadata_params_t &p;
    shared_t &s;
    ac_ps_shares_t shares;
    uint64_t units, pieces, split, whole; /* so far */

    /* s.owners of the tiles [from, from + count) of the requests at hand: each thread those of its request. */
    GPU_MEMBER void find_owners(int requests, uint32_t from, int count) const {
        const uint32_t mine = s.tiles_before[gpu_thread()], end = from + (uint32_t)count;
        const uint32_t tiles = gpu_thread() < requests ? (uint32_t)s.requests[gpu_thread()].tiles : 0;
        GPU_NO_UNROLL for (uint32_t n = mine > from ? mine : from; n < end && n < mine + tiles; n++)
            s.owners[n - from] = gpu_thread();
    }

    /* work(tile) in every thread for every chunk of tiles. */
    template <class work_f> GPU_MEMBER void walk(work_f work) {
        const int self = gpu_thread();
        uint64_t place = 0;
        GPU_NO_UNROLL for (int32_t first = 0; first < p.num_requests; first += THREADS) {
            const int requests = (int)ac_min64((int64_t)p.num_requests - first, THREADS);
            ac_ps_request_t request = {0, 0, 0, 0, 0, 0, 0};
            if (self < requests) request = ac_ps_request(&p, first + self, INT32_MAX);
            uint64_t before[1], all[1];
            const uint64_t x[1] = {(uint64_t)request.tiles}, left = (uint64_t)p.max_tiles - place;
            gpu_barrier(); /* those before are done */
            scan<THREADS>(x, left, s.sums[0], before, all);
            request.tiles = (int32_t)ac_min64(request.tiles, (int64_t)(left - before[0]));
            s.requests[self] = request;
            s.tiles_before[self] = (uint32_t)before[0];
            GPU_NO_UNROLL for (uint32_t from = 0; from < all[0]; from += THREADS) {
                const int count = all[0] - from < THREADS ? (int)(all[0] - from) : THREADS;
                gpu_barrier();
                find_owners(requests, from, count);
                gpu_barrier();
                const int owner = self < count ? s.owners[self] : 0;
                const uint32_t tiles = s.tiles_before[owner];
                const mine_t mine = {s.requests[owner], (int32_t)(from + (uint32_t)self - tiles), place + tiles, count,
                                     self < count};
                work(mine);
            }
            place += all[0];
        }
    }

    GPU_MEMBER ac_ps_tile_t tile_of(const mine_t &mine) const {
        return ac_ps_tile(&p, &mine.request, ac_ps_visited(&mine.request, mine.visit));
    }

    GPU_MEMBER void find_shares() {
        uint64_t mine[2] = {0, 0}, before[2], all[2];
        walk([&](const mine_t &tile) {
            if (!tile.active) return;
            mine[0] += (uint64_t)tile_of(tile).units;
            mine[1]++;
        });
        gpu_barrier();
        scan<THREADS>(mine, MOST, s.sums[1], before, all);
        shares = ac_ps_shares(&p, (int64_t)all[0], (int64_t)all[1]);
    }

    /* s.tiles, s.pieces and s.pieces_before of a chunk; returns its pieces, and of those of split tiles the number
     * before this thread's tile, and in all. */
    GPU_MEMBER uint32_t cut(const mine_t &mine, uint64_t *split_before, uint64_t *split_all) {
        const ac_ps_tile_t none = {0, 0, 0}, tile = mine.active ? tile_of(mine) : none;
        uint64_t before[1], all[1], pieces_before[2], pieces_all[2];
        const uint64_t x[1] = {mine.active ? (uint64_t)ac_ps_counted(&shares, &tile) : 0};
        scan<THREADS>(x, MOST, s.sums[1], before, all);
        ac_ps_pieces_t cuts = {0, 0, 0};
        if (mine.active) cuts = ac_ps_pieces(&shares, (int64_t)(units + before[0]), (int64_t)x[0]);
        const uint64_t y[2] = {(uint64_t)cuts.count, cuts.count > 1 ? (uint64_t)cuts.count : 0};
        scan<THREADS>(y, MOST, s.sums[2], pieces_before, pieces_all);
        s.tiles[gpu_thread()] = tile;
        s.pieces[gpu_thread()] = cuts;
        s.pieces_before[gpu_thread()] = (uint32_t)pieces_before[0];
        s.last_workers[gpu_thread()] = cuts.worker + cuts.count - 1;
        units += all[0];
        *split_before = pieces_before[1];
        *split_all = pieces_all[1];
        return (uint32_t)pieces_all[0];
    }

    GPU_MEMBER void start() { units = pieces = 0; }

    /* work_indptr[w] of the first cluster: the first piece of worker w. */
    GPU_MEMBER void find_workers() {
        int32_t last_worker = -1;
        start();
        walk([&](const mine_t &mine) {
            uint64_t before, all;
            const int self = gpu_thread();
            const uint32_t count = cut(mine, &before, &all);
            gpu_barrier();
            const int32_t previous = self > 0 ? s.last_workers[self - 1] : last_worker;
            const ac_ps_pieces_t cuts = s.pieces[self];
            const int64_t piece = (int64_t)(pieces + s.pieces_before[self]);
            if (mine.active) {
                GPU_NO_UNROLL for (int32_t w = previous + 1; w <= cuts.worker; w++) p.work_indptr[w] = (int32_t)piece;
                GPU_NO_UNROLL for (int32_t i = 1; i < cuts.count; i++)
                    p.work_indptr[cuts.worker + i] = (int32_t)(piece + i);
            }
            last_worker = s.last_workers[mine.count - 1];
            pieces += count;
            split += all;
        });
        GPU_NO_UNROLL for (int64_t w = last_worker + 1 + gpu_thread(); w <= p.workers; w += THREADS)
            p.work_indptr[w] = (int32_t)pieces;
    }

    /* Item `i` of a chunk whose tiles have `count` pieces: the pieces of all heads of all clusters. */
    GPU_MEMBER void write_item(uint32_t count, int tiles, uint64_t i, uint64_t every) const {
        const uint32_t piece = (uint32_t)(i % count);
        const int32_t head = (int32_t)(i / count);
        const int t = find_last(s.pieces_before, tiles, piece);
        const ac_ps_pieces_t cuts = s.pieces[t];
        const ac_ps_tile_t tile = s.tiles[t];
        const ac_ps_request_t request = s.requests[s.owners[t]];
        const int32_t number = (int32_t)(piece - s.pieces_before[t]), worker = cuts.worker + number;
        const int64_t first = gpu_entry(p.work_indptr + worker), end = gpu_entry(p.work_indptr + worker + 1);
        const int64_t cluster = head / p.heads;
        const int64_t at = (cluster * (int64_t)every + first) * p.heads + head % p.heads * (end - first) +
                           ((int64_t)pieces + piece - first);
        struct item_t {
            int32_t fields[AC_WORK_FIELDS];
        } item;
        if (at < 0 || at >= p.max_items) return;
        const int32_t partial = s.partials[t] < 0 ? -1 : (s.partials[t] + number) * p.tile_rows;
        ac_ps_fill_item(&p, &shares, &request, &tile, &cuts, number, partial, item.fields);
        item.fields[AC_WORK_HEADS] = ac_ps_heads(&p, head);
        gpu_store(p.work_info + at * AC_WORK_FIELDS, item);
    }

    /* The items; final_map[tile], in the order of the rows, becomes the tile's first partial and the number of them. */
    GPU_MEMBER void write_items() {
        const uint64_t every = pieces, heads = (uint64_t)p.heads * (uint64_t)p.clusters;
        uint64_t singles = split;
        split = 0;
        start();
        walk([&](const mine_t &mine) {
            uint64_t before, all;
            const int self = gpu_thread();
            const uint32_t count = cut(mine, &before, &all);
            const ac_ps_pieces_t cuts = s.pieces[self];
            const int has_partials = mine.active && ac_ps_has_partials(&p, cuts.count);
            /* Tiles of one piece before this one: all pieces but those of split tiles. */
            const uint64_t single = singles + s.pieces_before[self] - before;
            const int32_t partial = (int32_t)(cuts.count > 1 ? split + before : single);
            s.partials[self] = has_partials ? partial : -1;
            if (mine.active) {
                const int64_t note = (int64_t)mine.place + ac_ps_visited(&mine.request, mine.visit);
                p.final_map[2 * note] = partial;
                p.final_map[2 * note + 1] = has_partials ? cuts.count : 0;
            }
            gpu_barrier();
            GPU_NO_UNROLL for (uint64_t i = (uint64_t)self; i < count * heads; i += THREADS)
                write_item(count, mine.count, i, every);
            pieces += count;
            split += all;
            singles += count - all;
        });
    }

    /* The groups, one per tile that has partials. A group stands no later than its tile's note. */
    GPU_MEMBER void write_groups(int64_t *out_groups, int64_t *out_entries) {
        uint64_t groups = 0, entries = 0;
        walk([&](const mine_t &mine) {
            const int64_t note = (int64_t)mine.place + mine.visit;
            const int32_t partial = mine.active ? gpu_entry(p.final_map + 2 * note) : 0;
            const int32_t count = mine.active ? gpu_entry(p.final_map + 2 * note + 1) : 0;
            const uint64_t x[2] = {count > 0, (uint64_t)(count > 0 ? count : 0)};
            uint64_t before[2], all[2];
            scan<THREADS>(x, MOST, s.sums[1], before, all); /* the notes of the chunk are read */
            const int64_t group = (int64_t)(groups + before[0]);
            groups += all[0];
            const int64_t entry = (int64_t)(entries + before[1]);
            entries += all[1];
            if (count <= 0 || group + 1 >= p.reduce_entries) return;
            const ac_ps_tile_t tile = ac_ps_tile(&p, &mine.request, mine.visit);
            p.reduce_indptr[group] = (int32_t)ac_min64(entry, p.max_entries);
            p.final_map[2 * group] = mine.request.first_row + tile.begin;
            p.final_map[2 * group + 1] = mine.request.first_row + tile.end;
            GPU_NO_UNROLL for (int32_t i = 0; i < count && entry + i < p.max_entries; i++)
                p.partial_map[entry + i] = (partial + i) * p.tile_rows;
        });
        *out_groups = (int64_t)groups;
        *out_entries = (int64_t)entries;
    }

    /* From pieces of the first cluster to items of all. */
    GPU_MEMBER void finish_workers() const {
        const int64_t all = (int64_t)pieces * p.heads;
        GPU_NO_UNROLL for (int32_t w = gpu_thread(); w < p.workers; w += THREADS) {
            const int64_t first = (int64_t)gpu_entry(p.work_indptr + w) * p.heads;
            GPU_NO_UNROLL for (int32_t cluster = 0; cluster < p.clusters; cluster++)
                p.work_indptr[(int64_t)cluster * p.workers + w] = (int32_t)ac_min64(cluster * all + first, p.max_items);
        }
        if (gpu_thread() == 0)
            p.work_indptr[(int64_t)p.clusters * p.workers] = (int32_t)ac_min64(all * p.clusters, p.max_items);
    }

    GPU_MEMBER void clear(int32_t *list, int64_t from, int64_t to, int32_t value) const {
        GPU_NO_UNROLL for (int64_t i = from + gpu_thread(); i < to; i += THREADS) list[i] = value;
    }
};

GPU_KERNEL(AC_PS_THREADS) ps_metadata(GPU_PARAMS(ac_ps_metadata_params_t) p) {
    planner_t planner = {p, *(shared_t *)gpu_shared, {0, 0, 0, 0}, 0, 0, 0, 0};
    int64_t groups, entries;
    planner.find_shares();
    planner.find_workers();
    gpu_global_barrier();
    planner.write_items();
    gpu_global_barrier();
    planner.write_groups(&groups, &entries);
    planner.finish_workers();
    const int64_t items = (int64_t)planner.pieces * p.heads * p.clusters;
    planner.clear(p.reduce_indptr, groups, p.reduce_entries, (int32_t)ac_min64(entries, p.max_entries));
    planner.clear(p.work_info, items * AC_WORK_FIELDS, p.max_items * AC_WORK_FIELDS, 0);
    planner.clear(p.final_map, 2 * groups, 2 * p.final_rows, 0);
    planner.clear(p.partial_map, entries, p.max_entries, 0);
}
