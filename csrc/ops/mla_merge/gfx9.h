/* AMD: merges the partials of (final row, head) pairs in the order of the parts by their LSE. A team of threads merges
 * one pair: its two halves take the even and the odd parts, a thread 4 columns of them. A workgroup has as many teams
 * as fit, for heads beside one another. */
#ifndef AC_OPS_MLA_MERGE_GFX9_H
#define AC_OPS_MLA_MERGE_GFX9_H

#include "../../gpu/gpu.h"

#include "group.h"
#include "store.h"

constexpr int MERGE_THREADS = 256, MERGE_HALF = MERGE_THREADS / 2;
constexpr int MERGE_PER_UNIT = 7; /* workgroups, of 72 registers */
constexpr int LOADS = 4;          /* of a thread that are in flight together */

/* LDS: a chunk of each team's LSEs, what the odd halves have summed, and for lists where the chunk's partials are. */
#define LSES ((float *)gpu_shared)                         /* [MERGE_THREADS] */
#define ODD_SUMS (LSES + MERGE_THREADS)                    /* [4][MERGE_HALF] */
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

    const ac_mla_merge_params_t &p;
    ac_merge_group_t group;
    int64_t row, head; /* row of the group; past the last head a team has nothing to do */
    float top, acc[4], weights;

    static GPU_MEMBER int team() { return TEAMS > 1 ? gpu_thread() / TEAM : 0; }
    static GPU_MEMBER int thread() { return gpu_thread() % TEAM; }
    static GPU_MEMBER int half() { return thread() / LANES; }
    static GPU_MEMBER int column() { return thread() % LANES * 4; }
    static GPU_MEMBER float *lses() { return LSES + team() * TEAM; }
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
            lses()[thread()] = exists ? lse[(int64_t)at * p.num_heads] : GPU_MINUS_INFINITY;
        }
        gpu_barrier();
        return count;
    }

    GPU_MEMBER void find_top() {
        top = -GPU_FLT_MAX;
        for (int first = 0; first < num_parts(); first += TEAM) {
            int count = stage(first);
            for (int i = 0; i < count; i++) top = lses()[i] > top ? lses()[i] : top;
        }
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

    /* Adds one chunk of parts: all weights, and the columns of those that belong to the thread's half. */
    GPU_MEMBER void add_chunk(int first, int count, int from) {
        int64_t stride = (int64_t)p.num_heads * width() * 4;
        const char *partials = (const char *)(p.partial_o + (first_partial() * p.num_heads + head) * width() + from) +
                               (LISTS ? 0 : first * stride);
        for (int i = 0; i < count; i++) {
            float lse = lses()[i];
            if (lse != GPU_MINUS_INFINITY) weights += gpu_exp2((lse - top) * (float)AC_LOG2_E);
        }
        for (int i = half(); i < count; i += 2 * LOADS) {
            float quads[LOADS][4], factors[LOADS];
            for (int k = 0; k < LOADS; k++) {
                int at = i + 2 * k;
                float lse = at < count ? lses()[at] : GPU_MINUS_INFINITY;
                factors[k] = gpu_exp2((lse - top) * (float)AC_LOG2_E);
                for (float &x : quads[k]) x = -0.0f;
                if (lse != GPU_MINUS_INFINITY) load(partials + (LISTS ? locations()[at] : at) * stride, from, quads[k]);
                else factors[k] = 0; /* nothing was written there */
            }
            for (int k = 0; k < LOADS; k++)
                for (int c = 0; c < 4; c++) acc[c] += quads[k][c] * factors[k];
        }
    }

    /* All parts of columns [from, from + 4) of the pair; complete in the team's even half. */
    GPU_MEMBER void sum(int from) {
        for (float &x : acc) x = -0.0f; /* -0.0 is neutral in addition: 0 would lose a -0.0 */
        weights = 0;
        for (int first = 0; first < num_parts(); first += TEAM) {
            /* One chunk is in LDS since find_top. */
            int count = num_parts() > TEAM ? stage(first) : num_parts();
            add_chunk(first, count, from);
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
            sum(block + column());
            if (half() == 1 || !has_head()) continue;
            mla_output_t out = merged_output(p, group.first_row + row, (int)head, top, weights);
            merge_store<LISTS>(out, block + column(), width(), acc);
            if (block + column() == 0) mla_store_lse(out);
        }
    }
};

template <int COLUMNS, bool LISTS> GPU_INLINE void merge_partials(const ac_mla_merge_params_t &p) {
    typedef merge_t<COLUMNS, LISTS> team_t;
    int64_t index = gpu_block(), tile = index % p.head_tiles, slot = index / p.head_tiles % p.row_slots;
    int64_t number = index / p.head_tiles / p.row_slots;
    ac_merge_group_t group = LISTS ? ac_merge_listed(&p, number) : ac_merge_request(&p, number);
    team_t team = {p, group, slot, tile * team_t::TEAMS + team_t::team()};
    if (!LISTS && slot == 0 && tile == 0) ac_merge_fill_unserved(&p, number, gpu_thread(), MERGE_THREADS);
    for (; team.row < group.num_rows; team.row += p.row_slots) {
        team.merge();
        if (!LISTS) return; /* every row of a request has a slot */
    }
}

#endif
