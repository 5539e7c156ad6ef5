/* sm_90a: merges the partials of (final row, head) pairs by their LSE, in a fixed order. With few parts and many pairs
 * each warp merges a pair, eight pairs per workgroup; else the eight warps of a workgroup share a pair, or with few
 * pairs a quarter of its columns. A lane has 16 of 512 columns, or 4 of a quarter, so that the loads of a warp are
 * whole lines. As many workgroups as fit take turns: most groups of a list may be empty. The bits of a pair are always
 * the same. */
#ifndef AC_OPS_MLA_MERGE_SM90_H
#define AC_OPS_MLA_MERGE_SM90_H

#include "../../gpu/sm90/ptx.h"

#include "group.h"
#include "store.h"

constexpr int SM90_MERGE_WARPS = 8, MERGE_THREADS = 32 * SM90_MERGE_WARPS, SM90_MERGE_COLUMNS = 512;
constexpr int MERGE_PER_UNIT = 2;                           /* workgroups */
constexpr int SM90_MERGE_ONE_WARP_PARTS = SM90_MERGE_WARPS; /* at most for one warp: the same order of sums */
constexpr int SM90_MERGE_ONE_WARP_PAIRS = 1024;             /* at least */
static_assert(MERGE_PER_UNIT == AC_MERGE_TURNS_PER_UNIT, "all that are launched are resident");

typedef struct sm90_merge_side_t {
    float acc[SM90_MERGE_WARPS][SM90_MERGE_COLUMNS];
    float weights[SM90_MERGE_WARPS];
} sm90_merge_side_t;

/* The groups of lists, as many at a time as there are threads: units of work up to the end of each. */
typedef struct sm90_merge_lists_side_t {
    sm90_merge_side_t side;
    int64_t ends[MERGE_THREADS];
    int64_t warp_units[SM90_MERGE_WARPS];
} sm90_merge_lists_side_t;

#define AC_FAMILY_ROWS "mla_merge/kernels.inc"
#include "../local_bytes.inc"
CHECK_LOCAL_BYTES("mla_merge", sizeof(sm90_merge_side_t));
CHECK_LOCAL_BYTES("mla_merge_lists", sizeof(sm90_merge_lists_side_t));

GPU_INLINE float4 sm90_load_quad(const float *from) {
    if (((uintptr_t)from & 15) == 0) return *(const float4 *)from;
    return make_float4(from[0], from[1], from[2], from[3]);
}

/* One warp's part of a pair: QUADS runs of 128 columns of every `warps`-th part from `self` on, 4 columns a lane.
 * Groups from lists, or requests, whose rows have 512 values. */
template <bool LISTS, int QUADS> struct sm90_merge_t {
    static constexpr int LOADS = QUADS == 1 ? 8
                                 : LISTS    ? 2
                                            : 4; /* parts in flight: a second workgroup has room beside */

    const ac_mla_merge_params_t &p;
    ac_merge_group_t group;
    int64_t row; /* of the group */
    int head, warps, self, first_block;
    float top, acc[QUADS][4], weights;

    GPU_MEMBER int num_parts() const { return LISTS ? (int)group.num_parts : p.num_splits; }
    GPU_MEMBER int width() const { return LISTS ? p.value_dim : SM90_MERGE_COLUMNS; }
    static GPU_MEMBER int column(int j) { return gpu_lane() * 4 + 128 * j; }

    /* Partial rows are counted from here: lists name that of the group's first row, the parts of a request's row are
     * beside one another. */
    GPU_MEMBER int64_t first_partial() const { return LISTS ? row : (group.first_row + row) * p.num_splits; }

    /* The LSE of a part, and where its partial is; -inf: nothing was written, or there is no such part. */
    GPU_MEMBER float find(int part, int *out_at) const {
        *out_at = part;
        if (part >= num_parts()) return GPU_MINUS_INFINITY;
        if (LISTS) {
            *out_at = group.locations[part];
            if (!ac_merge_has_partial(*out_at, row, p.num_partials)) return GPU_MINUS_INFINITY;
        }
        return p.partial_lse[(first_partial() + *out_at) * p.num_heads + head];
    }

    /* Of partials nothing is read before the kernel that writes them has ended; where they are may be known before. */
    GPU_MEMBER void find_top() {
        int at;
        if (LISTS && gpu_lane() < num_parts()) asm volatile("" ::"r"(group.locations[gpu_lane()]));
        sm90_wait_for_previous();
        top = -GPU_FLT_MAX;
        for (int part = gpu_lane(); part < num_parts(); part += 32) top = gpu_max(top, find(part, &at));
        GPU_UNROLL for (int distance = 16; distance; distance /= 2)
            top = gpu_max(top, __shfl_xor_sync(0xffffffffu, top, distance));
    }

    /* Columns [from, from + 4) of a row that begins at `partial`; 0 past its end. */
    GPU_MEMBER float4 load(const float *partial, int from) const {
        if (!LISTS || from + 4 <= width()) return sm90_load_quad(partial + from);
        float4 value = make_float4(0, 0, 0, 0);
        if (from < width()) value.x = partial[from];
        if (from + 1 < width()) value.y = partial[from + 1];
        if (from + 2 < width()) value.z = partial[from + 2];
        return value;
    }

    /* Adds `count` parts, at most 32, part `first + i * warps` in lane i: columns from `block` on. */
    GPU_MEMBER void add_chunk(int first, int count, int block) {
        int at;
        const int64_t stride = (int64_t)p.num_heads * width();
        float lse = find(first + gpu_lane() * warps, &at);
        float weight = lse == GPU_MINUS_INFINITY ? 0 : gpu_exp2((lse - top) * (float)AC_LOG2_E);
        uint32_t written = __ballot_sync(0xffffffffu, lse != GPU_MINUS_INFINITY);
        const float *partials = p.partial_o + (first_partial() * p.num_heads + head) * (int64_t)width();
        GPU_NO_UNROLL for (int s = 0; s < count; s += LOADS) {
            float4 value[LOADS][QUADS];
            GPU_UNROLL for (int k = 0; k < LOADS; k++) {
                int from = LISTS ? __shfl_sync(0xffffffffu, at, s + k & 31) : first + (s + k) * warps;
                GPU_UNROLL for (int j = 0; j < QUADS; j++) {
                    value[k][j] = make_float4(0, 0, 0, 0);
                    if (s + k < count && written >> (s + k) & 1)
                        value[k][j] = load(partials + from * stride, block + column(j));
                }
            }
            GPU_UNROLL for (int k = 0; k < LOADS; k++) {
                float w = __shfl_sync(0xffffffffu, weight, s + k & 31);
                if (s + k >= count || !(written >> (s + k) & 1)) continue;
                weights += w;
                /* Rounded products: the same bits whether one warp adds all parts or one each. */
                GPU_UNROLL for (int j = 0; j < QUADS; j++) {
                    acc[j][0] += __fmul_rn(w, value[k][j].x);
                    acc[j][1] += __fmul_rn(w, value[k][j].y);
                    acc[j][2] += __fmul_rn(w, value[k][j].z);
                    acc[j][3] += __fmul_rn(w, value[k][j].w);
                }
            }
        }
    }

    /* The warp's parts of its columns from `block` on. */
    GPU_MEMBER void sum(int block) {
        weights = 0;
        /* -0.0 is neutral in addition: 0 would lose a -0.0. */
        GPU_UNROLL for (int i = 0; i < 4 * QUADS; i++) acc[i / 4][i % 4] = -0.0f;
        for (int part = self; part < num_parts(); part += 32 * warps) {
            int left = (num_parts() - part + warps - 1) / warps;
            add_chunk(part, left < 32 ? left : 32, block);
        }
    }

    GPU_MEMBER void store(int first_column, const float (&four)[4], float all_weights) const {
        mla_output_t out = merged_output(p, group.first_row + row, head, top, all_weights);
        merge_store<LISTS>(out, first_column, width(), four);
        if (first_column == 0) mla_store_lse(out);
    }

    /* Adds up what the warps have summed, and stores it. */
    GPU_MEMBER void store_together(sm90_merge_side_t &side, int block) const {
        GPU_UNROLL for (int j = 0; j < QUADS; j++)
            *(float4 *)&side.acc[self][column(j)] = make_float4(acc[j][0], acc[j][1], acc[j][2], acc[j][3]);
        if (gpu_lane() == 0) side.weights[self] = weights;
        gpu_barrier();
        if (gpu_thread() < 32 * QUADS) {
            float four[4] = {-0.0f, -0.0f, -0.0f, -0.0f}, all_weights = 0;
            GPU_UNROLL for (int w = 0; w < SM90_MERGE_WARPS; w++) {
                all_weights += side.weights[w];
                GPU_UNROLL for (int i = 0; i < 4; i++) four[i] += side.acc[w][gpu_thread() * 4 + i];
            }
            store(block + gpu_thread() * 4, four, all_weights);
        }
        gpu_barrier(); /* before the next sums */
    }

    GPU_MEMBER void merge(sm90_merge_side_t &side) {
        find_top();
        for (int block = first_block; block < width(); block += SM90_MERGE_COLUMNS) {
            sum(block);
            if (warps == 1)
                GPU_UNROLL for (int j = 0; j < QUADS; j++) store(block + column(j), acc[j], weights);
            else store_together(side, block);
        }
    }
};

/* Merges a pair, or quarter `quarter` of its columns; -1: all of them. */
template <bool LISTS>
GPU_INLINE void sm90_merge_pair(const ac_mla_merge_params_t &p, const ac_merge_group_t &group, int64_t row, int head,
                                bool one_warp, int quarter, sm90_merge_side_t &side) {
    int warps = one_warp ? 1 : SM90_MERGE_WARPS, self = one_warp ? 0 : gpu_thread() / 32;
    if (head >= p.num_heads || row >= group.num_rows) return;
    if (quarter < 0) sm90_merge_t<LISTS, 4>{p, group, row, head, warps, self, 0}.merge(side);
    else sm90_merge_t<LISTS, 1>{p, group, row, head, warps, self, quarter * SM90_MERGE_COLUMNS / 4}.merge(side);
}

/* The workgroup's turn. Neighbours may share a unit of the device while others are still busy: each half of the
 * workgroups has every second one. */
GPU_INLINE uint32_t sm90_merge_turn() { return blockIdx.x % 2 * ((gridDim.x + 1) / 2) + blockIdx.x / 2; }

/* Whether `pairs` are so few that a workgroup takes a quarter of one. */
GPU_INLINE bool sm90_quarters(int64_t pairs) { return pairs * AC_MERGE_QUARTERS <= gridDim.x; }

/* Groups that are requests. The host counted the pairs: a launch with one item for each would hold them. */
GPU_INLINE void sm90_merge_requests(const ac_mla_merge_params_t &p, bool many) {
    bool one_warp = many && p.num_splits <= SM90_MERGE_ONE_WARP_PARTS;
    uint32_t pairs = (uint32_t)(p.num_groups * p.row_slots) * p.num_heads, slots = (uint32_t)p.row_slots;
    bool quarters = !one_warp && sm90_quarters(pairs);
    uint32_t step = one_warp ? SM90_MERGE_WARPS : 1, units = quarters ? pairs * AC_MERGE_QUARTERS : pairs;
    GPU_NO_UNROLL for (uint32_t unit = sm90_merge_turn() * step; unit < units; unit += gridDim.x * step) {
        uint32_t item = quarters ? unit / AC_MERGE_QUARTERS : one_warp ? unit + gpu_thread() / 32 : unit;
        if (item >= pairs) continue;
        uint32_t group_row = item / p.num_heads, head = item - group_row * p.num_heads;
        uint32_t number = group_row / slots, slot = group_row - number * slots;
        int quarter = quarters ? (int)(unit % AC_MERGE_QUARTERS) : -1;
        sm90_merge_pair<false>(p, ac_merge_request(&p, number), slot, (int)head, one_warp, quarter,
                               *(sm90_merge_side_t *)gpu_shared);
        if (slot == 0 && head == 0 && quarter <= 0)
            ac_merge_fill_unserved(&p, number, one_warp ? gpu_lane() : gpu_thread(), one_warp ? 32 : MERGE_THREADS);
    }
}

/* The heads of a group that one unit of work takes. */
GPU_INLINE int sm90_unit_heads(const ac_merge_group_t &group, bool many) {
    return many && group.num_parts <= SM90_MERGE_ONE_WARP_PARTS ? SM90_MERGE_WARPS : 1;
}

GPU_INLINE int sm90_head_units(const ac_mla_merge_params_t &p, int heads) {
    return (p.num_heads + heads - 1) / heads;
}

/* Sums over the threads up to each, into side.ends. */
GPU_INLINE void sm90_sum_units(int64_t units, sm90_merge_lists_side_t &side) {
    int lane = gpu_lane(), warp = gpu_thread() / 32;
    GPU_UNROLL for (int distance = 1; distance < 32; distance *= 2) {
        int64_t before = __shfl_up_sync(0xffffffffu, units, distance);
        if (lane >= distance) units += before;
    }
    if (lane == 31) side.warp_units[warp] = units;
    gpu_barrier();
    for (int w = 0; w < warp; w++) units += side.warp_units[w];
    side.ends[gpu_thread()] = units;
    gpu_barrier();
}

/* The groups from `first` on, one per thread: their units, in turns. */
GPU_INLINE void sm90_merge_chunk(const ac_mla_merge_params_t &p, int64_t first, bool many) {
    sm90_merge_lists_side_t &side = *(sm90_merge_lists_side_t *)gpu_shared;
    int64_t number = first + gpu_thread(), units = 0;
    if (number < p.num_groups) {
        ac_merge_group_t group = ac_merge_listed(&p, number);
        if (group.num_parts > 0) units = group.num_rows * sm90_head_units(p, sm90_unit_heads(group, many));
    }
    sm90_sum_units(units, side);
    int64_t all = side.ends[MERGE_THREADS - 1];
    bool quarters = sm90_quarters(all);
    GPU_NO_UNROLL for (int64_t i = sm90_merge_turn(); i < (quarters ? all * AC_MERGE_QUARTERS : all); i += gridDim.x) {
        int64_t unit = quarters ? i / AC_MERGE_QUARTERS : i;
        int place = 0; /* of the first end after the unit */
        for (int step = MERGE_THREADS / 2; step; step /= 2)
            if (side.ends[place + step - 1] <= unit) place += step;
        int64_t rest = unit - (place ? side.ends[place - 1] : 0);
        ac_merge_group_t group = ac_merge_listed(&p, first + place);
        int heads = sm90_unit_heads(group, many), units_of_row = sm90_head_units(p, heads), warp = gpu_thread() / 32;
        int head = (int)(rest % units_of_row) * heads + (heads > 1 ? warp : 0);
        sm90_merge_pair<true>(p, group, rest / units_of_row, head, heads > 1,
                              quarters ? (int)(i % AC_MERGE_QUARTERS) : -1, side.side);
    }
    gpu_barrier(); /* before the next ends */
}

/* Prefetches the lines of a list, shared out among all threads. */
GPU_INLINE void sm90_prefetch_list(const int32_t *list, int64_t count) {
    constexpr int LINE = 128 / sizeof(int32_t);
    if (!list) return;
    for (int64_t i = LINE * ((int64_t)gpu_block() * MERGE_THREADS + gpu_thread()); i < count;
         i += (int64_t)LINE * gridDim.x * MERGE_THREADS)
        sm90_prefetch(list + i);
}

template <int COLUMNS, bool LISTS> GPU_INLINE void merge_partials(const ac_mla_merge_params_t &p) {
    static_assert(COLUMNS == SM90_MERGE_COLUMNS, "a lane has 16 of 512 columns");
    if (!p.lists_are_complete) {
        if (LISTS) {
            sm90_prefetch_list(p.reduce_indptr, p.num_groups + 1);
            sm90_prefetch_list(p.final_map, 2 * p.num_groups);
            sm90_prefetch_list(p.partial_map, p.num_entries);
        }
        sm90_wait_for_previous();
    }
    bool many = p.num_groups * p.row_slots * p.num_heads >= SM90_MERGE_ONE_WARP_PAIRS;
    if constexpr (LISTS) {
        for (int64_t first = 0; first < p.num_groups; first += MERGE_THREADS) sm90_merge_chunk(p, first, many);
    } else {
        sm90_merge_requests(p, many);
    }
    sm90_wait_for_previous(); /* nobody ends before it */
}

#endif
