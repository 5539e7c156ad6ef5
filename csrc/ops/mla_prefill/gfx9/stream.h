/* Keys and values of a prefill tile on their way into LDS: through registers (gfx942), or directly (gfx950). Both
 * streams have the same functions: start(...)      the first loads take_keys()     the keys of the next tile are in
 * LDS; false at the end start_values()  the loads of its values take_values()   its values are in LDS and between them
 * `left` keys from the tile on, `keys` and `values`, LDS addresses, and valid(), bits of its keys. */
#ifndef AC_OPS_MLA_PREFILL_GFX9_STREAM_H
#define AC_OPS_MLA_PREFILL_GFX9_STREAM_H

#include "../../../gpu/gfx9/direct_load.h"
#include "../../../gpu/gfx9/bytes.h"
#include "../tiles.h"
#include "shape.h"

/* What is loaded instead of a masked row: no branch, and zeros. */
static const __device__ __attribute__((aligned(64))) char nothing[512] = {};

/* The keys and values of one head, and a position in the list of the request's. */
typedef struct prefill_source_t {
    const char *k, *v;
    uint64_t k_stride, v_stride;
    int64_t num_slots;
    bool other_fp8; /* not the arch's own kind */
} prefill_source_t;

typedef struct prefill_cursor_t {
    const int32_t *slots; /* or NULL */
    int64_t first_slot;
    int32_t left;
} prefill_cursor_t;

GPU_INLINE prefill_source_t prefill_source(const ac_mla_prefill_params_t &p, const ac_prefill_tile_t &tile) {
    prefill_source_t out;
    out.k = p.k + tile.kv_head * p.k_head_stride, out.k_stride = (uint64_t)p.k_row_stride;
    out.v = p.v + tile.kv_head * p.v_head_stride, out.v_stride = (uint64_t)p.v_row_stride;
    out.num_slots = p.num_slots;
    out.other_fp8 = fp8_is_other(p.kv_dtype);
    return out;
}

GPU_INLINE prefill_cursor_t prefill_cursor(const ac_prefill_tile_t &tile) {
    return (prefill_cursor_t){tile.slots ? tile.slots + tile.begin : nullptr, tile.first_slot + tile.begin,
                              tile.end - tile.begin};
}

GPU_INLINE void advance(int keys, prefill_cursor_t *cursor) {
    if (cursor->slots) cursor->slots += keys;
    cursor->first_slot += keys, cursor->left -= keys;
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
    int32_t left;
    uint32_t keys, values;
    uint32_t stage;
    prefill_source_t source;
    prefill_cursor_t row_cursor, entry_cursor; /* at the rows that are loaded next; at those whose entries are */
    bool aligned;                              /* rows begin at multiples of 16 bytes, as direct loads want them */
    int wave;

    static constexpr int ROW_LOADS = s_t::LOADS * (s_t::K_RUNS + s_t::V_RUNS); /* of a wave for a tile */

    GPU_MEMBER int first_group() const { return wave * s_t::LOADS / s_t::PARTS; }
    GPU_MEMBER uint32_t entries_at(uint32_t of_stage) const {
        return s_t::ENTRIES_AT + (of_stage * WAVES + wave) * s_t::ENTRIES_BYTES;
    }
    GPU_MEMBER uint32_t valid(int sub) const { return lds<uint32_t>(s_t::VALID_AT + stage * 16 + sub * 4); }

    GPU_MEMBER void load_entries(uint32_t of_stage) {
        static_assert(s_t::LOADS * 16 <= 64, "a lane loads one entry");
        const int t = lane_again(), key = first_group() * 16 + t;
        const void *entry = nothing;
        if (entry_cursor.slots && t < s_t::LOADS * 16 && key < entry_cursor.left) entry = entry_cursor.slots + key;
        start_load4(entry, entries_at(of_stage));
        advance(s_t::TILE, &entry_cursor);
    }

    GPU_MEMBER void load_group(int i, uint32_t to_stage) const {
        const uint32_t lane = lane_again(), row = s_t::swizzle(lane % 16, lane / 16);
        const int group = first_group() + i, part = wave % s_t::PARTS, key = group * 16 + (int)row;
        int32_t slot = (int32_t)(row_cursor.first_slot + key);
        if (row_cursor.slots) slot = lds<int32_t>(entries_at(to_stage) + (i * 16 + row) * 4);
        if (key >= row_cursor.left || slot < 0 || slot >= source.num_slots) slot = -1;
        uint32_t bits = (uint32_t)__builtin_amdgcn_ballot_w64(slot >= 0); /* lanes 0 to 15 have keys 0 to 15 */
        if (part == 0 && lane == 0) lds<uint16_t>(s_t::VALID_AT + to_stage * 16 + group * 2) = (uint16_t)bits;
        const char *k = row_at(source.k, source.k_stride, slot) + lane / 16 * 16 + part * s_t::K_RUNS * 64;
        const char *v = row_at(source.v, source.v_stride, slot) + lane / 16 * 16 + part * s_t::V_RUNS * 64;
        uint32_t k_to = to_stage * s_t::STAGE_BYTES + group * s_t::K_GROUP + part * s_t::K_RUNS * 1024;
        uint32_t v_to = to_stage * s_t::STAGE_BYTES + s_t::V_AT + group * s_t::V_GROUP + part * s_t::V_RUNS * 1024;
        if (aligned) {
            start_runs<s_t::K_RUNS, 1024>(k, k_to);
            start_runs<s_t::V_RUNS, 1024>(v, v_to);
        } else {
            copy_runs<s_t::K_RUNS, 1024>(k, k_to);
            copy_runs<s_t::V_RUNS, 1024>(v, v_to);
        }
    }

    GPU_MEMBER void fill(uint32_t to_stage) {
        if (row_cursor.left <= 0) return;
        load_entries(to_stage ? to_stage - 1 : s_t::STAGES - 1);
        GPU_UNROLL for (int i = 0; i < s_t::LOADS; i++) load_group(i, to_stage);
        advance(s_t::TILE, &row_cursor);
    }

    GPU_MEMBER void start(const prefill_source_t &of, const prefill_cursor_t &begin, int of_wave) {
        wave = of_wave, source = of, row_cursor = entry_cursor = begin;
        aligned = (((uint64_t)of.k | of.k_stride | (uint64_t)of.v | of.v_stride) & 15) == 0;
        left = begin.left + s_t::TILE, stage = s_t::STAGES - 1; /* a tile before the first */
        GPU_NO_UNROLL for (uint32_t s = 0; s < s_t::STAGES - 1; s++) load_entries(s);
        wait_for_all();
        GPU_NO_UNROLL for (uint32_t s = 0; s < s_t::STAGES - 1; s++) fill(s);
    }

    GPU_MEMBER bool take_keys() {
        left -= s_t::TILE;
        if (left <= 0) return false;
        /* After this tile's rows come those of the next STAGES - 2 tiles, each with its entries, or the list ends. */
        if (left > (s_t::STAGES - 2) * s_t::TILE) wait_for_all_but<(s_t::STAGES - 2) * (ROW_LOADS + 1)>();
        else wait_for_all_but<0>();
        gpu_barrier();
        fill(stage);
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
    prefill_cursor_t entry_cursor; /* at the keys whose entries are loaded next */
    int32_t slot;                  /* lane t of wave 0: of key t of the tile before that */
    int wave;

    /* A lane's values: 4 keys, and as many columns as are 8 bytes. */
    static constexpr int ROW_LANES = s_t::V_ROW / 8, V_STEPS = s_t::TILE / 4 / WAVES * ROW_LANES / 64;
    u32x4_t key_chunks[s_t::LOADS][s_t::K_RUNS];
    u32x2_t value_rows[V_STEPS][4];
    static_assert(s_t::TILE <= 64, "wave 0 has the slots");

    GPU_MEMBER uint32_t slots_at(uint32_t of) const { return s_t::SLOTS_AT + of * s_t::TILE * 4; }
    GPU_MEMBER uint32_t valid(int sub) const { return lds<uint32_t>(s_t::VALID_AT + parity * 8 + sub * 4); }
    GPU_MEMBER int quad(uint32_t lane, int step) const {
        return wave * (s_t::TILE / 4 / WAVES) + step * (64 / ROW_LANES) + (int)lane / ROW_LANES;
    }

    GPU_MEMBER void load_entries() {
        if (wave != 0) return;
        const int t = lane_again();
        slot = -1;
        if (t < s_t::TILE && t < entry_cursor.left)
            slot = entry_cursor.slots ? gpu_entry(entry_cursor.slots + t) : (int32_t)(entry_cursor.first_slot + t);
        advance(s_t::TILE, &entry_cursor);
    }
    GPU_MEMBER void store_slots(uint32_t to) const {
        if (wave != 0) return;
        const uint32_t lane = lane_again();
        const bool exists = slot >= 0 && slot < source.num_slots;
        const uint64_t bits = __builtin_amdgcn_ballot_w64(exists);
        if (lane < s_t::TILE) lds<int32_t>(slots_at(to) + lane * 4) = exists ? slot : -1;
        if (lane == 0)
            GPU_UNROLL for (int sub = 0; sub < s_t::SUBS; sub++)
                lds<uint32_t>(s_t::VALID_AT + to * 8 + sub * 4) = (uint32_t)(bits >> sub * 32);
    }

    GPU_MEMBER void load_keys(uint32_t of) {
        const uint32_t lane = lane_again();
        GPU_UNROLL for (int i = 0; i < s_t::LOADS; i++) {
            const int group = wave * s_t::LOADS / s_t::PARTS + i, part = wave % s_t::PARTS;
            int32_t row = lds<int32_t>(slots_at(of) + (group * 16 + lane % 16) * 4);
            const char *from = row_at(source.k, source.k_stride, row) + lane / 16 * 16 + part * s_t::K_RUNS * 64;
            GPU_UNROLL for (int r = 0; r < s_t::K_RUNS; r++) key_chunks[i][r] = gpu_load<u32x4_t>(from + r * 64);
        }
    }
    GPU_MEMBER void load_values(uint32_t of) {
        const uint32_t lane = lane_again();
        GPU_UNROLL for (int step = 0; step < V_STEPS; step++) {
            u32x4_t rows = lds<u32x4_t>(slots_at(of) + quad(lane, step) * 16);
            GPU_UNROLL for (int i = 0; i < 4; i++)
                value_rows[step][i] = gpu_load<u32x2_t>(row_at(source.v, source.v_stride, (int32_t)rows[i]) +
                                                        lane % ROW_LANES * 8);
            __builtin_amdgcn_sched_barrier(0); /* the next addresses take the same registers */
        }
    }

    GPU_MEMBER void store_keys() {
        const uint32_t lane = lane_again();
        GPU_UNROLL for (int i = 0; i < s_t::LOADS; i++) {
            const int group = wave * s_t::LOADS / s_t::PARTS + i, part = wave % s_t::PARTS;
            const uint32_t to = keys + group * s_t::K_GROUP + part * s_t::K_RUNS * 1024 + lane * 16;
            GPU_UNROLL for (int r = 0; r < s_t::K_RUNS; r++) {
                if (s_t::BYTES == 1 && source.other_fp8)
                    GPU_UNROLL for (int w = 0; w < 4; w++) key_chunks[i][r][w] = fnuz_of_fn(key_chunks[i][r][w]);
                lds<u32x4_t>(to + r * 1024) = key_chunks[i][r];
            }
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
                if (source.other_fp8)
                    GPU_UNROLL for (int i = 0; i < 4; i++) x[i].x = fnuz_of_fn(x[i].x), x[i].y = fnuz_of_fn(x[i].y);
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

    GPU_MEMBER void start(const prefill_source_t &of, const prefill_cursor_t &begin, int of_wave) {
        wave = of_wave, source = of, entry_cursor = begin;
        left = begin.left + s_t::TILE, parity = 0; /* a tile before the first */
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
        load_entries();
        gpu_barrier();
        return true;
    }
    GPU_MEMBER void start_values() { load_values(parity); }
    GPU_MEMBER void take_values() {
        if (s_t::SHARED) gpu_barrier(); /* the keys there are done */
        store_values();
        parity ^= 1;
        load_keys(parity);
        gpu_barrier();
    }
};

#endif

#endif
