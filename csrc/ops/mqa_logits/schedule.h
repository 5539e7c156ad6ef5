/* Who does what on a GPU, over keys in pages. A unit is a group's block of rows, a tile a run of TILE_KEYS keys of a
 * unit. All tiles of all units stand in one row, of which every worker gets its share, a run (sm_90a deals the tiles of
 * a single unit out in turns); no share has more than one tile above another, whatever the lengths are. Every workgroup
 * finds its share by itself: one pass over the lengths, and one more where there are more units than threads. The
 * columns that are not seen are shared out likewise, in runs. */
#ifndef AC_OPS_MQA_LOGITS_SCHEDULE_H
#define AC_OPS_MQA_LOGITS_SCHEDULE_H

#include "../../gpu/gpu.h"
#include "rows.h"
#include "scan.h"

struct mqa_shared_t {
    uint32_t sums[8]; /* of the waves */
    int32_t unit, tile;
};

/* The threads that work together: all of a workgroup. */
template <int COUNT> struct mqa_everyone_t {
    static constexpr int THREADS = COUNT;
    GPU_MEMBER static int thread() { return gpu_thread(); }
    GPU_MEMBER static void barrier() { gpu_barrier(); }
};

/* Where a worker is. */
struct mqa_cursor_t {
    int32_t unit, tile, length; /* length: columns of the unit */
};

template <int TILE_KEYS, class team_t> struct mqa_schedule_t {
    static constexpr int THREADS = team_t::THREADS;
    const ac_mqa_logits_params_t &p;
    mqa_shared_t &s;

    GPU_MEMBER int32_t num_units() const { return (int32_t)p.num_groups * p.row_blocks; }
    GPU_MEMBER int32_t group_of(int32_t unit) const { return p.row_blocks == 1 ? unit : unit / p.row_blocks; }

    /* Columns of a unit: those of its longest row. */
    GPU_MEMBER int32_t length_of(int32_t unit) const {
        const int32_t group = group_of(unit);
        int64_t length = ac_mqa_length(&p, group, 0);
        for (int32_t row = 1; p.length_per_row && row < p.group_rows; row++)
            length = ac_max64(length, ac_mqa_length(&p, group, row));
        return (int32_t)ac_clamp64(length, 0, p.columns);
    }
    GPU_MEMBER static int32_t tiles_in(int32_t length) {
        return (int32_t)((length + (int64_t)TILE_KEYS - 1) / TILE_KEYS);
    }
    GPU_MEMBER int32_t tiles_of(int32_t unit) const { return tiles_in(length_of(unit)); }

    GPU_MEMBER uint32_t tiles_of_all() const {
        uint32_t mine = 0, all;
        GPU_NO_UNROLL for (int32_t unit = team_t::thread(); unit < num_units(); unit += THREADS) mine += tiles_of(unit);
        mqa_scan<team_t>(mine, s.sums, all);
        return all;
    }

    /* The tiles of a worker; all shares are alike but for one tile. */
    GPU_MEMBER uint32_t share_of(uint32_t total, uint32_t worker, uint32_t &first) const {
        const uint32_t workers = (uint32_t)p.num_workers, share = total / workers, more = total - share * workers;
        first = worker * share + (worker < more ? worker : more);
        return share + (worker < more);
    }

    /* The first tile of the worker; returns how many it has. */
    GPU_MEMBER int32_t find(uint32_t worker, mqa_cursor_t &out) const {
        const int32_t units = num_units();
        uint32_t all, mine = team_t::thread() < units ? (uint32_t)tiles_of(team_t::thread()) : 0;
        uint32_t upto = mqa_scan<team_t>(mine, s.sums, all), before = 0;
        const uint32_t total = units > THREADS ? tiles_of_all() : all;
        uint32_t first;
        const uint32_t count = share_of(total, worker, first);
        if (team_t::thread() == 0) s.unit = units, s.tile = 0; /* lengths may change between two reads */
        team_t::barrier();
        GPU_NO_UNROLL for (int32_t chunk = 0;; chunk += THREADS) {
            if (chunk) {
                const int32_t unit = chunk + team_t::thread();
                mine = unit < units ? (uint32_t)tiles_of(unit) : 0;
                before += all;
                upto = mqa_scan<team_t>(mine, s.sums, all);
            }
            if (first < before + upto && first >= before + upto - mine) {
                s.unit = chunk + team_t::thread();
                s.tile = (int32_t)(first - (before + upto - mine));
            }
            if (first < before + all || chunk + THREADS >= units) break;
        }
        team_t::barrier();
        out.unit = s.unit, out.tile = s.tile;
        if (out.unit >= units) return 0;
        out.length = length_of(out.unit);
        return (int32_t)count;
    }

    /* The next tile; its unit is num_units() where there is none. */
    GPU_MEMBER void advance(mqa_cursor_t &at) const {
        if (++at.tile < tiles_in(at.length)) return;
        at.tile = 0;
        do {
            at.unit++;
            at.length = at.unit < num_units() ? length_of(at.unit) : 1;
        } while (at.length == 0);
    }

    /* -inf to the worker's part of what is not seen; by all threads of the workgroup, which are COUNT. */
    template <int COUNT> GPU_MEMBER void clean(int64_t worker) const {
        constexpr int32_t RUN = 4 * COUNT; /* columns */
        const int64_t runs = ac_ceil_div64(p.columns, RUN), all = runs * p.num_rows;
        GPU_NO_UNROLL for (int64_t i = worker; i < all; i += p.num_workers) {
            const int64_t row = i / runs, run = i - row * runs, group = row / p.group_rows;
            const ac_mqa_window_t window = ac_mqa_window(&p, group, row - group * p.group_rows);
            const int64_t end = ac_min64((run + 1) * RUN, p.columns);
            float *out = (float *)(p.logits + row * p.logits_stride);
            GPU_NO_UNROLL for (int64_t j = ac_max64(run * RUN, window.end) + gpu_thread(); j < end; j += COUNT)
                gpu_store<float>(out + j, GPU_MINUS_INFINITY);
        }
    }
};

#endif
