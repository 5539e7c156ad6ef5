/* AMD: merges the partials of (final row, head) pairs in the order of the parts by their LSE. A team of threads merges
 * one pair: its two halves take the even and the odd parts, a thread 4 columns of them. A workgroup has as many teams
 * as fit, for heads beside one another. */
#ifndef AC_OPS_MLA_MERGE_GFX9_H
#define AC_OPS_MLA_MERGE_GFX9_H

#include "../../gpu/lanes.h"

#include "group.h"
#include "store.h"

constexpr int MERGE_THREADS = 256, MERGE_HALF = MERGE_THREADS / 2;
constexpr int MERGE_PER_UNIT = 7; /* workgroups, of 72 registers */
constexpr int LOADS = 4;          /* of a thread that are in flight together */

/* Read instead of a partial that holds nothing, so that there is no branch: neutral in addition, and 0 is not, which
 * would lose a -0.0. */
static const __device__ __attribute__((aligned(16))) float nothing[4] = {-0.0f, -0.0f, -0.0f, -0.0f};

/* LDS: a chunk of each team's LSEs, which become weights, what the odd halves have summed, and for lists where the
 * chunk's partials are. */
#define STAGED ((float *)gpu_shared)                       /* [MERGE_THREADS] */
#define ODD_SUMS (STAGED + MERGE_THREADS)                  /* [4][MERGE_HALF] */
#define LOCATIONS ((int32_t *)(ODD_SUMS + 4 * MERGE_HALF)) /* [MERGE_THREADS] */

#define AC_FAMILY_ROWS "mla_merge/kernels.inc"
#include "../local_bytes.inc"
constexpr int MERGE_BYTES = (MERGE_THREADS + 4 * MERGE_HALF) * 4, MERGE_LIST_BYTES = MERGE_BYTES + MERGE_THREADS * 4;
CHECK_LOCAL_BYTES("mla_merge", MERGE_BYTES);
CHECK_LOCAL_BYTES("mla_merge_lists_d64", MERGE_LIST_BYTES);
CHECK_LOCAL_BYTES("mla_merge_lists_d128", MERGE_LIST_BYTES);
CHECK_LOCAL_BYTES("mla_merge_lists_d256", MERGE_LIST_BYTES);
CHECK_LOCAL_BYTES("mla_merge_lists", MERGE_LIST_BYTES);

/* COLUMNS of a row at a time. Groups from lists, or requests, whose rows have COLUMNS values. */
template <int COLUMNS, bool LISTS> struct merge_t {
    static constexpr int LANES = COLUMNS / 4, TEAM = 2 * LANES, TEAMS = MERGE_THREADS / TEAM;
    static constexpr int TOGETHER = TEAM < GPU_WAVE ? TEAM : GPU_WAVE; /* lanes of a team in a wave */

    const ac_mla_merge_params_t &p;
    ac_merge_group_t group;
    int64_t row, head; /* row of the group; past the last head a team has nothing to do */
    float top, acc[4], weights;

    static GPU_MEMBER int team() { return TEAMS > 1 ? gpu_thread() / TEAM : 0; }
    static GPU_MEMBER int thread() { return gpu_thread() % TEAM; }
    static GPU_MEMBER int half() { return thread() / LANES; }
    static GPU_MEMBER int column() { return thread() % LANES * 4; }
    static GPU_MEMBER float *staged() { return STAGED + team() * TEAM; }
    static GPU_MEMBER int32_t *locations() { return LOCATIONS + team() * TEAM; }
    static GPU_MEMBER float *odd_sums() { return ODD_SUMS + team() * LANES + thread() % LANES; }
    GPU_MEMBER int num_parts() const { return LISTS ? (int)group.num_parts : p.num_splits; }
    GPU_MEMBER int width() const { return LISTS ? p.value_dim : COLUMNS; }
    GPU_MEMBER bool has_head() const { return TEAMS == 1 || head < p.num_heads; }

    /* Partial rows are counted from here: lists name that of the group's first row, the parts of a request's row are
     * beside one another. */
    GPU_MEMBER int64_t first_partial() const { return LISTS ? row : (group.first_row + row) * p.num_splits; }

    /* Loads the LSEs of the parts [first, first + TEAM) to LDS; returns how many there are. */
    GPU_MEMBER int stage(int first) const {
        const float *lse = p.partial_lse + first_partial() * p.num_heads + head;
        int count = num_parts() - first < TEAM ? num_parts() - first : TEAM, part = first + thread();
        gpu_barrier();
        if (thread() < count) {
            int32_t at = part;
            bool exists = has_head();
            if (LISTS) {
                at = locations()[thread()] = group.locations[part];
                exists &= ac_merge_has_partial(at, row, p.num_partials);
            }
            staged()[thread()] = exists ? lse[(int64_t)at * p.num_heads] : GPU_MINUS_INFINITY;
        }
        gpu_barrier();
        return count;
    }

    /* Joins a number of each lane, two by two; every lane of the team, in whichever wave, gets the same bits. */
    template <class join_f> static GPU_MEMBER float over_lanes(float x, join_f join) {
        GPU_UNROLL for (int distance = 1; distance < TOGETHER; distance *= 2) {
            uint32_t other = gpu_of_lane(__builtin_bit_cast(uint32_t, x), gpu_lane() ^ distance);
            x = join(x, __builtin_bit_cast(float, other));
        }
        return x;
    }

    GPU_MEMBER void find_top() {
        auto larger = [](float x, float y) { return y > x ? y : x; }; /* x where y is NaN */
        top = -GPU_FLT_MAX;
        for (int first = 0; first < num_parts(); first += TEAM) {
            int count = stage(first);
            for (int i = thread() % TOGETHER; i < count; i += TOGETHER) top = larger(top, staged()[i]);
        }
        top = over_lanes(top, larger);
    }

    /* The LSEs of a chunk become weights, below 0 for a part that holds nothing; adds them up. */
    GPU_MEMBER void weigh(int count) {
        gpu_barrier(); /* all have seen the LSEs */
        if (thread() < count) {
            float lse = staged()[thread()];
            staged()[thread()] = lse == GPU_MINUS_INFINITY ? -1 : gpu_exp2((lse - top) * (float)AC_LOG2_E);
        }
        gpu_barrier();
        float sum = 0;
        for (int i = thread() % TOGETHER; i < count; i += TOGETHER) sum += staged()[i] < 0 ? 0 : staged()[i];
        weights += over_lanes(sum, [](float x, float y) { return x + y; });
    }

    /* The pair's columns [from, from + 4) of a partial; none past the row's end. */
    GPU_MEMBER void load(const char *partial, int from, float (&value)[4]) const {
        struct quad_t {
            float value[4];
        };
        if (!LISTS || from + 4 <= width()) {
            quad_t quad = *(const quad_t *)partial;
            for (int c = 0; c < 4; c++) value[c] = quad.value[c];
        } else {
            for (int c = 0; c < 4; c++)
                if (from + c < width()) value[c] = ((const float *)partial)[c];
        }
    }

    /* Adds the columns of a chunk's parts that belong to the thread's half. */
    GPU_MEMBER void add_chunk(int first, int count, int from) {
        int64_t stride = (int64_t)p.num_heads * width() * 4;
        const char *partials = (const char *)(p.partial_o + (first_partial() * p.num_heads + head) * width() + from) +
                               (LISTS ? 0 : first * stride);
        GPU_NO_UNROLL for (int i = half(); i < count; i += 2 * LOADS) {
            float quads[LOADS][4], factors[LOADS];
            GPU_UNROLL for (int k = 0; k < LOADS; k++)
                factors[k] = i + 2 * k < count ? staged()[i + 2 * k] : -1;
            GPU_UNROLL for (int k = 0; k < LOADS; k++) {
                const bool holds = !(factors[k] < 0);
                const int part = i + 2 * k;
                for (float &x : quads[k]) x = -0.0f;
                if (!LISTS) load(holds ? partials + part * stride : (const char *)nothing, from, quads[k]);
                else if (holds) load(partials + locations()[part] * stride, from, quads[k]);
                if (!holds) factors[k] = 0;
            }
            GPU_UNROLL for (int k = 0; k < LOADS; k++)
                for (int c = 0; c < 4; c++) acc[c] += quads[k][c] * factors[k];
        }
    }

    /* All parts of columns [from, from + 4) of the pair; complete in the team's even half. */
    GPU_MEMBER void sum(int block) {
        const bool is_staged = num_parts() <= TEAM, weighs = block == 0 || !is_staged; /* one chunk: since find_top */
        for (float &x : acc) x = -0.0f;
        if (weighs) weights = 0;
        for (int first = 0; first < num_parts(); first += TEAM) {
            int count = is_staged ? num_parts() : stage(first);
            if (weighs) weigh(count);
            add_chunk(first, count, block + column());
        }
        if (half() == 1)
            for (int c = 0; c < 4; c++) odd_sums()[c * MERGE_HALF] = acc[c];
        gpu_barrier();
        if (half() == 0)
            for (int c = 0; c < 4; c++) acc[c] += odd_sums()[c * MERGE_HALF];
    }

    GPU_MEMBER void merge() {
        find_top();
        for (int block = 0; block < (LISTS ? width() : 1); block += COLUMNS) {
            if (block > 0) gpu_barrier(); /* the odd sums have been read */
            sum(block);
            if (half() == 1 || !has_head()) continue;
            mla_output_t out = merged_output(p, group.first_row + row, (int)head, top, weights);
            merge_store<LISTS>(out, block + column(), width(), acc);
            if (block + column() == 0) mla_store_lse(out);
        }
    }
};

template <int COLUMNS, bool LISTS> GPU_INLINE void merge_partials(const ac_mla_merge_params_t &p) {
    typedef merge_t<COLUMNS, LISTS> team_t;
    /* In 32 bits, which a grid has: what divides in 64 is long, and its code comes from memory. */
    const uint32_t index = (uint32_t)gpu_block(), tile = index % p.head_tiles, rest = index / p.head_tiles;
    const uint32_t slot = rest % p.row_slots, number = rest / p.row_slots;
    ac_merge_group_t group = LISTS ? ac_merge_listed(&p, number) : ac_merge_request(&p, number);
    team_t team = {p, group, slot, tile * team_t::TEAMS + team_t::team()};
    if (!LISTS && slot == 0 && tile == 0) ac_merge_fill_unserved(&p, number, gpu_thread(), MERGE_THREADS);
    for (; team.row < group.num_rows; team.row += p.row_slots) {
        team.merge();
        if (!LISTS) return; /* every row of a request has a slot */
    }
}

#endif
