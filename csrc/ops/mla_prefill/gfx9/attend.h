/* A wave's 32 query rows against a tile of keys in LDS: scores, softmax, output. */
#ifndef AC_OPS_MLA_PREFILL_GFX9_ATTEND_H
#define AC_OPS_MLA_PREFILL_GFX9_ATTEND_H

#include "../../attention/softmax.h"
#include "stream.h"

/* Where P is in the range of its type. */
template <class s_t> constexpr mla_headroom_t headroom() {
    return s_t::matrix_t::DTYPE == AC_BFLOAT16  ? MLA_BF16_HEADROOM
           : s_t::matrix_t::DTYPE == AC_FLOAT16 ? MLA_F16_HEADROOM
                                                : MLA_FP8_HEADROOM;
}

/* Lane 32 h + c has row c; of its scores and of the output a half, as matrix32.h says. */
template <class s_t> struct wave_rows_t {
    f32x16_t out[s_t::COLUMN_TILES];
    mla_softmax_t softmax;         /* the sum is that of the lane's keys */
    u32x4_t query[s_t::QUERY];     /* the last LDS_CHUNKS are in LDS */
    float scale;                   /* of the scores, with log2(e): they are in base 2 */
    int hidden;                    /* the last keys of the tile's range, as many as the row does not see */
    int hidden_most, hidden_least; /* of the wave's rows */
    uint32_t key_part, value_part; /* the lane's part of addresses in a tile */
};

/* Keys of the tile from `left` to the end; key t is seen by a row if it is valid and t < left - hidden. */
template <class s_t> struct tile_keys_t {
    int left;
    uint32_t valid[s_t::SUBS];
};

template <class s_t>
GPU_INLINE tile_keys_t<s_t> tile_keys(const prefill_stream_t<s_t> &stream) {
    tile_keys_t<s_t> keys = {stream.left, {}};
    GPU_UNROLL for (int sub = 0; sub < s_t::SUBS; sub++) keys.valid[sub] = gpu_uniform((int)stream.valid(sub));
    return keys;
}

/* Whether all rows of the wave see all keys, so that nothing is to be masked. (A negative scale, whose largest score is
 * another one, takes the way of the masked tiles too.) */
template <class s_t> GPU_INLINE bool sees_all(const wave_rows_t<s_t> &rows, const tile_keys_t<s_t> &keys) {
    bool all = keys.left >= s_t::TILE + rows.hidden_most && rows.scale >= 0;
    GPU_UNROLL for (int sub = 0; sub < s_t::SUBS; sub++) all = all && keys.valid[sub] == ~0u;
    return all;
}

/* Whether some row of the wave sees some key from number `key` on. */
template <class s_t>
GPU_INLINE bool sees_from(const wave_rows_t<s_t> &rows, const tile_keys_t<s_t> &keys, int key) {
    return keys.left - key > rows.hidden_least;
}

template <class s_t> GPU_INLINE uint32_t lds_query(int wave, int i) {
    return s_t::QUERY_AT + (wave * s_t::LDS_CHUNKS + i - s_t::REGISTER_CHUNKS) * 1024 + lane_again() * 16;
}

/* S^T of the tile. ALL: all of it is seen; else sub-tiles that no row sees are left out. */
template <class s_t, bool ALL>
GPU_INLINE void score(const prefill_stream_t<s_t> &stream, const wave_rows_t<s_t> &rows, const tile_keys_t<s_t> &keys,
                      f32x16_t (&out)[s_t::SUBS]) {
    constexpr int CHUNKS = s_t::CHUNKS, STEPS = s_t::STEPS;
    const uint32_t at = stream.keys + rows.key_part;
    GPU_UNROLL for (int sub = 0; sub < s_t::SUBS; sub++) {
        u32x4_t a[STEPS][CHUNKS], b[CHUNKS];
        f32x16_t sum = {};
        auto read = [&](int step) {
            GPU_UNROLL for (int i = 0; i < CHUNKS; i++) a[step][i] = read_key<s_t>(at, sub, step * CHUNKS + i);
        };
        out[sub] = sum;
        if (!ALL && sub > 0 && !sees_from(rows, keys, sub * 32)) continue;
        GPU_UNROLL for (int step = 0; step < s_t::AHEAD && step < STEPS; step++) read(step);
        GPU_UNROLL for (int step = 0; step < STEPS; step++) {
            if (step + s_t::AHEAD < STEPS) read(step + s_t::AHEAD);
            __builtin_amdgcn_sched_barrier(6); /* no read and no multiplication crosses it */
            GPU_UNROLL for (int i = 0; i < CHUNKS; i++) {
                const int chunk = step * CHUNKS + i;
                if (chunk < s_t::REGISTER_CHUNKS) b[i] = rows.query[chunk];
                else b[i] = lds<u32x4_t>(lds_query<s_t>(stream.wave, chunk));
            }
            sum = dot32<typename s_t::matrix_t>(a[step], b, sum);
        }
        out[sub] = sum;
    }
}

/* Scales the scores to base 2, and sets those that the row does not see to -inf. */
template <class s_t>
GPU_INLINE void scale_and_mask(const tile_keys_t<s_t> &keys, const wave_rows_t<s_t> &rows,
                               f32x16_t (&score)[s_t::SUBS]) {
    const uint32_t h = lane_again() / 32;
    const int seen = keys.left - rows.hidden - (int)h * 4;
    GPU_UNROLL for (int sub = 0; sub < s_t::SUBS; sub++) {
        const uint32_t valid = keys.valid[sub] >> h * 4;
        GPU_UNROLL for (int i = 0; i < 16; i++) {
            const int key = i / 4 * 8 + i % 4;
            const bool sees = sub * 32 + key < seen && (valid >> key & 1);
            score[sub][i] = sees ? score[sub][i] * rows.scale : GPU_MINUS_INFINITY;
        }
    }
}

/* The largest score of the lane's keys. */
template <class s_t> GPU_INLINE float top_of(const f32x16_t (&score)[s_t::SUBS], float scale) {
    float top = GPU_MINUS_INFINITY;
    GPU_UNROLL for (int sub = 0; sub < s_t::SUBS; sub++)
        GPU_UNROLL for (int i = 0; i < 16; i++) top = gpu_max(top, score[sub][i]);
    return top * scale;
}

/* Moves the base of the rows for `top`, of the lane's keys. */
template <class s_t> GPU_INLINE void move_base(float top, mla_headroom_t room, wave_rows_t<s_t> *rows) {
    const float factor = mla_move_base(gpu_max(top, other_half(top)), room, &rows->softmax);
    GPU_UNROLL for (int t = 0; t < s_t::COLUMN_TILES; t++) rows->out[t] *= factor;
}

/* Probabilities, and their sum. SCALED: the scores are in base 2. */
template <class s_t, bool SCALED>
GPU_INLINE float exponentiate(const f32x16_t (&score)[s_t::SUBS], float scale, float base,
                              f32x16_t (&out)[s_t::SUBS]) {
    f32x2_t sum = {0, 0};
    GPU_UNROLL for (int sub = 0; sub < s_t::SUBS; sub++)
        GPU_UNROLL for (int i = 0; i < 16; i += 2) {
            f32x2_t x = {score[sub][i], score[sub][i + 1]};
            x = SCALED ? x - base : __builtin_elementwise_fma(x, (f32x2_t)scale, (f32x2_t)-base);
            x = (f32x2_t){gpu_exp2(x.x), gpu_exp2(x.y)};
            out[sub][i] = x.x, out[sub][i + 1] = x.y;
            sum += x;
        }
    return sum.x + sum.y;
}

/* Scores to probabilities. Where everything is seen, 16-bit types need no maximum: a base that is too low shows in the
 * sum, and then everything is done again. */
template <class s_t, bool ALL>
GPU_INLINE void online_softmax(const tile_keys_t<s_t> &keys, f32x16_t (&score)[s_t::SUBS], wave_rows_t<s_t> *rows) {
    constexpr mla_headroom_t ROOM = headroom<s_t>();
    const float scale = ALL ? rows->scale : 1;
    float sum;
    if constexpr (ALL && s_t::BY_SUM) {
        constexpr mla_headroom_t SURE = {ROOM.below, ROOM.above - 5};
        f32x16_t p[s_t::SUBS];
        static_assert(s_t::SUBS == 1 && SURE.above > 0, "16 probabilities are below the sum and above sum / 32");
        sum = exponentiate<s_t, !ALL>(score, scale, rows->softmax.base, p);
        if (gpu_any(sum > (float)(1 << (int)ROOM.above))) {
            move_base(top_of<s_t>(score, scale), SURE, rows);
            sum = exponentiate<s_t, !ALL>(score, scale, rows->softmax.base, p);
        }
        score[0] = p[0];
    } else {
        if (!ALL) scale_and_mask(keys, *rows, score);
        const float top = top_of<s_t>(score, scale);
        if (gpu_any(mla_base_moves(rows->softmax, top, ROOM))) move_base(top, ROOM, rows);
        sum = exponentiate<s_t, !ALL>(score, scale, rows->softmax.base, score);
    }
    rows->softmax.sum += sum;
}

/* P^T as B: words of the chunks. */
template <class s_t>
GPU_INLINE void pack(const f32x16_t (&p)[s_t::SUBS], u32x4_t (&out)[s_t::VALUE_CHUNKS]) {
    constexpr int WORDS = s_t::BYTES; /* of 4 probabilities */
    GPU_UNROLL for (int i = 0; i < s_t::SUBS * 4; i++) {
        const f32x16_t &from = p[i / 4];
        f32x4_t four = {from[i % 4 * 4], from[i % 4 * 4 + 1], from[i % 4 * 4 + 2], from[i % 4 * 4 + 3]};
        uint32_t words[WORDS];
        s_t::matrix_t::pack(four, words);
        GPU_UNROLL for (int w = 0; w < WORDS; w++) out[(i * WORDS + w) / 4][(i * WORDS + w) % 4] = words[w];
    }
}

/* Chunks of one multiplication for the output: unit `unit` of the tile, column tile t. */
template <class s_t> GPU_INLINE void read_values(uint32_t at, int unit, int t, u32x4_t (&out)[s_t::CHUNKS]) {
    GPU_UNROLL for (int k = 0; k < s_t::CHUNKS; k++) out[k] = read_value<s_t>(at, unit * s_t::CHUNKS + k, t);
}
template <class s_t>
GPU_INLINE void probabilities_of(const u32x4_t (&p)[s_t::VALUE_CHUNKS], int unit, u32x4_t (&out)[s_t::CHUNKS]) {
    GPU_UNROLL for (int k = 0; k < s_t::CHUNKS; k++) out[k] = p[unit * s_t::CHUNKS + k];
}

/* Whether there is an infinity or a NaN in the words. */
template <class s_t> GPU_INLINE bool has_nonfinite(const u32x4_t (&x)[s_t::CHUNKS]) {
    typedef uint16_t u16x2_t __attribute__((ext_vector_type(2)));
    uint32_t found = 0;
    u16x2_t top = {0, 0};
    GPU_UNROLL for (int k = 0; k < s_t::CHUNKS; k++)
        GPU_UNROLL for (int w = 0; w < 4; w++) {
            uint32_t word = x[k][w];
            if constexpr (s_t::BYTES == 2) top = __builtin_elementwise_max(top, BITS(u16x2_t, word & 0x7fff7fff));
            else if constexpr (s_t::matrix_t::DTYPE == AC_FLOAT8_E4M3FN) found |= (word & 0x7f7f7f7f) + 0x01010101;
            else word ^= 0x80808080, found |= (word - 0x01010101) & ~word; /* a byte 80 is 0 now */
        }
    if constexpr (s_t::BYTES == 1) return (found & 0x80808080) != 0;
    const uint16_t least = s_t::matrix_t::DTYPE == AC_BFLOAT16 ? 0x7f80 : 0x7c00;
    return top.x >= least || top.y >= least;
}

/* Element number `element` of a word. */
template <class s_t> GPU_INLINE float element_of(uint32_t word, int element) {
    const uint32_t bits = word >> element * 8 * s_t::BYTES;
    if constexpr (s_t::matrix_t::DTYPE == AC_BFLOAT16) return BITS(float, bits << 16);
    else if constexpr (s_t::matrix_t::DTYPE == AC_FLOAT16) return (float)BITS(_Float16, (uint16_t)bits);
    else return __builtin_amdgcn_cvt_f32_fp8((int)bits, 0);
}
GPU_INLINE bool is_finite(float x) { return __builtin_fabsf(x) < __builtin_inff(); }

/* The words with 0 in place of infinities and NaNs. */
template <class s_t> GPU_INLINE void clear_nonfinite(u32x4_t (&x)[s_t::CHUNKS]) {
    constexpr int PER_WORD = 4 / s_t::BYTES, BITS_OF = 8 * s_t::BYTES;
    GPU_UNROLL for (int k = 0; k < s_t::CHUNKS; k++)
        GPU_UNROLL for (int w = 0; w < 4; w++) {
            const uint32_t word = x[k][w];
            GPU_UNROLL for (int i = 0; i < PER_WORD; i++)
                if (!is_finite(element_of<s_t>(word, i))) x[k][w] &= ~(((1u << BITS_OF) - 1) << i * BITS_OF);
        }
}

/* O^T += V^T P^T, by units that some row sees. NONFINITE: there are such values, which add_nonfinite() has added. */
template <class s_t, bool ALL>
GPU_INLINE void add_values(uint32_t at, const tile_keys_t<s_t> &keys, const u32x4_t (&p)[s_t::VALUE_CHUNKS],
                           bool nonfinite, wave_rows_t<s_t> *rows) {
    constexpr int TILES = s_t::COLUMN_TILES, COUNT = s_t::UNITS * TILES;
    u32x4_t a[COUNT][s_t::CHUNKS];
    GPU_UNROLL for (int n = 0; n < s_t::AHEAD; n++) read_values<s_t>(at, n / TILES, n % TILES, a[n]);
    GPU_UNROLL for (int n = 0; n < COUNT; n++) {
        const int unit = n / TILES, next = n + s_t::AHEAD;
        u32x4_t b[s_t::CHUNKS];
        if (next < COUNT) read_values<s_t>(at, next / TILES, next % TILES, a[next]);
        __builtin_amdgcn_sched_barrier(6);
        if (!ALL && !sees_from(*rows, keys, unit * s_t::UNIT_KEYS)) continue;
        if (!ALL && nonfinite) clear_nonfinite<s_t>(a[n]);
        probabilities_of<s_t>(p, unit, b);
        rows->out[n % TILES] = dot32<typename s_t::matrix_t>(a[n], b, rows->out[n % TILES]);
    }
}

/* Adds the values that are not finite, of a tile of which not all rows see all: without the matrix instructions, whose
 * 0 * NaN would reach the rows that do not see a key. It is slow, and takes few registers. */
template <class s_t>
GPU_INLINE void add_nonfinite(uint32_t values, int seen, const u32x4_t (&p)[s_t::VALUE_CHUNKS],
                              wave_rows_t<s_t> *rows) {
    constexpr int PER_WORD = 4 / s_t::BYTES;
    GPU_NO_UNROLL for (int key = 0; key < s_t::TILE; key++) {
        const int lane = (int)lane_again();
        const int element = key / 8 * 4 + key % 4, half = key / 4 % 2; /* of the words of which half of the wave */
        uint32_t word = 0;
        GPU_UNROLL for (int i = 0; i < s_t::VALUE_CHUNKS * 4; i++)
            if (element / PER_WORD == i) word = p[i / 4][i % 4];
        word = (uint32_t)__builtin_amdgcn_ds_bpermute((lane % 32 + half * 32) * 4, (int)word);
        const float weight = element_of<s_t>(word, element % PER_WORD);
        GPU_UNROLL for (int t = 0; t < s_t::COLUMN_TILES; t++) {
            f32x16_t value;
            GPU_UNROLL for (int i = 0; i < 16; i++) {
                const uint32_t at = values + value_at<s_t>(key, t, i / 4 * 8 + lane / 32 * 4 + i % 4);
                const float x = element_of<s_t>(s_t::BYTES == 1 ? lds<uint8_t>(at) : lds<uint16_t>(at), 0);
                value[i] = key < seen && !is_finite(x) ? x : 0; /* and the weight of a hidden key is 0 */
            }
            rows->out[t] = __builtin_elementwise_fma(value, (f32x16_t)weight, rows->out[t]);
            __builtin_amdgcn_sched_barrier(0); /* for want of registers */
        }
    }
}

/* The values of a tile of which not all rows see all. */
template <class s_t>
GPU_INLINE void add_masked_values(uint32_t values, const tile_keys_t<s_t> &keys, const u32x4_t (&p)[s_t::VALUE_CHUNKS],
                                  wave_rows_t<s_t> *rows) {
    const uint32_t at = values + rows->value_part;
    bool nonfinite = false;
    GPU_UNROLL for (int n = 0; n < s_t::UNITS * s_t::COLUMN_TILES; n++) {
        u32x4_t a[s_t::CHUNKS];
        read_values<s_t>(at, n / s_t::COLUMN_TILES, n % s_t::COLUMN_TILES, a);
        nonfinite |= has_nonfinite<s_t>(a);
        if (n % 4 == 3) __builtin_amdgcn_sched_barrier(0);
    }
    nonfinite = gpu_any(nonfinite);
    if (nonfinite) add_nonfinite(values, keys.left - rows->hidden, p, rows);
    int clear = gpu_uniform(nonfinite);
    asm volatile("" : "+s"(clear)); /* or the compiler makes two ways of what follows, whose registers do not agree */
    add_values<s_t, false>(at, keys, p, clear, rows);
}

template <class s_t, bool ALL>
GPU_INLINE void score_tile(const prefill_stream_t<s_t> &stream, const tile_keys_t<s_t> &keys, wave_rows_t<s_t> *rows,
                           u32x4_t (&out)[s_t::VALUE_CHUNKS]) {
    f32x16_t scores[s_t::SUBS];
    score<s_t, ALL>(stream, *rows, keys, scores);
    online_softmax<s_t, ALL>(keys, scores, rows);
    pack<s_t>(scores, out);
}

#endif
