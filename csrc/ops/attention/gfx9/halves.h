/* gfx942, fp8, 64 and 128 rows: eight waves of 16 rows, two on a SIMD unit, in two halves. While one half computes the
 * scores of a tile of 32 keys, the other multiplies the values of the tile before, so that a unit always has a wave for
 * its matrix core and one for everything else. What a half stores between two barriers is read between the next two,
 * and the two after; so three slots of LDS take turns.
 *
 * 128 rows: each half has 64 of them. Beside the keys K(t) there is V^T(t), transposed once and not by each wave.
 *   first half     store K(t)    scores(t)       output(t), store K(t + 1)      scores(t + 1)
 *   second half                  store V^T(t)    scores(t)                      output(t), store V^T(t + 1)
 * 64 rows: each half has all of them, and every second tile. It loads its own tiles. At the end the halves merge.
 *   first half     store K(t)    scores(t)       output(t), store K(t + 2)      scores(t + 2)
 *   second half                  store K(t + 1)  scores(t + 1)                  output(t + 1), store K(t + 3) */
#ifndef AC_OPS_ATTENTION_GFX9_HALVES_H
#define AC_OPS_ATTENTION_GFX9_HALVES_H

#include "streams.h"

/* V^T of 32 keys, as the multiplications take it: 16 bytes a lane for two tiles of columns. */
GPU_INLINE uint32_t values_at(uint32_t values, uint32_t lane, int pair) { return values + lane * 16 + pair * 1024; }

struct transposed_values_t {
    template <class matrix_t, int GROUPS, int N>
    GPU_INLINE void read(uint32_t lane, uint32_t values, int, int block, int, uint32_t (&out)[N][2]) {
        static_assert(N == TILES && GROUPS == 2, "a block of two groups");
        GPU_UNROLL for (int pair = 0; pair < TILES / 2; pair++) {
            u32x4_t words = lds<u32x4_t>(values_at(values, lane, block * TILES / 2 + pair));
            out[2 * pair][0] = words.x, out[2 * pair][1] = words.y;
            out[2 * pair + 1][0] = words.z, out[2 * pair + 1][1] = words.w;
        }
    }
};

template <bool BY_KEYS> struct values_of_t {
    typedef transposed_values_t type;
};
template <> struct values_of_t<true> {
    typedef tile_values_t type;
};

template <class matrix_type, int ROWS_> struct halves_t {
    typedef matrix_type matrix_t;
    typedef own_fp8_source_t source_t;
    typedef tile_t<matrix_t> tile;
    static constexpr int ROWS = ROWS_, HALVES = 2, THREADS = HALVES * WAVES * 64;
    static constexpr bool BY_KEYS = ROWS == WAVES * 16; /* each half has its own tiles, and not its own rows */
    static constexpr int GROUPS = 2, KEYS = GROUPS * 16, SLOTS = 3, SLOT = tile::valid_at(KEYS);
    static constexpr int STRIDE = BY_KEYS ? HALVES * KEYS : KEYS; /* from a tile of a half to its next */
    static constexpr int VALID_AT = SLOTS * SLOT;                 /* which keys are valid: see valid_at() */
    static constexpr int BYTES = VALID_AT + HALVES * 8;
    static constexpr int WAVE_KEYS = KEYS / WAVES;    /* of a tile, which a wave of a half loads */
    static constexpr int BLOCK = 64 / WAVE_KEYS;      /* tiles whose keys are located together, one in a lane */
    typedef typename values_of_t<BY_KEYS>::type values_t;
    static_assert(BY_KEYS || ROWS == HALVES * WAVES * 16, "16 rows a wave");
    static_assert(SLOT % 128 == 0 && BYTES >= MERGE_BYTES, "chunks are swizzled by XOR; halves that share rows merge");
};

/* A half's keys on their way, as far as one wave loads them. Lane 8 t + k locates key k of the wave's, in tile t of a
 * block. Lane 8 k + c loads chunks c, c + 8, ... of key k. */
template <class a_t> struct half_stream_t {
    mla_cursor_t next;       /* at the block after the current one */
    int32_t entry;           /* there, of the lane's key */
    uint64_t row, valid;     /* the lane's key in the current block; which lanes' keys are valid */
    uint32_t tile;           /* that is loaded next, among the half's */
    u32x4_t latent[4];
    u32x2_t rope;
};

/* A wave's place: part `part` of a half. */
typedef struct place_t {
    bool is_first;
    int part;
} place_t;

/* Where the word is that says which keys of the half's tile number `tile` are valid. It is stored when their loads
 * start, and read when the half is at the tile before: two words take turns. */
template <class a_t> GPU_INLINE uint32_t valid_at(const place_t &place, uint32_t tile) {
    return a_t::VALID_AT + (a_t::BY_KEYS && !place.is_first ? 8 : 0) + tile % 2 * 4;
}

/* Which key of a block the lane locates. */
template <class a_t> GPU_INLINE int block_key(const place_t &place) {
    const int lane = (int)recompute_lane_id();
    return lane / 8 * a_t::STRIDE + place.part * a_t::WAVE_KEYS + lane % 8;
}

template <class a_t>
GPU_INLINE void locate_block(const ac_kv_cache_t &kv, const place_t &place, half_stream_t<a_t> *stream) {
    stream->entry = mla_locate(kv, stream->next, block_key<a_t>(place)).entry;
}

template <class a_t>
GPU_INLINE void begin_block(const ac_kv_cache_t &kv, const place_t &place, half_stream_t<a_t> *stream) {
    const uint32_t rows = (uint32_t)stream->next.row + block_key<a_t>(place);
    mla_location_t location = {stream->entry, (int32_t)(rows - mla_entries_before(kv, rows) * kv.entry_rows)};
    bool exists = mla_in_pool(kv, location);
    const char *row = exists ? mla_key_address(kv, location, kv.latent_offset, kv.latent_stride) : zeros;
    stream->row = (uint64_t)row;
    stream->valid = __builtin_amdgcn_ballot_w64(exists);
    mla_advance(kv, a_t::BLOCK * a_t::STRIDE, &stream->next);
    locate_block(kv, place, stream);
}

/* Starts the loads of the half's next tile, of zeros for a masked key. The rope part follows the latent part: the cache
 * is a plain one. */
template <class a_t>
GPU_INLINE void load_tile(const ac_kv_cache_t &kv, const place_t &place, half_stream_t<a_t> *stream) {
    const int in_block = stream->tile % a_t::BLOCK;
    if (in_block == 0) begin_block(kv, place, stream);
    const uint32_t lane = recompute_lane_id();
    const int from = (in_block * 8 + lane / 8) * 4;
    uint32_t low = __builtin_amdgcn_ds_bpermute(from, (int)(uint32_t)stream->row);
    uint32_t high = __builtin_amdgcn_ds_bpermute(from, (int)(stream->row >> 32));
    lds<uint8_t>(valid_at<a_t>(place, stream->tile) + place.part) = (uint8_t)(stream->valid >> in_block * 8);
    const char *row = (const char *)((uint64_t)high << 32 | low);
    GPU_UNROLL for (int i = 0; i < 4; i++) stream->latent[i] = gpu_load<u32x4_t>(row + lane % 8 * 16 + i * 128);
    if (kv.rope_dim) stream->rope = gpu_load<u32x2_t>(row + a_t::tile::ROW + lane % 8 * 8);
    stream->tile++;
}

/* Stores the tile that has been loaded last. */
template <class a_t> GPU_INLINE void store_tile(uint32_t to, const place_t &place, const half_stream_t<a_t> &stream) {
    typedef typename a_t::tile tile;
    const uint32_t lane = recompute_lane_id(), key = place.part * a_t::WAVE_KEYS + lane / 8;
    const uint32_t latent = keep_in_register(tile::lane_part(to, key, lane % 8));
    GPU_UNROLL for (int i = 0; i < 4; i++) lds<u32x4_t>(latent + i * 128) = stream.latent[i];
    lds<u32x2_t>(tile::rope_chunk(to + tile::rope_at(a_t::KEYS), key, lane % 8 / 2) + lane % 2 * 8) = stream.rope;
}

template <class a_t>
GPU_INLINE void start_stream(const ac_kv_cache_t &kv, const mla_cursor_t &begin, const place_t &place,
                             half_stream_t<a_t> *stream) {
    stream->next = begin, stream->tile = 0, stream->rope = (u32x2_t){0, 0};
    locate_block(kv, place, stream);
    load_tile(kv, place, stream);
}

/* O^T += V^T P^T, of keys that all rows see. V^T is read AHEAD reads ahead, from before prepare() on. */
template <class matrix_t, int AHEAD, class prepare_f>
GPU_INLINE void add_transposed_values(uint32_t values, const uint32_t (&p)[2], prepare_f prepare,
                                      query_rows_t<> *rows) {
    constexpr int PAIRS = BLOCKS * TILES / 2;
    u32x4_t a[PAIRS];
    const uint32_t at = keep_in_register(values_at(values, recompute_lane_id(), 0));
    GPU_UNROLL for (int i = 0; i < AHEAD; i++) a[i] = lds<u32x4_t>(at + i * 1024);
    prepare();
    GPU_UNROLL for (int i = 0; i < PAIRS; i++) {
        if (i + AHEAD < PAIRS) a[i + AHEAD] = lds<u32x4_t>(at + (i + AHEAD) * 1024);
        __builtin_amdgcn_sched_barrier(6); /* no read and no multiplication crosses it */
        GPU_UNROLL for (int e = 0; e < 2; e++) {
            f32x4_t &out = rows->out[2 * i / TILES][2 * i % TILES + e];
            out = multiply<matrix_t>({a[i][2 * e], a[i][2 * e + 1]}, p, out);
        }
    }
}

/* The same of values that the wave transposes itself. */
template <class matrix_t>
GPU_INLINE void add_tile_values(uint32_t latent, const uint32_t (&p)[2], query_rows_t<> *rows) {
    const uint32_t lane = recompute_lane_id();
    GPU_UNROLL for (int block = 0; block < BLOCKS; block++) {
        uint32_t a[TILES][2];
        read_values<matrix_t, 2>(lane, latent, 0, block, 0, a);
        GPU_UNROLL for (int e = 0; e < TILES; e++)
            rows->out[block][e] = multiply<matrix_t>(a[e], p, rows->out[block][e]);
        __builtin_amdgcn_sched_barrier(0); /* one block at a time, for want of registers */
    }
}

/* The wave's part of V^T of a tile: keys 4 part + i of both groups. A lane transposes 8 columns. */
template <class a_t> GPU_INLINE void store_values(uint32_t tile_at, int part, uint32_t values) {
    typedef typename a_t::tile tile;
    const uint32_t lane = recompute_lane_id();
    u32x2_t rows[2][4];
    GPU_UNROLL for (int i = 0; i < 4; i++) {
        uint32_t at = tile::lane_part(tile_at, 4 * part + i, lane / 2) + lane % 2 * 8;
        GPU_UNROLL for (int n = 0; n < 2; n++) rows[n][i] = lds<u32x2_t>(at + n * tile::GROUP);
    }
    const uint32_t to = keep_in_register(values_at(values, part * 16 + lane % 16, lane / 16 * TILES / 2));
    GPU_UNROLL for (int w = 0; w < 2; w++) {
        uint32_t x[2][4];
        GPU_UNROLL for (int n = 0; n < 2; n++)
            transpose_bytes({rows[n][0][w], rows[n][1][w], rows[n][2][w], rows[n][3][w]}, x[n]);
        GPU_UNROLL for (int k = 0; k < 2; k++)
            lds<u32x4_t>(to + (2 * w + k) * 1024) =
                (u32x4_t){x[0][2 * k], x[1][2 * k], x[0][2 * k + 1], x[1][2 * k + 1]};
        __builtin_amdgcn_sched_barrier(0); /* half of the columns at a time, for want of registers */
    }
}

/* The slots of a tile and of the half's next one. `third`: at 128 rows the values of the tile, at 64 rows a tile of the
 * other half. */
typedef struct slots_t {
    uint32_t keys, next_keys, third;
} slots_t;

/* Returns which keys of the half's next tile are valid. */
template <class a_t, seen_t SEEN>
GPU_INLINE uint32_t attend_in_halves(const ac_kv_cache_t &kv, const item_t &item, const place_t &place, int number,
                                     const slots_t &slots, const keys_t<a_t::GROUPS> &keys,
                                     const query_t<typename a_t::matrix_t> (&query)[1][1], half_stream_t<a_t> *stream,
                                     query_rows_t<> (&rows)[1]) {
    typedef typename a_t::matrix_t matrix_t;
    typedef typename a_t::tile tile;
    auto no_scales = [](int, int) { return (f32x4_t){}; };
    const uint32_t key = keys.lane % 16, g = keys.lane / 16, latent = tile::lane_part(slots.keys, key, g);
    const uint32_t rope = tile::rope_chunk(slots.keys + tile::rope_at(a_t::KEYS), key, g);
    f32x4_t scores[1][a_t::GROUPS];
    probabilities_t<matrix_t, false, a_t::GROUPS> probabilities[1];
    score<matrix_t, false, 1, 2>(
        [&](int, int, int i, bool is_rope) { return is_rope ? query[0][0].rope[i] : query[0][0].latent[i]; }, no_scales,
        [&](int n, int i, bool is_rope) {
            return lds<u32x4_t>(is_rope ? rope + n * 16 * tile::ROPE_ROW
                                        : tile::chunk(latent, 4 * i) + n * tile::GROUP);
        },
        scores);
    __builtin_amdgcn_s_setprio(PREFER_SOFTMAX);
    online_softmax<matrix_t, SEEN>(keys, item.score_scale, scores[0], &rows[0]);
    pack_probabilities(scores[0], &probabilities[0]);
    gpu_barrier();
    __builtin_amdgcn_s_setprio(PREFER_OUTPUT);
    uint32_t next_valid = lds<uint32_t>(valid_at<a_t>(place, number + 1));
    auto prepare = [&] {
        if (a_t::BY_KEYS || place.is_first) {
            store_tile(slots.next_keys, place, *stream);
            load_tile(kv, place, stream);
        } else {
            store_values<a_t>(slots.next_keys, place.part, slots.keys);
        }
    };
    const uint32_t values = a_t::BY_KEYS ? slots.keys : slots.third;
    if constexpr (SEEN == SEEN_OWN) {
        keys_t<a_t::GROUPS> from = keys;
        from.lane = recompute_lane_id(), from.latent = values;
        prepare();
        typedef typename a_t::values_t values_t;
        add_masked_values<values_t, matrix_t, false, a_t::GROUPS>(from, 0, no_scales, probabilities, rows);
    } else if constexpr (a_t::BY_KEYS) {
        prepare();
        add_tile_values<matrix_t>(values, probabilities[0].words, &rows[0]);
    } else {
        add_transposed_values<matrix_t, 3>(values, probabilities[0].words, prepare, &rows[0]);
    }
    return gpu_uniform((int)next_valid);
}

template <class a_t, class find_work_f>
GPU_INLINE bool decode_in_halves(const ac_attention_params_t &p, find_work_f find_work) {
    typedef typename a_t::matrix_t matrix_t;
    constexpr uint32_t SLOT = a_t::SLOT;
    item_t item;
    if (!make_item<typename a_t::source_t>(p, find_work, &item)) return false;
    const ac_kv_cache_t &kv = p.kv[0].cache;
    const int wave = gpu_uniform(gpu_thread() / 64), first_row = a_t::BY_KEYS ? wave % WAVES * 16 : wave * 16;
    const place_t place = {wave < WAVES, wave % WAVES};
    const int first_key = a_t::BY_KEYS && !place.is_first ? a_t::KEYS : 0, masked_tail = item.range.masked_tail;
    query_t<matrix_t> query[1][1];
    query_rows_t<> rows[1];
    half_stream_t<a_t> stream;
    slots_t slots = {0, 2 * SLOT, SLOT};
    if (first_key) slots = {SLOT, 0, 2 * SLOT};
    const bool loads = a_t::BY_KEYS || place.is_first;
    if (loads) start_stream(kv, mla_cursor_at(p, item.work, item.range, item.range.begin + first_key), place, &stream);
    mla_row_t row = mla_tile_row(p, item.work, item.range, first_row + recompute_lane_id() % 16);
    load_query<matrix_t, 1, 1>(query_row(p, row), kv.rope_dim, query[0]);
    start_rows(row, &rows[0]);
    wait_for_all(); /* for the queries: or the compiler would wait for them, and for all keys, in the loop */
    if (loads) {
        store_tile(slots.keys, place, stream);
        load_tile(kv, place, &stream);
    }
    gpu_barrier();
    int number = 0;
    uint32_t valid = gpu_uniform(lds<int>(valid_at<a_t>(place, 0)));
    if (!place.is_first) { /* from here on a barrier behind the first half */
        if (!a_t::BY_KEYS) store_values<a_t>(slots.keys, place.part, slots.third);
        gpu_barrier();
    }

    /* Of the half's `tiles` tiles (at 64 rows the last one may be behind the end) all rows see the first `whole`, and
     * the same keys of the first `same`. */
    const int64_t left = item.range.end - item.range.begin;
    const int tiles = (int)((left + a_t::STRIDE - 1) / a_t::STRIDE);
    const int whole = (int)((left - first_key - masked_tail + a_t::STRIDE - a_t::KEYS) / a_t::STRIDE);
    const int same = masked_tail ? whole : tiles;
    auto step = [&](auto seen) {
        const keys_t<2> keys = {recompute_lane_id(), 0, {valid & 0xffff, valid >> 16},
                                left - first_key - (int64_t)number * a_t::STRIDE, masked_tail};
        constexpr seen_t SEEN = (seen_t) decltype(seen)::value;
        valid = attend_in_halves<a_t, SEEN>(kv, item, place, number++, slots, keys, query, &stream, rows);
        gpu_barrier();
        __builtin_amdgcn_s_setprio(PREFER_SCORES);
        slots = {slots.next_keys, slots.third, slots.keys};
    };
    while (number < whole && valid == 0xffffffff) step(count_t<SEEN_ALL>());
    while (number < same) step(count_t<SEEN_SAME>());
    while (number < tiles) step(count_t<SEEN_OWN>());
    if (place.is_first) gpu_barrier();

    mla_softmax_t softmax = {rows[0].softmax.base, sum_of_row(rows[0].softmax.sum)};
    if constexpr (a_t::BY_KEYS) {
        const int first = place.part * a_t::HALVES, part = place.is_first ? 0 : 1;
        float factor = merge_softmax<a_t::HALVES>(first, part, &softmax);
        store_shared<a_t::HALVES, a_t::HALVES * WAVES>(row_output(p, item, first_row, softmax), rows[0], factor, first,
                                                       part);
    } else {
        store_alone(row_output(p, item, first_row, softmax), rows[0], 0);
    }
    return true;
}

#endif
