/* Top-k of a row by a cluster of workgroups, for rows so few that most units would idle. Every workgroup keeps its run
 * of the row in its shared memory and counts digits of 8 bits; it sends its counts to all workgroups of the cluster, so
 * that each finds the digit of the k-th best by itself, and how many of the selected columns stand before its own.
 * Whatever changes in global memory meanwhile, the workgroups agree: all that they decide follows from the counts. */
#ifndef AC_OPS_TOP_K_SM90_CLUSTER_H
#define AC_OPS_TOP_K_SM90_CLUSTER_H

#include "../../../gpu/sm90/cluster.h"
#include "../gpu_local.h"
#include "../kernel_params.h"
#include "../ranks.h"

template <int GROUPS> struct top_k_cluster_t {
    static constexpr int THREADS = 1024, WAVES = THREADS / 32;
    static constexpr int BITS = 8, BINS = 1 << BITS, PASSES = 32 / BITS, FINDERS = BINS / 32; /* waves */
    static_assert(PASSES * BINS == THREADS && GROUPS <= WAVES, "a thread clears a count, a wave sends to a workgroup");

    struct found_t {
        uint32_t digit, equal, wanted; /* of the k-th best; columns with that digit, and how many are still wanted */
        uint32_t above_before, equal_before; /* columns of the workgroups before: with a higher digit, with the same */
        uint32_t all;                        /* columns of the row */
    };
    struct shared_t {
        uint4 inbox[PASSES][GROUPS][BINS / 8]; /* counts of every workgroup, 16 bits each */
        uint32_t counts[PASSES][BINS];
        uint64_t arrived[PASSES]; /* barriers, each used once */
        uint32_t totals[FINDERS], before[FINDERS], sums[WAVES];
        found_t found;
        uint32_t ranks[AC_TOP_K_CLUSTER_EACH][THREADS]; /* line i: of the waves' i-th groups of 32 columns */
    };

    const ac_top_k_params_t &p;
    shared_t &s;

    static GPU_MEMBER int wave() { return gpu_thread() / 32; }

    /* The first pass finds logits, and leaves ranks. */
    GPU_MEMBER void count(int pass, uint32_t prefix, int mine) const {
        const int shift = 32 - BITS * (pass + 1);
        GPU_NO_UNROLL for (int i = 0; i < mine; i++) {
            uint32_t &rank = s.ranks[i][gpu_thread()];
            if (pass == 0) rank = rank_of(rank);
            const uint32_t digits = rank >> shift;
            if (digits >> BITS == prefix) atomicAdd(&s.counts[pass][digits & (BINS - 1)], 1);
        }
        gpu_barrier();
    }

    /* A wave to each workgroup. */
    GPU_MEMBER void send(int pass) const {
        if (wave() >= GROUPS) return;
        const uint4 *from = (const uint4 *)s.counts[pass] + 2 * gpu_lane();
        const uint4 low = from[0], high = from[1];
        const uint4 packed = {low.x | low.y << 16, low.z | low.w << 16, high.x | high.y << 16, high.z | high.w << 16};
        sm90_send16(sm90_address_in(sm90_shared_address(&s.inbox[pass][sm90_cluster_rank()][gpu_lane()]), wave()),
                    packed, sm90_address_in(sm90_shared_address(&s.arrived[pass]), wave()));
    }

    /* The digit of the wanted-th best, or of the last one: a thread per digit, the highest first. */
    GPU_MEMBER void find(int pass, uint32_t wanted) const {
        const int digit = BINS - 1 - gpu_thread(), own = (int)sm90_cluster_rank();
        uint32_t equal = 0, equal_before = 0, upto = 0, before = 0, all = 0;
        if (wave() < FINDERS) {
            sm90_cluster_barrier_wait(sm90_shared_address(&s.arrived[pass]), 0);
        GPU_UNROLL for (int g = 0; g < GROUPS; g++) {
                if (g == own) equal_before = equal;
                equal += ((const uint16_t *)s.inbox[pass][g])[digit];
            }
            upto = equal, before = equal_before;
            GPU_UNROLL for (int distance = 1; distance < 32; distance *= 2) {
                const uint32_t x = gpu_of_lane_below(upto, distance), y = gpu_of_lane_below(before, distance);
                if (gpu_lane() >= distance) upto += x, before += y;
            }
            if (gpu_lane() == 31) s.totals[wave()] = upto, s.before[wave()] = before;
        }
        gpu_barrier();
        if (wave() < FINDERS) {
            GPU_UNROLL for (int w = 0; w < FINDERS; w++) {
                if (w < wave()) upto += s.totals[w], before += s.before[w];
                all += s.totals[w];
            }
            if (wanted > all) wanted = all;
            if (upto - equal < wanted && wanted <= upto)
                s.found = {(uint32_t)digit, equal, wanted - (upto - equal), before - equal_before, equal_before, all};
        }
        gpu_barrier();
    }

    GPU_MEMBER void set_up() const {
        s.counts[0][gpu_thread()] = 0; /* all of them */
        if (gpu_thread() == 0) s.found = {};
        if (gpu_lane() == 0 && wave() < PASSES) sm90_barrier_init(sm90_shared_address(&s.arrived[wave()]), 1);
        sm90_cluster_arrive();
    }

    GPU_MEMBER void select(uint32_t row) const {
        const uint32_t own = sm90_cluster_rank();
        const float *logits = (const float *)(p.logits + row * p.logits_stride);
        const uint32_t line = (own * THREADS + gpu_thread()) * 32;
        if (line < p.columns) sm90_prefetch(logits + line);
        const ac_columns_t window = ac_top_k_window(&p, row);
        set_up();
        /* Every wave has a run of whole groups of 32 columns. */
        const uint32_t length = (uint32_t)(window.end - window.begin);
        const uint32_t groups = (length + GROUPS * THREADS - 1) / (GROUPS * THREADS);
        const uint32_t begin = (own * WAVES + wave()) * groups * 32, end = begin + groups * 32;
        const int columns = (int)(end < length ? end : length) - (int)begin; /* of the wave; below 0: none */
        const int mine = (columns - gpu_lane() + 31) / 32;
        const uint32_t first = (uint32_t)window.begin + begin + gpu_lane();
        GPU_NO_UNROLL for (int i = 0; i < mine; i++)
            sm90_copy4(sm90_shared_address(&s.ranks[i][gpu_thread()]), logits + first + i * 32, 4);
        sm90_copies_wait();
        sm90_cluster_wait();
        gpu_barrier();
        /* Counts that came before wait in the barrier. Where it is initialised racecheck would report a race. */
        if (gpu_lane() == 0 && wave() < PASSES)
            sm90_barrier_arrive_expect(sm90_shared_address(&s.arrived[wave()]), sizeof s.inbox[0]);
        uint32_t low = 0, wanted = (uint32_t)p.k, above_before = 0, all = 0;
        int pass = 0;
        GPU_NO_UNROLL do {
            count(pass, low, mine);
            send(pass);
            find(pass, wanted);
            low = low << BITS | s.found.digit;
            wanted = s.found.wanted;
            above_before += s.found.above_before;
            if (pass == 0) all = s.found.all;
        } while (++pass < PASSES && s.found.equal != wanted);
        const int shift = 32 - BITS * pass;
        low <<= shift;
        write(row, logits, first, columns, mine, low, low + ((1u << shift) - 1), above_before);
        int32_t *indices = (int32_t *)(p.indices + row * p.indices_stride);
        GPU_NO_UNROLL for (uint32_t at = all + own * THREADS + gpu_thread(); at < p.k; at += GROUPS * THREADS) {
            indices[at] = -1;
            if (p.values) ((float *)(p.values + row * p.values_stride))[at] = 0;
        }
    }

    /* The columns that rank above `high`, and as many of those within [low, high] as are wanted. */
    GPU_MEMBER void write(uint32_t row, const float *logits, uint32_t first, int columns, int mine, uint32_t low,
                          uint32_t high, uint32_t number) const {
        const uint32_t ties = s.found.wanted, below = (1u << gpu_lane()) - 1;
        const bool some = s.found.equal != ties; /* of the equal ones */
        const uint32_t least = !some ? low : high == ~0u ? high : high + 1; /* ~0 is no rank */
        uint32_t sums = 0, equal = s.found.equal_before; /* sums: chosen columns, and 2^16 for each equal one */
        GPU_NO_UNROLL for (int i = 0; i * 32 < columns; i++) {
            const uint32_t rank = s.ranks[i][gpu_thread()];
            sums += __popc(__ballot_sync(0xffffffffu, i < mine && rank >= least));
            if (some) sums += __popc(__ballot_sync(0xffffffffu, i < mine && rank - low <= high - low)) << 16;
        }
        if (gpu_lane() == 0) s.sums[wave()] = sums;
        gpu_barrier();
        uint32_t upto = s.sums[gpu_lane()];
        GPU_UNROLL for (int distance = 1; distance < 32; distance *= 2) {
            const uint32_t x = gpu_of_lane_below(upto, distance);
            if (gpu_lane() >= distance) upto += x;
        }
        upto = gpu_of_lane(upto, wave()) - sums;
        equal += upto >> 16;
        number += (upto & 0xffff) + (equal < ties ? equal : ties);
        int32_t *indices = (int32_t *)(p.indices + row * p.indices_stride);
        float *values = (float *)(p.values + row * p.values_stride);
        GPU_NO_UNROLL for (int i = 0; i * 32 < columns; i++) {
            const uint32_t rank = s.ranks[i][gpu_thread()];
            bool chosen = i < mine && rank >= least;
            if (some) {
                const bool is_equal = i < mine && rank - low <= high - low;
                const uint32_t equals = __ballot_sync(0xffffffffu, is_equal);
                chosen |= is_equal && equal + __popc(equals & below) < ties;
                equal += __popc(equals);
            }
            const uint32_t votes = __ballot_sync(0xffffffffu, chosen), at = number + __popc(votes & below);
            if (chosen) {
                indices[at] = (int32_t)first + i * 32;
                if (p.values) values[at] = logits[first + i * 32];
            }
            number += __popc(votes);
        }
    }
};

template <int GROUPS> GPU_INLINE void top_k_cluster(const ac_top_k_params_t &p) {
    using cluster_t = top_k_cluster_t<GROUPS>;
    const cluster_t cluster = {p, *(typename cluster_t::shared_t *)gpu_shared};
    cluster.select((uint32_t)gpu_block() / GROUPS);
}

#endif
