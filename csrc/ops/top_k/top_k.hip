/* Top-k of a row by one workgroup, the same source for AMD and NVIDIA. A row's logits are ranks: unsigned numbers in
 * the order of the op, where the larger one ranks first, and NaN is 0. A pass over the row counts how often each
 * leading digit of the rank occurs, which tells the digit of the k-th best. Columns whose digit is not below it, seldom
 * many more than k, are listed in shared memory, in their order; passes over the list find the other digits, and a last
 * one writes the columns above the k-th best, and of its equals the first ones. Where the list would be too long, the
 * passes go over the row. Who writes where is counted, never raced for: the result is the same in every run. */
#include "../../gpu/gpu.h"
#include "../../gpu/lanes.h"
#include "gpu_local.h"
#include "kernel_params.h"
#include "ranks.h"
#if defined(__CUDACC__)
#include "sm90/cluster.h"
#endif

#define AC_FAMILY_ROWS "top_k/kernels.inc"
#include "../local_bytes.inc"

constexpr int BINS = 1 << AC_TOP_K_GPU_BITS;
constexpr uint32_t LIST = AC_TOP_K_GPU_LIST;

struct shared_t {
    uint32_t counts[BINS]; /* of a digit */
    uint32_t ranks[LIST], columns[LIST];
    uint32_t sums[3][32]; /* of the waves, for three scans */
    uint32_t digit, above, count, unused;
};

GPU_INLINE void count_one(uint32_t *counter) {
#if defined(__CUDACC__)
    atomicAdd(counter, 1);
#else
    __hip_atomic_fetch_add((GPU_SHARED uint32_t *)counter, 1u, __ATOMIC_RELAXED, __HIP_MEMORY_SCOPE_WORKGROUP);
#endif
}

/* Where the selected columns of a row go. */
struct out_t {
    int32_t *indices;
    float *values;             /* or NULL */
    const int32_t *columns_of; /* of the places in the row; NULL: they are columns, counted from `first` */
    int32_t first;
    uint32_t wanted, size; /* columns to select, and places to fill */
};

/* The ranks to choose: those with rank >> shift above `low`, and the first `ties` of those equal to it. */
struct bound_t {
    uint32_t low, ties;
    int shift;
};
constexpr uint32_t ALL_TIES = 0xffffffffu;

/* What passes go over: the row in global memory, or the list; a thread has AT_ONCE loads in flight. */
template <int N> struct row_t {
    static constexpr int AT_ONCE = N;
    const uint32_t *bits;
    uint32_t length;
    static GPU_MEMBER uint32_t load(const uint32_t *from) { return gpu_entry(from); }
    static GPU_MEMBER uint32_t rank(uint32_t loaded) { return rank_of(loaded); }
};
struct list_t {
    static constexpr int AT_ONCE = 4;
    const uint32_t *bits; /* ranks already */
    uint32_t length;
    static GPU_MEMBER uint32_t load(const uint32_t *from) { return *from; }
    static GPU_MEMBER uint32_t rank(uint32_t loaded) { return loaded; }
};

/* A workgroup of THREADS. */
template <int THREADS, int AT_ONCE> struct selector_t {
    static constexpr int WAVES = THREADS / GPU_WAVE, GROUPS = 32; /* of a wave's columns in a round, at most */
    static constexpr int GROUP = GPU_WAVE;
    static constexpr uint32_t ROUND = THREADS * GROUPS;
    static_assert(WAVES <= 32 && WAVES <= GPU_WAVE && GROUPS <= GPU_WAVE && BINS % THREADS == 0, "");

    shared_t &s;
    row_t<AT_ONCE> row;

    static GPU_MEMBER int wave() { return gpu_thread() / GPU_WAVE; }

    /* A wave's columns of a round: a run of whole groups of one column per lane. */
    struct run_t {
        uint32_t begin, end;
    };
    template <class from_t> static GPU_MEMBER run_t run_of(const from_t &from, uint32_t first) {
        const uint32_t left = from.length - first, groups = left < ROUND ? (left + THREADS - 1) / THREADS : GROUPS;
        const uint32_t begin = first + wave() * groups * GROUP, end = begin + groups * GROUP;
        return {begin, end < from.length ? end : from.length};
    }

    /* The sum over the threads before this one, and over all. */
    GPU_MEMBER uint32_t scan(uint32_t x, uint32_t (&sums)[32], uint32_t &all) const {
        uint32_t sum = x;
        GPU_UNROLL for (int distance = 1; distance < GPU_WAVE; distance *= 2) {
            const uint32_t below = gpu_of_lane_below(sum, distance);
            if (gpu_lane() >= distance) sum += below;
        }
        if (gpu_lane() == GPU_WAVE - 1) sums[wave()] = sum;
        gpu_barrier();
        uint32_t waves = gpu_lane() < WAVES ? sums[gpu_lane()] : 0;
        GPU_UNROLL for (int distance = 1; distance < WAVES; distance *= 2) {
            const uint32_t below = gpu_of_lane_below(waves, distance);
            if (gpu_lane() >= distance) waves += below;
        }
        all = gpu_of_lane(waves, WAVES - 1);
        const uint32_t before = gpu_of_lane(waves, wave() > 0 ? wave() - 1 : 0);
        return sum - x + (wave() > 0 ? before : 0);
    }

    /* Counts the digits of the ranks that begin like `prefix`, on top of s.counts. */
    template <class from_t>
    GPU_MEMBER void count_digits(const from_t &from, uint32_t prefix, int shift, int bits) const {
        constexpr int N = from_t::AT_ONCE;
        const uint32_t mask = (1u << bits) - 1, high = shift + bits; /* 32: every rank counts */
        for (uint32_t first = 0; first < from.length; first += ROUND) {
            const run_t run = run_of(from, first);
            GPU_NO_UNROLL for (uint32_t at = run.begin; at < run.end; at += N * GROUP) {
                uint32_t loaded[N];
                const uint32_t *mine = from.bits + at + gpu_lane();
                const int left = (int)(run.end - at) - gpu_lane();
                GPU_UNROLL for (int i = 0; i < N; i++)
                    if (i * GROUP < left) loaded[i] = from_t::load(mine + i * GROUP);
                GPU_UNROLL for (int i = 0; i < N; i++) {
                    if (i * GROUP >= left) break;
                    const uint32_t rank = from_t::rank(loaded[i]);
                    if (high < 32 && (rank ^ prefix) >> high != 0) continue;
                    count_one(&s.counts[rank >> shift & mask]);
                }
            }
        }
        gpu_barrier();
    }

    /* The digit of the wanted-th best: s.digit, how many have a higher one (s.above) and the same (s.count). */
    GPU_MEMBER void find_digit(uint32_t wanted) const {
        constexpr int EACH = BINS / THREADS;
        uint32_t counts[EACH], sum = 0, all;
        GPU_UNROLL for (int i = 0; i < EACH; i++) {
            uint32_t &counted = s.counts[BINS - 1 - (gpu_thread() * EACH + i)];
            counts[i] = counted;
            counted = 0; /* for the next digit */
            sum += counts[i];
        }
        uint32_t before = scan(sum, s.sums[0], all);
        GPU_UNROLL for (int i = 0; i < EACH; i++) {
            if (before < wanted && wanted <= before + counts[i]) {
                s.digit = BINS - 1 - (gpu_thread() * EACH + i);
                s.above = before;
                s.count = counts[i];
            }
            before += counts[i];
        }
        gpu_barrier();
    }

    /* The lanes' group of the run whose number is the lane's own, as votes: one bit per column. */
    struct votes_t {
        gpu_votes_t chosen, equal;
    };
    template <class from_t> GPU_MEMBER votes_t vote(const from_t &from, run_t run, const bound_t &bound) const {
        constexpr int N = from_t::AT_ONCE;
        votes_t mine = {0, 0};
        int group = 0;
        GPU_NO_UNROLL for (uint32_t at = run.begin; at < run.end; at += N * GROUP) {
            uint32_t loaded[N];
            const uint32_t *mine_from = from.bits + at + gpu_lane();
            const int left = (int)(run.end - at) - gpu_lane();
            GPU_UNROLL for (int i = 0; i < N; i++) {
                loaded[i] = 0;
                if (i * GROUP < left) loaded[i] = from_t::load(mine_from + i * GROUP);
            }
            GPU_UNROLL for (int i = 0; i < N; i++) {
                const bool is_column = i * GROUP < left;
                const uint32_t high = from_t::rank(loaded[i]) >> bound.shift;
                const gpu_votes_t chosen = gpu_ballot(is_column && high >= bound.low + (bound.ties != ALL_TIES));
                if (gpu_lane() == group + i) mine.chosen = chosen;
                if (bound.ties == ALL_TIES) continue;
                const gpu_votes_t equal = gpu_ballot(is_column && high == bound.low);
                if (gpu_lane() == group + i) mine.equal = equal;
            }
            group += N;
        }
        return mine;
    }

    /* The first `count` of the votes. */
    static GPU_MEMBER gpu_votes_t first_votes(gpu_votes_t votes, uint32_t count) {
        gpu_votes_t kept = 0;
        for (; votes && count; count--) {
            kept |= votes & -votes;
            votes &= votes - 1;
        }
        return kept;
    }

    /* The columns of a run that were voted for to `to`(number, column), those of a lane's group from `number` on. Where
     * they are few, each lane goes through its group; else the lanes go through the groups together. */
    template <class to_t>
    GPU_MEMBER void deal(run_t run, gpu_votes_t chosen, uint32_t number, bool few, const to_t &to) const {
        if (few) {
            const uint32_t base = run.begin + gpu_lane() * GROUP;
            GPU_NO_UNROLL for (; chosen; chosen &= chosen - 1) to(number++, base + gpu_lowest_vote(chosen));
            return;
        }
        int group = 0;
        GPU_NO_UNROLL for (uint32_t at = run.begin; at < run.end; at += GROUP, group++) {
            const gpu_votes_t votes = gpu_votes_of(chosen, group);
            const uint32_t before = gpu_of_lane(number, group) + gpu_votes_before(votes);
            if (votes >> gpu_lane() & 1) to(before, at + gpu_lane());
        }
    }

    /* The chosen columns, about `expected`, in ascending order, to `to`(number, column); returns how many. */
    template <class from_t, class to_t>
    GPU_MEMBER uint32_t choose(const from_t &from, bound_t bound, uint32_t expected, const to_t &to) const {
        const uint32_t groups = from.length < ROUND ? from.length / THREADS : GROUPS;
        const bool few = (uint32_t)((uint64_t)expected * GROUP / from.length) + 5 < groups;
        uint32_t written = 0, seen = 0, all = 0;
        for (uint32_t first = 0; first < from.length; first += ROUND) {
            const run_t run = run_of(from, first);
            votes_t votes = vote(from, run, bound);
            if (bound.ties != ALL_TIES) {
                const uint32_t before = seen + scan(gpu_vote_count(votes.equal), s.sums[1], all);
                votes.chosen |= first_votes(votes.equal, before < bound.ties ? bound.ties - before : 0);
                seen += all;
            }
            const uint32_t number = written + scan(gpu_vote_count(votes.chosen), s.sums[2], all);
            deal(run, votes.chosen, number, few, to);
            written += all;
            gpu_barrier();
        }
        return written;
    }

    GPU_MEMBER void write_one(const out_t &out, uint32_t number, uint32_t place) const {
        if (number >= out.size) return; /* only when someone changes the row meanwhile */
        const int32_t index = out.columns_of ? gpu_entry(out.columns_of + place) : out.first + (int32_t)place;
        gpu_store(out.indices + number, index);
        if (out.values) gpu_store((uint32_t *)out.values + number, row.load(row.bits + place));
    }

    /* -1 and 0 where the row has no more. */
    GPU_MEMBER void pad(const out_t &out, uint32_t written) const {
        GPU_NO_UNROLL for (uint32_t at = written + gpu_thread(); at < out.size; at += THREADS) {
            gpu_store(out.indices + at, -1);
            if (out.values) gpu_store(out.values + at, 0.0f);
        }
    }

    /* Narrows the bound by a digit; `wanted` of the `count` equal ones are still to be chosen. */
    template <class from_t> GPU_MEMBER void narrow(const from_t &from, bound_t &bound, uint32_t &count) const {
        const int bits = bound.shift < AC_TOP_K_GPU_BITS ? bound.shift : AC_TOP_K_GPU_BITS;
        const uint32_t prefix = bound.shift < 32 ? bound.low << bound.shift : 0;
        bound.shift -= bits;
        count_digits(from, prefix, bound.shift, bits);
        find_digit(bound.ties);
        bound.low = prefix >> bound.shift | s.digit;
        bound.ties -= s.above;
        count = s.count;
    }

    GPU_MEMBER void select(const out_t &out) const {
        bound_t bound = {0, out.wanted, 32};
        uint32_t count = row.length, listed, written;
        if (row.length <= out.wanted) {
            GPU_NO_UNROLL for (uint32_t at = gpu_thread(); at < row.length; at += THREADS) write_one(out, at, at);
            pad(out, row.length);
            return;
        }
        GPU_UNROLL for (int i = 0; i < BINS; i += THREADS) s.counts[i + gpu_thread()] = 0;
        gpu_barrier();
        do {
            narrow(row, bound, count);
            listed = out.wanted - bound.ties + count;
        } while (bound.shift > 0 && count > bound.ties && listed > LIST);
        if (listed > LIST) {
            if (count == bound.ties) bound.ties = ALL_TIES;
            written = choose(row, bound, out.wanted, [&](uint32_t number, uint32_t at) { write_one(out, number, at); });
        } else {
            const bound_t all = {bound.low, ALL_TIES, bound.shift};
            written = choose(row, all, listed, [&](uint32_t number, uint32_t at) {
                if (number >= LIST) return; /* only when someone changes the row meanwhile */
                s.ranks[number] = rank_of(row.load(row.bits + at));
                s.columns[number] = at;
            });
            const list_t list = {s.ranks, written < LIST ? written : LIST};
            while (bound.shift > 0 && count > bound.ties) narrow(list, bound, count);
            if (count == bound.ties) bound.ties = ALL_TIES;
            written = choose(list, bound, out.wanted,
                             [&](uint32_t number, uint32_t at) { write_one(out, number, s.columns[at]); });
        }
        pad(out, written);
    }
};

template <int THREADS, int AT_ONCE> GPU_INLINE void select_item(const ac_top_k_params_t &p) {
    const int64_t item = gpu_block(), number = p.stage == AC_TOP_K_PARTS ? item / p.parts : item;
    const ac_columns_t window = ac_top_k_window(&p, number);
    const float *logits = (const float *)(p.logits + number * p.logits_stride);
    ac_columns_t columns = window;
    out_t out = {(int32_t *)(p.indices + number * p.indices_stride), nullptr, nullptr, 0, (uint32_t)p.k, (uint32_t)p.k};
    if (p.values) out.values = (float *)(p.values + number * p.values_stride);
    if (p.stage == AC_TOP_K_PARTS) {
        columns = ac_top_k_part(&p, window, item % p.parts);
        out.indices = p.candidate_indices + item * p.part_k;
        out.values = p.candidate_values + item * p.part_k;
        out.wanted = (uint32_t)p.part_k;
        out.size = (uint32_t)ac_min64(p.part_k, columns.end - columns.begin);
    }
    if (p.stage == AC_TOP_K_MERGE) {
        const int64_t first = number * p.parts * p.part_k;
        logits = p.candidate_values + first;
        out.columns_of = p.candidate_indices + first;
        columns.begin = 0;
        columns.end = ac_top_k_candidates(&p, window);
    }
    out.first = (int32_t)columns.begin;
    const selector_t<THREADS, AT_ONCE> selector = {
        *(shared_t *)gpu_shared,
        {(const uint32_t *)logits + columns.begin, (uint32_t)(columns.end - columns.begin)}};
    selector.select(out);
}

#define SELECT(name, threads, per_unit, at_once)                                                                       \
    CHECK_LOCAL_BYTES(#name, (int)sizeof(shared_t));                                                                   \
    GPU_KERNEL_OF(threads, per_unit) name(GPU_PARAMS(ac_top_k_params_t) p) { select_item<threads, at_once>(p); }

SELECT(top_k_t1024, 1024, 1, 16)
#if defined(__CUDACC__)
SELECT(top_k_t512, 512, 3, 8)
SELECT(top_k_t256, 256, 5, 8)

constexpr int CLUSTER = AC_TOP_K_CLUSTER;
CHECK_LOCAL_BYTES("top_k_cluster", (int)sizeof(top_k_cluster_t<CLUSTER>::shared_t));
GPU_KERNEL(1024) __cluster_dims__(CLUSTER) top_k_cluster(GPU_PARAMS(ac_top_k_params_t) p) { top_k_cluster<CLUSTER>(p); }
#else
SELECT(top_k_t512, 512, 1, 8)
SELECT(top_k_t256, 256, 1, 8)
#endif
