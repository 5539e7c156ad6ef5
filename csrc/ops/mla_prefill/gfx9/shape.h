/* What a prefill kernel of gfx942 or gfx950 is made of: its types and widths, and where things are in LDS.
 *
 * Keys and, on gfx950, values: groups of 16 rows, in a group run after run of 64 bytes, in a run chunk after chunk of
 * 16 bytes, in a chunk the 16 rows: 1024 bytes that are the lanes of one load. On gfx950 the rows of a chunk are in an
 * order of their own (swizzle()), so that the transposing reads of values have no bank conflict: 32 lanes read 4
 * (8-bit: 8) rows of 4 (2) chunks. Values on gfx942: transposed as they are stored. 16 bytes are one column of
 * CHUNK_KEYS keys, those that a lane needs for one multiplication, in its order; 1024 bytes are 32 columns, lane after
 * lane. */
#ifndef AC_OPS_MLA_PREFILL_GFX9_SHAPE_H
#define AC_OPS_MLA_PREFILL_GFX9_SHAPE_H

#include "../../../gpu/gfx9/lanes.h"
#include "../../../gpu/gfx9/matrix32.h"

constexpr int WAVES = 4, WAVE_ROWS = 32, PREFILL_ROWS = WAVES * WAVE_ROWS;

/* TILE_: keys of a tile. STAGES_: tiles in LDS, loaded directly (gfx950). LDS_CHUNKS_: chunks of a lane's query that
 * are in LDS and not in registers. SHARED_: values take the place of the keys they belong to (gfx942). WIDENS_:
 * operands come as fp8 of either kind, for a 16-bit matrix type (gfx950). */
template <class matrix_type, int D, int DV, int TILE_, int STAGES_, int LDS_CHUNKS_, bool SHARED_, bool WIDENS_ = false>
struct shape_t {
    typedef matrix_type matrix_t;
    static constexpr int BYTES = matrix_t::BYTES, CHUNKS = matrix32_t<matrix_t>::CHUNKS;
    static constexpr int K_ROW = D * BYTES, V_ROW = DV * BYTES, VALUE_DIM = DV;
    static constexpr int QUERY = K_ROW / 32;             /* chunks of a query in a lane */
    static constexpr int STEPS = QUERY / CHUNKS;         /* multiplications for the scores */
    static constexpr int COLUMN_TILES = DV / 32;         /* of the output */
    static constexpr int CHUNK_KEYS = 32 / BYTES;        /* whose probabilities are 16 bytes in each of two lanes */
    static constexpr int TILE = TILE_, SUBS = TILE / 32; /* sub-tiles: what one multiplication scores */
    static constexpr int VALUE_CHUNKS = TILE / CHUNK_KEYS;
    static constexpr int UNITS = VALUE_CHUNKS / CHUNKS, UNIT_KEYS = TILE / UNITS; /* of one multiplication of values */
    static constexpr int LDS_CHUNKS = LDS_CHUNKS_, REGISTER_CHUNKS = QUERY - LDS_CHUNKS, STAGES = STAGES_;
    static constexpr bool SHARED = SHARED_, WIDENS = WIDENS_;
    /* What is read from LDS is read so many multiplications ahead, as registers allow; the compiler by itself waits for
     * every read. */
    static constexpr int AHEAD = DV > 128 ? 2 : 4;
    static constexpr bool BY_SUM = BYTES == 2 && (DV <= 128 || STAGES > 0); /* see online_softmax() */

    /* How waves divide the loads: groups of 16 keys, LOADS for each, or PARTS waves for one group. */
    static constexpr int GROUPS = TILE / 16;
    static constexpr int LOADS = GROUPS > WAVES ? GROUPS / WAVES : 1, PARTS = GROUPS < WAVES ? WAVES / GROUPS : 1;
    static constexpr int K_RUNS = K_ROW / 64 / PARTS, V_RUNS = V_ROW / 64 / PARTS;
    static constexpr int K_GROUP = 16 * K_ROW, V_GROUP = 16 * V_ROW;
    static_assert(K_RUNS * PARTS * 64 == K_ROW && V_RUNS * PARTS * 64 == V_ROW, "a wave loads whole runs");
    static_assert(STEPS * CHUNKS == QUERY && UNITS * CHUNKS == VALUE_CHUNKS, "multiplications take whole steps");

    /* LDS. gfx950: stages, of keys, values and one word per 32 keys: which are valid; entries of kv_indices for each
     * stage and wave; queries. gfx942: keys, values, and for two tiles their slots,
     * valid words, and the first slot of keys that follow each other; queries. */
    static constexpr int K_BYTES = TILE * K_ROW, V_BYTES = TILE * V_ROW;
#if defined(__gfx950__)
    static constexpr int V_AT = K_BYTES, STAGE_BYTES = V_AT + V_BYTES, VALID_AT = STAGES * STAGE_BYTES;
    static constexpr int ENTRIES_AT = VALID_AT + STAGES * 16, ENTRIES_BYTES = 256;
    static constexpr int QUERY_AT = ENTRIES_AT + STAGES * WAVES * ENTRIES_BYTES;
#else
    static constexpr int V_AT = SHARED ? 0 : K_BYTES, SLOTS_AT = V_AT + V_BYTES, VALID_AT = SLOTS_AT + 2 * TILE * 4;
    static constexpr int QUERY_AT = VALID_AT + 32;
#endif
    static constexpr int BYTES_USED = QUERY_AT + WAVES * LDS_CHUNKS * 1024;

    /* The position of row `row` of a group in chunk number `chunk` of a run. */
    GPU_INLINE uint32_t swizzle(uint32_t row, uint32_t chunk) {
#if defined(__gfx950__)
        return row ^ (BYTES == 1 ? chunk % 2 : chunk % 4) * 4;
#else
        return row;
#endif
    }
};

/* A lane's part of the addresses of keys: row c of 32, chunk h of a run. */
template <class s_t> GPU_INLINE uint32_t key_part(uint32_t lane) {
    return keep_in_register(lane / 16 % 2 * s_t::K_GROUP + lane / 32 * 256 + s_t::swizzle(lane % 16, lane / 32) * 16);
}
/* Chunk i of the lane's is number 2 i + h of the row. `at`: the keys' address and the lane's part. */
template <class s_t> GPU_INLINE u32x4_t read_key(uint32_t at, int sub, int i) {
    const uint32_t swizzled = s_t::swizzle(0, i % 2 * 2) * 16; /* of the odd chunks */
    return lds<u32x4_t>((at ^ swizzled) + sub * 2 * s_t::K_GROUP + i / 2 * 1024 + i % 2 * 512);
}

/* Values as A: number `chunk` of CHUNK_KEYS keys, column tile t. Element e of a lane is key 8 (e / 4) + 4 h + e % 4 of
 * them. */
#if defined(__gfx950__)
template <class s_t> GPU_INLINE uint32_t value_part(uint32_t lane) {
    const uint32_t h = lane / 32, half = lane / 16 % 2, j = lane % 16;
    if (s_t::BYTES == 1) /* 16 lanes: 8 rows by 16 columns */
        return keep_in_register(((j / 8 * 8 + 4 * h + j / 2 % 4) ^ half * 4) * 16 + half * 256 + j % 2 * 8);
    /* 4 rows by 16 columns; which 4 of them a lane reads: see output_column() */
    const uint32_t chunk = 2 * half + j % 2;
    return keep_in_register(s_t::swizzle(4 * h + j / 4, chunk) * 16 + chunk * 256 + j / 2 % 2 * 8);
}
template <class s_t> GPU_INLINE u32x4_t read_value(uint32_t at, int chunk, int t) {
    typedef int i32x2_t __attribute__((ext_vector_type(2)));
    u32x2_t x, y;
    if constexpr (s_t::BYTES == 1) {
        uint32_t from = at + chunk * 2 * s_t::V_GROUP + t * 512;
        x = BITS(u32x2_t, __builtin_amdgcn_ds_read_tr8_b64_v2i32((GPU_SHARED i32x2_t *)from));
        y = BITS(u32x2_t, __builtin_amdgcn_ds_read_tr8_b64_v2i32((GPU_SHARED i32x2_t *)(from + s_t::V_GROUP)));
    } else {
        uint32_t from = at + chunk * s_t::V_GROUP + t * 1024, other = (at ^ 128) + chunk * s_t::V_GROUP + t * 1024;
        x = BITS(u32x2_t, __builtin_amdgcn_ds_read_tr16_b64_v4i16((GPU_SHARED s16x4_t *)from));
        y = BITS(u32x2_t, __builtin_amdgcn_ds_read_tr16_b64_v4i16((GPU_SHARED s16x4_t *)other));
    }
    return (u32x4_t){x.x, x.y, y.x, y.y};
}

/* Where the element of key `key` is, that row `row` of A of column tile t stands for. */
template <class s_t> GPU_INLINE uint32_t value_at(uint32_t key, int t, uint32_t row) {
    const uint32_t in_run = s_t::BYTES == 1 ? row : row / 16 * 16 + row / 4 % 2 * 8 + row / 8 % 2 * 4 + row % 4;
    const uint32_t byte = (t * 32 + in_run) * s_t::BYTES, chunk = byte / 16 % 4;
    return key / 16 * s_t::V_GROUP + byte / 64 * 1024 + chunk * 256 + s_t::swizzle(key % 16, chunk) * 16 + byte % 16;
}

/* Which columns a lane has: run r of OUTPUT_RUN consecutive ones from output_column() on; element i of it is
 * output_value(). */
template <class s_t> constexpr int OUTPUT_RUN = s_t::BYTES == 1 ? 4 : 8;
template <class s_t> GPU_INLINE int output_column(int run) {
    return run * 2 * OUTPUT_RUN<s_t> + lane_again() / 32 * OUTPUT_RUN<s_t>;
}
template <class s_t> GPU_INLINE float output_value(const f32x16_t (&out)[s_t::COLUMN_TILES], int run, int i) {
    constexpr int RUNS = 16 / OUTPUT_RUN<s_t>; /* of a column tile */
    return out[run / RUNS][run % RUNS * OUTPUT_RUN<s_t> + i];
}
#else
template <class s_t> GPU_INLINE uint32_t value_part(uint32_t lane) { return keep_in_register(lane * 16); }
template <class s_t> GPU_INLINE u32x4_t read_value(uint32_t at, int chunk, int t) {
    return lds<u32x4_t>(at + (chunk * s_t::COLUMN_TILES + t) * 1024);
}

/* Where the element of key `key` is, that row `row` of A of column tile t stands for. */
template <class s_t> GPU_INLINE uint32_t value_at(uint32_t key, int t, uint32_t row) {
    const uint32_t chunk = key / s_t::CHUNK_KEYS, element = key % s_t::CHUNK_KEYS / 8 * 4 + key % 4;
    return (chunk * s_t::COLUMN_TILES + t) * 1024 + key / 4 % 2 * 512 + row * 16 + element * s_t::BYTES;
}

/* Column COLUMN_TILES * c + t is column c of tile t, so that neighbouring columns are in one lane, when it stores
 * values and when it stores its output. */
template <class s_t> constexpr int OUTPUT_RUN = 4 * s_t::COLUMN_TILES;
template <class s_t> GPU_INLINE int output_column(int run) { return (run * 2 + lane_again() / 32) * OUTPUT_RUN<s_t>; }
template <class s_t> GPU_INLINE float output_value(const f32x16_t (&out)[s_t::COLUMN_TILES], int run, int i) {
    return out[i % s_t::COLUMN_TILES][run * 4 + i / s_t::COLUMN_TILES];
}
#endif

#endif
