/* Tiles whose columns are divided. For the scores of a tile the waves divide its rows and its keys, for the output they
 * divide the columns; in between they exchange the probabilities through LDS. So a wave has few queries in registers,
 * and reads, and on gfx942 transposes, only its own columns of the values.
 * 32 and 64 rows of 16 bits; on gfx950 16, 32 and 64 rows of fp8, of which one multiplication for the output takes 128
 * keys, more than one wave can hold. */
#ifndef AC_OPS_ATTENTION_GFX9_SPLIT_COLUMNS_H
#define AC_OPS_ATTENTION_GFX9_SPLIT_COLUMNS_H

#include "spread_streams.h"

/* How ALL_WAVES waves, four or eight, divide tiles of TILE_GROUPS groups of 16 keys for the scores: the rows among
 * ROW_WAVES waves, the keys among as many as have the same rows. For the output each four have all columns: of all
 * rows, or of half of them. STAGES: see tiles_t. */
template <int ROW_WAVES_, int TILE_GROUPS_, int STAGES_, int ALL_WAVES_ = WAVES> struct columns_t {
    static constexpr int ROW_WAVES = ROW_WAVES_, TILE_GROUPS = TILE_GROUPS_, STAGES = STAGES_, ALL_WAVES = ALL_WAVES_;
};

template <class matrix_type, class source_t, int ROW_TILES_, class columns>
struct split_columns_t
    : tiles_t<divided_t<matrix_type>, source_t, columns::TILE_GROUPS, columns::STAGES, columns::ALL_WAVES> {
    typedef divided_t<matrix_type> matrix_t;
    typedef tiles_t<matrix_t, source_t, columns::TILE_GROUPS, columns::STAGES, columns::ALL_WAVES> tiles;
    using tiles::TILE_GROUPS;
    static constexpr int ROW_TILES = ROW_TILES_, ROWS = ROW_TILES * 16;
    static constexpr int ALL_WAVES = columns::ALL_WAVES, THREADS = ALL_WAVES * 64;
    static constexpr int HELD = ROW_TILES * BLOCKS / ALL_WAVES; /* row tiles of which a wave has columns */
    static constexpr int ROW_WAVES = columns::ROW_WAVES, KEY_WAVES = ALL_WAVES / ROW_WAVES;
    static constexpr int SCORED = (ROW_TILES + ROW_WAVES - 1) / ROW_WAVES; /* row tiles whose scores a wave has */
    static constexpr int OWN = TILE_GROUPS / KEY_WAVES;                    /* and groups of keys */
    static constexpr int AHEAD = matrix_t::BYTES == 2 ? 4 : ALL_WAVES > WAVES ? 1 : 2; /* see score() */
    static constexpr int WORDS = TILE_GROUPS * matrix_t::BYTES; /* of a lane's probabilities for one row tile */
    static constexpr int OWN_WORDS = OWN * matrix_t::BYTES;
    static constexpr bool EXACT = matrix_t::BYTES == 1; /* bases follow every new maximum: MLA_FP8_HEADROOM */
    /* Two waves on a SIMD unit look for the keys of the tile after the next in turns, while the other multiplies. The
     * next tile's loads are started among the scores, SCORE_LOADS of them, and among the exponentials. */
    static constexpr bool IN_TURNS = ALL_WAVES > WAVES;
    static constexpr int SCORE_LOADS = IN_TURNS ? 6 : spread_loads<split_columns_t>();
    static_assert(!IN_TURNS || (EXACT && SCORED == 1), "exponentials once a tile");
    static constexpr int MOVES_AT = (tiles::TILES_END + 15) / 16 * 16, TOPS_AT = MOVES_AT + (EXACT ? 0 : 16);
    static constexpr int PROBABILITIES_AT = TOPS_AT + ROW_TILES * KEY_WAVES * 64;
    static constexpr int BYTES = PROBABILITIES_AT + ROW_TILES * WORDS * 256;
    static_assert(OWN * KEY_WAVES == TILE_GROUPS && HELD % SCORED == 0, "equal parts, some of none");
    static_assert(!EXACT || SCORED * ROW_WAVES == ROW_TILES, "all waves exchange the largest scores");
    static_assert(ALL_WAVES % BLOCKS == 0 && WORDS % 4 == 0, "a wave has a block, words are read four at a time");
    /* The row tiles of which a wave has columns, beginning with those whose scores it has. */
    GPU_INLINE int row_tile(int wave, int r) {
        int first = ALL_WAVES > BLOCKS ? wave / BLOCKS * HELD : 0;
        return first + (wave / KEY_WAVES * SCORED + r) % HELD;
    }
    GPU_INLINE int block_of(int wave) { return ALL_WAVES > BLOCKS ? wave % BLOCKS : wave; } /* of columns */
    /* Whether the wave has scores at all: of 48 rows one has none. */
    GPU_INLINE bool has_scores(int wave) {
        return SCORED * ROW_WAVES == ROW_TILES || wave / KEY_WAVES * SCORED < ROW_TILES;
    }
};

/* A number of each row of the wave's scored tiles, with those of the other keys: combined by `join`, for its row tiles.
 */
template <class a_t, class join_f>
GPU_INLINE void exchange_of_rows(int wave, const float (&own)[a_t::SCORED], join_f join, float (&out)[a_t::HELD]) {
    const uint32_t lane = recompute_lane_id(), at = a_t::TOPS_AT + lane % 16 * 4;
    GPU_UNROLL for (int r = 0; r < a_t::SCORED; r++)
        if (lane < 16 && a_t::has_scores(wave))
            lds<float>(at + (a_t::row_tile(wave, r) * a_t::KEY_WAVES + wave % a_t::KEY_WAVES) * 64) = own[r];
    gpu_barrier();
    GPU_UNROLL for (int r = 0; r < a_t::HELD; r++)
        GPU_UNROLL for (int w = 0; w < a_t::KEY_WAVES; w++) {
            float other = lds<float>(at + (a_t::row_tile(wave, r) * a_t::KEY_WAVES + w) * 64);
            out[r] = w ? join(out[r], other) : other;
        }
}

/* The LDS address of a lane's words of probabilities: four at a time, 1024 bytes from one four to the next. */
template <class a_t> GPU_INLINE uint32_t probabilities_at(uint32_t lane, int wave, int r) {
    return a_t::PROBABILITIES_AT + a_t::row_tile(wave, r) * a_t::WORDS * 256 + lane * 16;
}

/* Stores the probabilities of the wave's scores. */
template <class a_t, class own_t>
GPU_INLINE void give_probabilities(uint32_t lane, int wave, const own_t (&own)[a_t::SCORED]) {
    static_assert(a_t::OWN_WORDS == 2 || a_t::OWN_WORDS % 4 == 0, "one store");
    const int first = wave % a_t::KEY_WAVES * a_t::OWN_WORDS;
    GPU_UNROLL for (int r = 0; r < a_t::SCORED; r++) {
        uint32_t at = probabilities_at<a_t>(lane, wave, r) + first / 4 * 1024 + first % 4 * 4;
        if constexpr (a_t::OWN_WORDS == 2) lds<u32x2_t>(at) = BITS(u32x2_t, own[r].words);
        else
            GPU_UNROLL for (int w = 0; w < a_t::OWN_WORDS; w += 4)
                lds<u32x4_t>(at + w * 256) = (u32x4_t){own[r].words[w], own[r].words[w + 1], own[r].words[w + 2],
                                                       own[r].words[w + 3]};
    }
}

/* What a wave does with a tile. Its scores become probabilities relative to the rows' present bases; only where one of
 * them has to move, which is rare, the waves begin again from the scores. */
template <class a_t, seen_t SEEN>
GPU_INLINE void attend_split_columns(const ac_kv_cache_t &kv, const item_t &item, int wave,
                                     spread_stream_t<a_t> *stream,
                                     const query_t<typename a_t::matrix_t> (&query)[a_t::SCORED][1],
                                     query_rows_t<1> (&rows)[a_t::HELD]) {
    typedef typename a_t::matrix_t matrix_t;
    typedef typename a_t::tile tile;
    const uint32_t tile_at = stream->tile, rope = tile_at + tile::rope_at(a_t::KEYS);
    const int64_t left = stream->left;
    const int key_wave = wave % a_t::KEY_WAVES;
    constexpr int READS = tile::CHUNK_STEPS + tile::ROPE_STEPS;
    constexpr int LATER_LOADS = spread_loads<a_t>() - a_t::SCORE_LOADS;
    auto own = keys_of_tile<a_t, a_t::OWN>(tile_at, left, item.range.masked_tail, key_wave * a_t::OWN);
    own.lane = gpu_lane();
    const uint32_t key = key_wave * a_t::OWN * 16 + own.lane % 16, g = own.lane / 16;
    const uint32_t latent = keep_in_register(tile::lane_part(tile_at, key, g));
    auto no_scales = [](int, int) { return (f32x4_t){}; };
    f32x4_t scores[a_t::SCORED][a_t::OWN];
    float top[a_t::SCORED];
    mla_softmax_t softmax[a_t::SCORED] = {}; /* with the tile's sums */
    bool moves = false;
    auto move_bases = [&]() {
        float tops[a_t::HELD];
        GPU_UNROLL for (int r = 0; r < a_t::SCORED; r++) top[r] = max_of_row(top[r]);
        exchange_of_rows<a_t>(wave, top, larger_of, tops);
        GPU_UNROLL for (int r = 0; r < a_t::HELD; r++)
            if (base_moves<matrix_t>(tops[r], rows[r])) move_base<matrix_t>(tops[r], &rows[r]);
    };
    auto give = [&]() {
        probabilities_t<matrix_t, false, a_t::OWN> part[a_t::SCORED];
        GPU_UNROLL for (int r = 0; r < a_t::SCORED; r++) {
            f32x4_t p[a_t::OWN];
            GPU_UNROLL for (int n = 0; n < a_t::OWN; n++) p[n] = scores[r][n];
            softmax[r] = rows[r].softmax;
            exponentiate(p, &softmax[r], [&](int n) {
                if constexpr (LATER_LOADS > 0)
                    spread_loads_at<a_t::SCORE_LOADS, LATER_LOADS, a_t::OWN>(n, wave, stream);
            });
            pack_probabilities(p, &part[r]);
        }
        give_probabilities<a_t>(own.lane, wave, part);
    };
    if (a_t::has_scores(wave)) {
        score<matrix_t, false, 1, a_t::AHEAD>(
            [&](int r, int, int i, bool is_rope) { return is_rope ? query[r][0].rope[i] : query[r][0].latent[i]; },
            no_scales,
            [&](int n, int i, bool is_rope) {
                if (n == 0)
                    spread_loads_at<0, a_t::SCORE_LOADS, READS>(is_rope ? tile::CHUNK_STEPS + i : i, wave, stream);
                return lds<u32x4_t>(is_rope ? tile::rope_chunk(rope, key + n * 16, 4 * i + g)
                                            : tile::chunk(latent, 4 * i) + n * tile::GROUP);
            },
            scores);
        GPU_UNROLL for (int r = 0; r < a_t::SCORED; r++) {
            top[r] = scale_and_mask<SEEN>(own, item.score_scale, rows[r].masked_tail, scores[r]);
            moves |= mla_base_moves(rows[r].softmax, top[r], headroom<matrix_t>());
        }
        if (a_t::EXACT) move_bases();
        else lds<int>(a_t::MOVES_AT + wave * 4) = gpu_any(moves);
        give();
    } else {
        GPU_UNROLL for (int i = 0; i < spread_loads<a_t>(); i++) spread_load(i, wave, stream);
        lds<int>(a_t::MOVES_AT + wave * 4) = 0;
    }
    gpu_barrier();
    u32x4_t any = lds<u32x4_t>(a_t::MOVES_AT);
    if (!a_t::EXACT && __builtin_expect(gpu_uniform(any.x | any.y | any.z | any.w), 0)) {
        move_bases();
        if (a_t::has_scores(wave)) give();
        gpu_barrier();
    }
    GPU_UNROLL for (int r = 0; r < a_t::SCORED; r++) rows[r].softmax.sum = softmax[r].sum;

    probabilities_t<matrix_t, false, a_t::TILE_GROUPS> probabilities[a_t::HELD];
    GPU_UNROLL for (int r = 0; r < a_t::HELD; r++)
        GPU_UNROLL for (int four = 0; four < a_t::WORDS / 4; four++) {
            u32x4_t words = lds<u32x4_t>(probabilities_at<a_t>(own.lane, wave, r) + four * 1024);
            GPU_UNROLL for (int w = 0; w < 4; w++) probabilities[r].words[four * 4 + w] = words[w];
        }
    auto keys = keys_of_tile<a_t, a_t::TILE_GROUPS>(tile_at, left, item.range.masked_tail, 0);
    keys.lane = gpu_lane();
    if constexpr (a_t::IN_TURNS)
        if (wave < WAVES) aim_spread(kv, wave, stream->stage, stream);
    keys.latent += a_t::block_of(wave) * (128 * matrix_t::BYTES / 64) * tile::RUN; /* the wave's columns */
    multiply_values<matrix_t, false, SEEN != SEEN_OWN>(keys, no_scales, probabilities, rows);
    if constexpr (a_t::IN_TURNS)
        if (wave >= WAVES) aim_spread(kv, wave, stream->stage, stream);
}

template <class a_t, class find_work_f>
GPU_INLINE bool decode_split_columns(const ac_attention_params_t &p, find_work_f find_work) {
    typedef typename a_t::matrix_t matrix_t;
    item_t item;
    if (!make_item<typename a_t::source_t>(p, find_work, &item)) return false;
    const int wave = gpu_uniform(gpu_thread() / 64), masked_tail = item.range.masked_tail;
    query_t<matrix_t> query[a_t::SCORED][1];
    query_rows_t<1> rows[a_t::HELD];
    spread_stream_t<a_t> stream;
    GPU_UNROLL for (int r = 0; r < a_t::HELD; r++) {
        int number = a_t::row_tile(wave, r) * 16 + recompute_lane_id() % 16;
        mla_row_t row = mla_tile_row(p, item.work, item.range, number);
        if (r < a_t::SCORED) load_query<matrix_t, 1, 1>(query_row(p, row), p.kv[0].cache.rope_dim, query[r]);
        start_rows(row, &rows[r]);
    }
    start_spread(p.kv[0].cache, mla_cursor_at(p, item.work, item.range, item.range.begin), wave, &stream);
    bool more = take_spread(p.kv[0].cache, item, wave, &stream);
    for (; more && rows_see_the_same(stream.left, a_t::KEYS, masked_tail);
         more = take_spread(p.kv[0].cache, item, wave, &stream))
        attend_split_columns<a_t, SEEN_SAME>(p.kv[0].cache, item, wave, &stream, query, rows);
    for (; more; more = take_spread(p.kv[0].cache, item, wave, &stream))
        attend_split_columns<a_t, SEEN_OWN>(p.kv[0].cache, item, wave, &stream, query, rows);

    if constexpr (a_t::IN_TURNS) wait_for_all(); /* page ids of no tile */
    float sums[a_t::SCORED], sum[a_t::HELD];
    gpu_barrier();
    GPU_UNROLL for (int r = 0; r < a_t::SCORED; r++) sums[r] = sum_of_row(rows[r].softmax.sum);
    exchange_of_rows<a_t>(wave, sums, [](float a, float b) { return a + b; }, sum);
    GPU_UNROLL for (int r = 0; r < a_t::HELD; r++) {
        mla_softmax_t softmax = {rows[r].softmax.base, sum[r]};
        store_alone(row_output(p, item, a_t::row_tile(wave, r) * 16, softmax), rows[r], a_t::block_of(wave));
    }
    gpu_barrier(); /* the next item overwrites what the waves exchanged */
    return true;
}

#endif
