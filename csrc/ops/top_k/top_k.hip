/* Top-k of a row by one workgroup, the same source for AMD and NVIDIA. A row's logits are ranks: unsigned numbers in
 * the order of the op, where the larger one ranks first, and NaN is 0. Passes over the row narrow the range of ranks
 * that holds the k-th best, each by one digit: the workgroup counts how often each digit occurs in the range. A last
 * pass writes the columns above the range, and of those in it the first ones. Who writes where is counted, never raced
 * for: the result is the same in every run. A thread keeps the ranks of its columns in registers; a row that is longer
 * than what all threads hold is read again in every pass. */
#include "../../gpu/gpu.h"
#include "../../gpu/votes.h"
#include "gpu_local.h"
#include "kernel_params.h"

#define AC_FAMILY_ROWS "top_k/kernels.inc"
#include "../local_bytes.inc"

constexpr int BINS = 1 << AC_TOP_K_GPU_BITS, COPIES = AC_TOP_K_GPU_COPIES;

struct shared_t {
    uint32_t counts[BINS * COPIES]; /* or numbers of the columns that every wave writes, one per column of a thread */
    uint32_t sums[3][32];           /* of the waves, for three scans */
    uint32_t digit, above, count, unused;
};

GPU_INLINE uint32_t lane_below(uint32_t x, int distance) {
#if defined(__CUDACC__)
    return __shfl_up_sync(0xffffffffu, x, distance);
#else
    return (uint32_t)__builtin_amdgcn_ds_bpermute((gpu_lane() - distance) * 4, (int)x);
#endif
}

GPU_INLINE uint32_t of_lane(uint32_t x, int lane) {
#if defined(__CUDACC__)
    return __shfl_sync(0xffffffffu, x, lane);
#else
    return (uint32_t)__builtin_amdgcn_ds_bpermute(lane * 4, (int)x);
#endif
}

GPU_INLINE void count_one(uint32_t *counter) {
#if defined(__CUDACC__)
    atomicAdd(counter, 1);
#else
    __hip_atomic_fetch_add((GPU_SHARED uint32_t *)counter, 1u, __ATOMIC_RELAXED, __HIP_MEMORY_SCOPE_WORKGROUP);
#endif
}

GPU_INLINE uint32_t rank_of(uint32_t bits) {
    const uint32_t magnitude = bits & 0x7fffffffu;
    return magnitude > 0x7f800000u ? 0 : bits & 0x80000000u ? ~bits : bits | 0x80000000u;
}

/* Where the selected columns of a row go. */
struct out_t {
    int32_t *indices;
    float *values;             /* or NULL */
    const int32_t *columns_of; /* of the places in the row; NULL: they are columns, counted from `first` */
    int32_t first;
    uint32_t wanted, size; /* columns to select, and places to fill */
};

/* A workgroup of THREADS, each of which has HELD columns of the row at a time. */
template <int THREADS, int HELD> struct selector_t {
    static constexpr int WAVES = THREADS / GPU_WAVE, ROUND = THREADS * HELD;
    static_assert(WAVES <= 32 && WAVES * HELD <= THREADS && WAVES * HELD * 2 <= BINS * COPIES, "");

    shared_t &s;
    const uint32_t *row;
    uint32_t length;
    uint32_t ranks[HELD];

    static GPU_MEMBER int wave() { return gpu_thread() / GPU_WAVE; }
    static GPU_MEMBER uint32_t column(uint32_t first, int i) { return first + i * THREADS + gpu_thread(); }

    /* Those of the columns from `first` on. Past the row's end they are those of NaNs behind all columns: never among
     * the best of a row that has more columns than are wanted. */
    GPU_MEMBER void load(uint32_t first) {
        const int32_t left = (int32_t)(length - first) - gpu_thread();
        const uint32_t *mine = row + first + gpu_thread();
        GPU_UNROLL for (int i = 0; i < HELD; i++) {
            ranks[i] = 0x7fffffffu;
            if (i * THREADS < left) ranks[i] = gpu_entry(mine + i * THREADS);
        }
        GPU_UNROLL for (int i = 0; i < HELD; i++) ranks[i] = rank_of(ranks[i]);
    }

    /* The sum over the threads before this one, and over all. */
    GPU_MEMBER uint32_t scan(uint32_t x, uint32_t (&sums)[32], uint32_t &all) const {
        uint32_t sum = x;
        GPU_UNROLL for (int distance = 1; distance < GPU_WAVE; distance *= 2) {
            const uint32_t below = lane_below(sum, distance);
            if (gpu_lane() >= distance) sum += below;
        }
        if (gpu_lane() == GPU_WAVE - 1) sums[wave()] = sum;
        gpu_barrier();
        uint32_t waves = gpu_lane() < WAVES ? sums[gpu_lane()] : 0;
        GPU_UNROLL for (int distance = 1; distance < WAVES; distance *= 2) {
            const uint32_t below = lane_below(waves, distance);
            if (gpu_lane() >= distance) waves += below;
        }
        all = of_lane(waves, WAVES - 1);
        const uint32_t before = of_lane(waves, wave() > 0 ? wave() - 1 : 0);
        return sum - x + (wave() > 0 ? before : 0);
    }

    GPU_MEMBER void clear_counts() const {
        GPU_UNROLL for (int i = 0; i < BINS * COPIES; i += THREADS) s.counts[i + gpu_thread()] = 0;
        gpu_barrier();
    }

    /* Of the ranks at hand that begin like `prefix`, counts the digits. */
    GPU_MEMBER void count_digits(uint32_t first, uint32_t prefix, int shift, int bits) const {
        GPU_UNROLL for (int i = 0; i < HELD; i++) {
            if (first + i * THREADS >= length) break;
            const bool inside = shift + bits == 32 || (ranks[i] ^ prefix) >> (shift + bits) == 0;
            if (!inside) continue;
            const uint32_t digit = ranks[i] >> shift & ((1u << bits) - 1);
            count_one(&s.counts[digit * COPIES + gpu_lane() % COPIES]);
        }
    }

    /* The digit of the wanted-th best: s.digit, how many have a higher one (s.above) and the same (s.count). */
    GPU_MEMBER void find_digit(uint32_t wanted) const {
        constexpr int EACH = BINS / THREADS;
        uint32_t counts[EACH], sum = 0, all;
        gpu_barrier();
        GPU_UNROLL for (int i = 0; i < EACH; i++) {
            const int digit = BINS - 1 - (gpu_thread() * EACH + i);
            counts[i] = 0;
            GPU_UNROLL for (int copy = 0; copy < COPIES; copy++) counts[i] += s.counts[digit * COPIES + copy];
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

    /* Sums s.counts[from, from + HELD * WAVES), a number per column of a thread and wave, over those before each. */
    GPU_MEMBER uint32_t scan_numbers(uint32_t from, uint32_t (&sums)[32]) const {
        const bool has = gpu_thread() < HELD * WAVES;
        uint32_t all;
        gpu_barrier();
        const uint32_t before = scan(has ? s.counts[from + gpu_thread()] : 0, sums, all);
        if (has) s.counts[from + gpu_thread()] = before;
        gpu_barrier();
        return all;
    }

    /* Which of the ranks at hand are selected: a bit per column of the thread. Ranks >> shift above `low` are, and so
     * are the first `ties` that are equal to it; `ties_seen` of them stood before. */
    GPU_MEMBER uint32_t choose(uint32_t low, int shift, uint32_t ties, uint32_t &ties_seen) const {
        constexpr uint32_t NUMBERS = HELD * WAVES;
        uint32_t chosen = 0, equal = 0;
        GPU_UNROLL for (int i = 0; i < HELD; i++) {
            const uint32_t high = ranks[i] >> shift;
            chosen |= (high > low ? 1u : 0u) << i;
            equal |= (high == low ? 1u : 0u) << i;
        }
        if (ties == ~0u) return chosen | equal;
        GPU_UNROLL for (int i = 0; i < HELD; i++) {
            const gpu_votes_t votes = gpu_ballot(equal >> i & 1);
            if (gpu_lane() == 0) s.counts[NUMBERS + i * WAVES + wave()] = gpu_vote_count(votes);
        }
        const uint32_t all = scan_numbers(NUMBERS, s.sums[1]);
        GPU_UNROLL for (int i = 0; i < HELD; i++) {
            const gpu_votes_t votes = gpu_ballot(equal >> i & 1);
            const uint32_t before = ties_seen + s.counts[NUMBERS + i * WAVES + wave()] + gpu_votes_before(votes);
            if ((equal >> i & 1) && before < ties) chosen |= 1u << i;
        }
        ties_seen += all;
        return chosen;
    }

    GPU_MEMBER void write_one(const out_t &out, uint32_t at, uint32_t place) const {
        if (at >= out.size) return; /* only when someone changes the row meanwhile */
        const int32_t index = out.columns_of ? gpu_entry(out.columns_of + place) : out.first + (int32_t)place;
        gpu_store(out.indices + at, index);
        if (out.values) gpu_store((uint32_t *)out.values + at, gpu_entry(row + place));
    }

    /* Writes the chosen columns in ascending order behind the `written` of before; returns how many. */
    GPU_MEMBER uint32_t write(const out_t &out, uint32_t first, uint32_t chosen, uint32_t written) const {
        GPU_UNROLL for (int i = 0; i < HELD; i++) {
            const gpu_votes_t votes = gpu_ballot(chosen >> i & 1);
            if (gpu_lane() == 0) s.counts[i * WAVES + wave()] = gpu_vote_count(votes);
        }
        const uint32_t all = scan_numbers(0, s.sums[2]);
        GPU_UNROLL for (int i = 0; i < HELD; i++) {
            const gpu_votes_t votes = gpu_ballot(chosen >> i & 1);
            if (chosen >> i & 1)
                write_one(out, written + s.counts[i * WAVES + wave()] + gpu_votes_before(votes), column(first, i));
        }
        return all;
    }

    /* -1 and 0 where the row has no more. */
    GPU_MEMBER void pad(const out_t &out, uint32_t written) const {
        for (uint32_t at = written + gpu_thread(); at < out.size; at += THREADS) {
            gpu_store(out.indices + at, -1);
            if (out.values) gpu_store(out.values + at, 0.0f);
        }
    }

    GPU_MEMBER void select(const out_t &out) {
        const bool is_held = length <= ROUND;
        uint32_t wanted = out.wanted, count = length, prefix = 0, written = 0, ties_seen = 0;
        int shift = 32;
        if (length <= wanted) {
            for (uint32_t at = gpu_thread(); at < length; at += THREADS) write_one(out, at, at);
            pad(out, length);
            return;
        }
        if (is_held) load(0);
        while (shift > 0 && count > wanted) {
            const int bits = shift < AC_TOP_K_GPU_BITS ? shift : AC_TOP_K_GPU_BITS;
            shift -= bits;
            clear_counts();
            for (uint32_t first = 0; first < length; first += ROUND) {
                if (!is_held) load(first);
                count_digits(first, prefix, shift, bits);
            }
            find_digit(wanted);
            prefix |= s.digit << shift;
            wanted -= s.above;
            count = s.count;
            gpu_barrier();
        }
        for (uint32_t first = 0; first < length; first += ROUND) {
            if (!is_held) load(first);
            const uint32_t ties = count == wanted ? ~0u : wanted;
            written += write(out, first, choose(prefix >> shift, shift, ties, ties_seen), written);
            gpu_barrier();
        }
        pad(out, written);
    }
};

template <int THREADS, int HELD> GPU_INLINE void select_item(const ac_top_k_params_t &p) {
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
    selector_t<THREADS, HELD> selector = {
        *(shared_t *)gpu_shared, (const uint32_t *)logits + columns.begin, (uint32_t)(columns.end - columns.begin), {}};
    selector.select(out);
}

CHECK_LOCAL_BYTES("top_k", (int)sizeof(shared_t));
GPU_KERNEL(1024) top_k(GPU_PARAMS(ac_top_k_params_t) p) { select_item<1024, 16>(p); }
