/* Keys and values of a prefill tile on their way into LDS: through registers (gfx942), or directly (gfx950). Both
 * streams have the same functions: start(...)      the first loads take_keys()     the keys of the next tile are in
 * LDS; false at the end start_values()  the loads of its values take_values()   its values are in LDS and between them
 * `left` keys from the tile on, `keys` and `values`, LDS addresses, and valid(), bits of its keys. */
#ifndef AC_OPS_MLA_PREFILL_GFX9_STREAM_H
#define AC_OPS_MLA_PREFILL_GFX9_STREAM_H

#include "../../../gpu/gfx9/direct_load.h"
#include "../../../gpu/gfx9/fp8.h"
#include "../tiles.h"
#include "shape.h"

/* What is loaded instead of a masked row: no branch, and zeros. */
static const __device__ __attribute__((aligned(64))) char nothing[512] = {};

/* The keys and values of one head that a tile of query rows needs. Key number i of them is in slot slots[i], or in slot
 * first_slot + i. */
typedef struct prefill_source_t {
    const char *k, *v;
    uint64_t k_stride, v_stride;
    const int32_t *slots; /* or NULL */
    int64_t num_slots;
    int32_t first_slot;
    int32_t num_keys;
    bool other_fp8; /* not the arch's own kind */
} prefill_source_t;

GPU_INLINE prefill_source_t prefill_source(const ac_mla_prefill_params_t &p, const ac_prefill_tile_t &tile) {
    prefill_source_t out;
    out.k = p.k + tile.kv_head * p.k_head_stride, out.k_stride = (uint64_t)p.k_row_stride;
    out.v = p.v + tile.kv_head * p.v_head_stride, out.v_stride = (uint64_t)p.v_row_stride;
    out.slots = tile.slots ? tile.slots + tile.begin : nullptr;
    out.first_slot = (int32_t)(tile.first_slot + tile.begin);
    out.num_slots = p.num_slots;
    out.num_keys = tile.end - tile.begin;
    out.other_fp8 = fp8_is_other(p.kv_dtype);
    return out;
}

GPU_INLINE const char *row_at(const char *base, uint64_t stride, int32_t slot) {
    const char *row = base + (uint32_t)slot * stride;
    asm volatile("" : "+v"(row)); /* a choice, not a branch */
    return slot < 0 ? nothing : row;
}

#if defined(__gfx950__)

/* --- loads from memory to LDS, unconverted. They arrive in the order in which they were started, so a wave waits by
 * counting them:  ... entries(u + STAGES - 1), rows(u), entries(u + STAGES), rows(u + 1) ...
 * Entries are those of kv_indices for the rows that this wave loads; each wave keeps its own in LDS. One barrier per
 * tile: when all waves have got their rows of a tile, they are also done with the tile before, and the next loads take
 * its stage. */
template <class s_t> struct prefill_stream_t {
    int32_t left; /* keys from the tile on */
    uint32_t keys, values;
    uint32_t stage;
    prefill_source_t source;
    bool aligned; /* rows begin at multiples of 16 bytes, as direct loads want them */
    int wave;
    uint64_t k_lane, v_lane; /* the lane's place in a group of rows that follow each other */

    /* Of a wave for a tile. */
    static constexpr int ROW_LOADS = s_t::WIDENS ? 0 : s_t::LOADS * (s_t::K_RUNS + s_t::V_RUNS);
    static constexpr int FLYING = s_t::STAGES - 2; /* tiles behind the one that is waited for */

    GPU_MEMBER int first_group() const { return wave * s_t::LOADS / s_t::PARTS; }
    GPU_MEMBER uint32_t entries_at(uint32_t of_stage) const {
        return s_t::ENTRIES_AT + (of_stage * WAVES + wave) * s_t::ENTRIES_BYTES;
    }
    GPU_MEMBER uint32_t valid(int sub) const { return lds<uint32_t>(s_t::VALID_AT + stage * 16 + sub * 4); }

    /* Entries of the tile that has `from` keys from its first on. */
    GPU_MEMBER void load_entries(int32_t from, uint32_t of_stage) const {
        static_assert(s_t::LOADS * 16 <= 64, "a lane loads one entry");
        const int t = lane_again(), key = first_group() * 16 + t;
        const void *entry = source.slots + (source.num_keys - from) + key;
        if (t >= s_t::LOADS * 16 || key >= from) entry = nothing;
        start_load4(entry, entries_at(of_stage));
    }

    /* The slot of the lane's key, one of 16 of which there are `from`; -1 if it is masked. */
    GPU_MEMBER int32_t slot_of(uint32_t entries, uint32_t row, int32_t from, int32_t first) const {
        int32_t slot = first + (int32_t)row;
        if (source.slots) slot = lds<int32_t>(entries + row * 4);
        return (int32_t)row >= from || slot < 0 || slot >= source.num_slots ? -1 : slot;
    }

    /* This wave's part of a group of fp8 rows of RUNS runs, widened on the way and waited for: for a kind of fp8 that
     * the arch's instructions do not take, which is not in the hurry of the others. */
    template <int RUNS> GPU_MEMBER void widen_rows(const char *from, uint32_t to, int part) const {
        GPU_NO_UNROLL for (int r = part; r < RUNS; r += s_t::PARTS) {
            const uint32_t lane = lane_again(), row = s_t::swizzle(lane % 16, lane / 16);
            const u32x4_t loaded[1] = {gpu_load<u32x4_t>(from + r * 64)};
            u32x4_t chunks[2];
            widen_fp8<typename s_t::matrix_t>(loaded, source.other_fp8, chunks);
            GPU_UNROLL for (int i = 0; i < 2; i++) {
                const uint32_t chunk = lane / 16 * 2 + i; /* of two runs */
                lds<u32x4_t>(to + (r * 2 + chunk / 4) * 1024 + chunk % 4 * 256 + s_t::swizzle(row, chunk) * 16) =
                    chunks[i];
            }
        }
    }

    /* Rows whose slots follow each other, the normal case, need no address of their own. */
    GPU_MEMBER void load_group(int32_t from, int i, uint32_t to_stage) const {
        const uint32_t lane = lane_again(), row = s_t::swizzle(lane % 16, lane / 16);
        const int group = first_group() + i, part = wave % s_t::PARTS;
        const int32_t first = source.first_slot + (source.num_keys - from) + group * 16;
        from -= group * 16;
        const char *k, *v;
        uint16_t valid = 0xffff;
        int32_t run = from >= 16 ? first : -1, slot = 0;
        if (source.slots || run < 0) {
            slot = slot_of(entries_at(to_stage) + i * 64, row, from, first);
            run = gpu_uniform(slot); /* lane 0 has the first */
            if (gpu_any(slot < 0 || slot != run + (int)row)) run = -1;
        }
        if (run >= 0) {
            k = source.k + (uint32_t)run * source.k_stride + k_lane;
            v = source.v + (uint32_t)run * source.v_stride + v_lane;
        } else {
            valid = (uint16_t)__builtin_amdgcn_ballot_w64(slot >= 0); /* lanes 0 to 15 have keys 0 to 15 */
            k = row_at(source.k, source.k_stride, slot) + lane / 16 * 16;
            v = row_at(source.v, source.v_stride, slot) + lane / 16 * 16;
        }
        if (part == 0 && lane == 0) lds<uint16_t>(s_t::VALID_AT + to_stage * 16 + group * 2) = valid;
        uint32_t k_to = to_stage * s_t::STAGE_BYTES + group * s_t::K_GROUP;
        uint32_t v_to = to_stage * s_t::STAGE_BYTES + s_t::V_AT + group * s_t::V_GROUP;
        if constexpr (s_t::WIDENS) {
            widen_rows<s_t::K_ROW / 128>(k, k_to, part);
            widen_rows<s_t::V_ROW / 128>(v, v_to, part);
            return;
        }
        k += part * s_t::K_RUNS * 64, v += part * s_t::V_RUNS * 64;
        k_to += part * s_t::K_RUNS * 1024, v_to += part * s_t::V_RUNS * 1024;
        if (aligned) {
            start_runs<s_t::K_RUNS, 1024>(k, k_to);
            start_runs<s_t::V_RUNS, 1024>(v, v_to);
        } else {
            copy_runs<s_t::K_RUNS, 1024>(k, k_to);
            copy_runs<s_t::V_RUNS, 1024>(v, v_to);
        }
    }

    /* Starts the loads of the tile that has `from` keys from its first on, if there is one. */
    GPU_MEMBER void fill(int32_t from, uint32_t to_stage) const {
        if (from <= 0) return;
        if (source.slots) load_entries(from - (s_t::STAGES - 1) * s_t::TILE, to_stage ? to_stage - 1 : s_t::STAGES - 1);
        GPU_UNROLL for (int i = 0; i < s_t::LOADS; i++) load_group(from, i, to_stage);
    }

    GPU_MEMBER void start(const prefill_source_t &of, int of_wave) {
        wave = of_wave, source = of;
        aligned = (((uint64_t)of.k | of.k_stride | (uint64_t)of.v | of.v_stride) & 15) == 0;
        left = of.num_keys + s_t::TILE, stage = s_t::STAGES - 1; /* a tile before the first */
        const uint32_t lane = lane_again(), row = s_t::swizzle(lane % 16, lane / 16);
        k_lane = row * of.k_stride + lane / 16 * 16, v_lane = row * of.v_stride + lane / 16 * 16;
        if (of.slots)
            GPU_NO_UNROLL for (int s = 0; s < s_t::STAGES - 1; s++) load_entries(of.num_keys - s * s_t::TILE, s);
        wait_for_all();
        GPU_NO_UNROLL for (int s = 0; s < s_t::STAGES - 1; s++) fill(of.num_keys - s * s_t::TILE, s);
    }

    GPU_MEMBER bool take_keys() {
        left -= s_t::TILE;
        if (left <= 0) return false;
        /* After this tile's rows come those of the next tiles, each with its entries, or the list ends. */
        if (left <= FLYING * s_t::TILE) wait_for_all_but<0>();
        else if (source.slots) wait_for_all_but<FLYING * (ROW_LOADS + 1)>();
        else wait_for_all_but<FLYING * ROW_LOADS>();
        gpu_barrier();
        fill(left - (s_t::STAGES - 1) * s_t::TILE, stage);
        stage = stage == s_t::STAGES - 1 ? 0 : stage + 1;
        keys = stage * s_t::STAGE_BYTES, values = keys + s_t::V_AT;
        return true;
    }
    GPU_MEMBER void start_values() {}
    GPU_MEMBER void take_values() {}
};

#else

/* --- through registers: the values of a tile load while its scores are computed, the keys of the next one while the
 * values are multiplied. The slots of a tile are in LDS one tile ahead, their entries are loaded two ahead. */
template <class s_t> struct prefill_stream_t {
    typedef typename s_t::matrix_t matrix_t;
    int32_t left;
    static constexpr uint32_t keys = 0, values = s_t::V_AT;
    uint32_t parity; /* of the tile: which of the two lists of slots */
    prefill_source_t source;
    int32_t unknown; /* the last keys, as many as have no entry yet */
    int32_t slot;    /* lane t of wave 0: of key t of the tile before those */
    int wave;

    /* A lane's values: 4 keys, and as many columns as are 8 bytes. */
    static constexpr int ROW_LANES = s_t::V_ROW / 8, V_STEPS = s_t::TILE / 4 / WAVES * ROW_LANES / 64;
    u32x4_t key_chunks[s_t::LOADS][s_t::K_RUNS];
    u32x2_t value_rows[V_STEPS][4];
    static_assert(s_t::TILE <= 64, "wave 0 has the slots");

    GPU_MEMBER uint32_t slots_at(uint32_t of) const { return s_t::SLOTS_AT + of * s_t::TILE * 4; }
    GPU_MEMBER uint32_t valid(int sub) const { return lds<uint32_t>(s_t::VALID_AT + parity * 16 + sub * 4); }
    GPU_MEMBER int32_t run_of(uint32_t of) const { return gpu_uniform(lds<int32_t>(s_t::VALID_AT + of * 16 + 8)); }
    GPU_MEMBER int quad(uint32_t lane, int step) const {
        return wave * (s_t::TILE / 4 / WAVES) + step * (64 / ROW_LANES) + (int)lane / ROW_LANES;
    }

    GPU_MEMBER void load_entries() {
        if (wave != 0) return;
        const int t = lane_again();
        slot = -1;
        const int32_t key = source.num_keys - unknown + t;
        if (t < s_t::TILE && t < unknown) slot = source.slots ? gpu_entry(source.slots + key) : source.first_slot + key;
        unknown -= s_t::TILE;
    }
    GPU_MEMBER void store_slots(uint32_t to) const {
        if (wave != 0) return;
        const uint32_t lane = lane_again();
        const bool exists = slot >= 0 && slot < source.num_slots;
        const int32_t first = gpu_uniform(slot);
        const uint64_t bits = __builtin_amdgcn_ballot_w64(exists), all = ~0ull >> (64 - s_t::TILE);
        const bool is_run = (__builtin_amdgcn_ballot_w64(exists && slot == first + (int)lane) & all) == all;
        if (lane < s_t::TILE) lds<int32_t>(slots_at(to) + lane * 4) = exists ? slot : -1;
        if (lane == 0) {
            GPU_UNROLL for (int sub = 0; sub < s_t::SUBS; sub++)
                lds<uint32_t>(s_t::VALID_AT + to * 16 + sub * 4) = (uint32_t)(bits >> sub * 32);
            lds<int32_t>(s_t::VALID_AT + to * 16 + 8) = is_run ? first : -1;
        }
    }

    /* Rows of a tile whose slots follow each other, the normal case, need no look at them. */
    GPU_MEMBER void load_keys(uint32_t of) {
        const uint32_t lane = lane_again();
        const int32_t run = run_of(of);
        GPU_UNROLL for (int i = 0; i < s_t::LOADS; i++) {
            const int group = wave * s_t::LOADS / s_t::PARTS + i, part = wave % s_t::PARTS;
            const char *from = source.k + (uint32_t)(run + group * 16) * source.k_stride + lane % 16 * source.k_stride;
            if (run < 0)
                from = row_at(source.k, source.k_stride, lds<int32_t>(slots_at(of) + (group * 16 + lane % 16) * 4));
            from += lane / 16 * 16 + part * s_t::K_RUNS * 64;
            GPU_UNROLL for (int r = 0; r < s_t::K_RUNS; r++) key_chunks[i][r] = gpu_load<u32x4_t>(from + r * 64);
        }
    }
    GPU_MEMBER void load_values(uint32_t of) {
        const uint32_t lane = lane_again();
        const int32_t run = run_of(of);
        GPU_UNROLL for (int step = 0; step < V_STEPS; step++) {
            const char *from[4];
            if (run >= 0) {
                from[0] = source.v + (uint32_t)run * source.v_stride + quad(lane, step) * 4 * source.v_stride;
                GPU_UNROLL for (int i = 1; i < 4; i++) from[i] = from[i - 1] + source.v_stride;
            } else {
                u32x4_t rows = lds<u32x4_t>(slots_at(of) + quad(lane, step) * 16);
                GPU_UNROLL for (int i = 0; i < 4; i++) from[i] = row_at(source.v, source.v_stride, (int32_t)rows[i]);
            }
            GPU_UNROLL for (int i = 0; i < 4; i++)
                value_rows[step][i] = gpu_load<u32x2_t>(from[i] + lane % ROW_LANES * 8);
            __builtin_amdgcn_sched_barrier(0); /* the next addresses take the same registers */
        }
    }

    GPU_MEMBER void store_keys() {
        const uint32_t lane = lane_again();
        GPU_UNROLL for (int i = 0; i < s_t::LOADS; i++) {
            const int group = wave * s_t::LOADS / s_t::PARTS + i, part = wave % s_t::PARTS;
            const uint32_t to = keys + group * s_t::K_GROUP + part * s_t::K_RUNS * 1024 + lane * 16;
            if (s_t::BYTES == 1 && source.other_fp8) fnuz_of_fn(key_chunks[i]);
            GPU_UNROLL for (int r = 0; r < s_t::K_RUNS; r++) lds<u32x4_t>(to + r * 1024) = key_chunks[i][r];
        }
    }
    GPU_MEMBER void store_values() {
        constexpr int COLUMNS = 8 / s_t::BYTES, TILES = s_t::COLUMN_TILES; /* a lane's columns */
        const uint32_t lane = lane_again(), column = lane % ROW_LANES * COLUMNS;
        GPU_UNROLL for (int step = 0; step < V_STEPS; step++) {
            /* The quad's place: which of CHUNK_KEYS keys, which half of the wave, which bytes of 16. */
            const uint32_t number = quad(lane, step), in_chunk = number % (s_t::CHUNK_KEYS / 4);
            const uint32_t to = values + number / (s_t::CHUNK_KEYS / 4) * TILES * 1024 + in_chunk % 2 * 512 +
                                in_chunk / 2 * 4 * s_t::BYTES + column / TILES * 16 + column % TILES * 1024;
            u32x2_t(&x)[4] = value_rows[step];
            if constexpr (s_t::BYTES == 1) {
                if (source.other_fp8) fnuz_of_fn(x);
                GPU_UNROLL for (int w = 0; w < 2; w++) {
                    uint32_t columns[4];
                    transpose_4x4({x[0][w], x[1][w], x[2][w], x[3][w]}, columns);
                    GPU_UNROLL for (int e = 0; e < 4; e++) {
                        int c = w * 4 + e;
                        lds<uint32_t>(to + c / TILES * 16 + c % TILES * 1024) = columns[e];
                    }
                }
            } else {
                GPU_UNROLL for (int c = 0; c < 4; c++) {
                    u32x2_t keys_of_column;
                    GPU_UNROLL for (int i = 0; i < 2; i++)
                        keys_of_column[i] = __builtin_amdgcn_perm(x[2 * i + 1][c / 2], x[2 * i][c / 2],
                                                                  c % 2 ? 0x07060302 : 0x05040100);
                    lds<u32x2_t>(to + c * 1024) = keys_of_column;
                }
            }
        }
    }

    GPU_MEMBER void start(const prefill_source_t &of, int of_wave) {
        wave = of_wave, source = of, unknown = of.num_keys;
        left = of.num_keys + s_t::TILE, parity = 0; /* a tile before the first */
        load_entries();
        store_slots(0);
        load_entries();
        gpu_barrier();
        load_keys(0);
    }
    GPU_MEMBER bool take_keys() {
        left -= s_t::TILE;
        if (left <= 0) return false;
        if (s_t::SHARED) gpu_barrier(); /* the values there are done */
        store_keys();
        store_slots(parity ^ 1);
        gpu_barrier();
        return true;
    }
    /* The next entries are loaded here and not where the last were used: no load is to be in flight at the end of an
     * iteration, where the compiler moves registers and waits for it. */
    GPU_MEMBER void start_values() {
        load_entries();
        load_values(parity);
    }
    GPU_MEMBER void take_values() {
        __builtin_amdgcn_sched_barrier(0); /* probabilities first, while the values are on their way */
        if (s_t::SHARED) gpu_barrier(); /* the keys there are done */
        store_values();
        parity ^= 1;
        load_keys(parity);
        gpu_barrier();
    }
};

#endif

#endif
