/* The two products of mla_decode.inc.h on AMX's tiles of 16 x 16. The scratch already lies as the tiles want it: keys are
 * rows of words and queries words of 16 rows, so that keys * queries gives scores with rows in the lanes; values are
 * interleaved in pairs of keys. Only the probabilities are turned: from pairs of keys by rows to rows by pairs. */

#define KEY_STRIDE (4 * WORDS)
#define SCORE_STRIDE (4 * ROWS)
#define QUERY_VECTOR (WORDS * AC_LANES)         /* from one vector of rows to the next */
#define TURNED_PAIRS (AC_BLOCK / AC_PAIR)       /* of a row */
#define TURNED_STRIDE (4 * TURNED_PAIRS)
#define MAX_STEPS (TURNED_PAIRS / AC_TILE_WORDS)

_Static_assert(AC_LANES == AC_TILE_ROWS, "a vector of rows is a row of a tile");
_Static_assert(MAX_STEPS == 4, "output_column unrolls four steps");

/* Scores of two vectors of rows with 32 keys. */
static inline void ENGINE(score_2x32)(const float *query, const float *key, int steps, ENGINE(ahead_t) *ahead,
                                      float *score) {
    AC_TILE_ZERO(0);
    AC_TILE_ZERO(1);
    AC_TILE_ZERO(2);
    AC_TILE_ZERO(3);
    for (int i = 0; i < steps; i++, key += AC_TILE_WORDS, query += AC_TILE_WORDS * AC_LANES) {
        ENGINE(prefetch)(ahead);
        AC_TILE_LOAD(4, key, KEY_STRIDE);
        AC_TILE_LOAD(6, query, 4 * AC_LANES);
        AC_TILE_DOT(0, 4, 6);
        AC_TILE_LOAD(7, query + QUERY_VECTOR, 4 * AC_LANES);
        AC_TILE_DOT(1, 4, 7);
        AC_TILE_LOAD(5, key + 16 * WORDS, KEY_STRIDE);
        AC_TILE_DOT(2, 5, 6);
        AC_TILE_DOT(3, 5, 7);
    }
    AC_TILE_STORE(0, score, SCORE_STRIDE);
    AC_TILE_STORE(1, score + AC_LANES, SCORE_STRIDE);
    AC_TILE_STORE(2, score + 16 * ROWS, SCORE_STRIDE);
    AC_TILE_STORE(3, score + 16 * ROWS + AC_LANES, SCORE_STRIDE);
}

/* Scores of one vector of rows with 64 keys. */
static inline void ENGINE(score_1x64)(const float *query, const float *key, int steps, ENGINE(ahead_t) *ahead,
                                      float *score) {
    AC_TILE_ZERO(0);
    AC_TILE_ZERO(1);
    AC_TILE_ZERO(2);
    AC_TILE_ZERO(3);
    for (int i = 0; i < steps; i++, key += AC_TILE_WORDS, query += AC_TILE_WORDS * AC_LANES) {
        ENGINE(prefetch)(ahead);
        AC_TILE_LOAD(6, query, 4 * AC_LANES);
        AC_TILE_LOAD(4, key, KEY_STRIDE);
        AC_TILE_DOT(0, 4, 6);
        AC_TILE_LOAD(5, key + 16 * WORDS, KEY_STRIDE);
        AC_TILE_DOT(1, 5, 6);
        AC_TILE_LOAD(7, key + 32 * WORDS, KEY_STRIDE);
        AC_TILE_DOT(2, 7, 6);
        AC_TILE_LOAD(4, key + 48 * WORDS, KEY_STRIDE);
        AC_TILE_DOT(3, 4, 6);
    }
    AC_TILE_STORE(0, score, SCORE_STRIDE);
    AC_TILE_STORE(1, score + 16 * ROWS, SCORE_STRIDE);
    AC_TILE_STORE(2, score + 32 * ROWS, SCORE_STRIDE);
    AC_TILE_STORE(3, score + 48 * ROWS, SCORE_STRIDE);
}

/* Scores of the vectors [first, last) of rows with the block's keys. Tiles may cover keys behind the block's end:
 * leftovers in the scratch, whose scores nothing reads. */
static void ENGINE(score)(const ENGINE(walk_t) *walk, ENGINE(local_t) *local, int first, int last, int num_tokens,
                          ENGINE(ahead_t) *ahead) {
    const int steps = walk->words / AC_TILE_WORDS;
    const v_t scale = v_set1(walk->score_scale);
    for (int v = first; v < last;) {
        const float *query = local->query + v * QUERY_VECTOR;
        float *score = local->scores + v * AC_LANES;
        if (v + 2 <= last) {
            for (int t = 0; t < num_tokens; t += 32)
                ENGINE(score_2x32)(query, local->keys + t * WORDS, steps, ahead, score + t * ROWS);
            v += 2;
        } else {
            for (int t = 0; t < num_tokens; t += 64)
                ENGINE(score_1x64)(query, local->keys + t * WORDS, steps, ahead, score + t * ROWS);
            v++;
        }
    }
    for (int t = 0; t < num_tokens; t++)
        for (int v = first; v < last; v++) {
            float *score = local->scores + t * ROWS + v * AC_LANES;
            v_store(score, v_mul(v_load(score), scale));
        }
}

/* 16 x 16 words, rows to columns: within fours of rows, then fours of them. */
static inline void ENGINE(turn)(__m512i x[16]) {
    __m512i y[16];
    for (int i = 0; i < 16; i += 2) {
        y[i] = _mm512_unpacklo_epi32(x[i], x[i + 1]);
        y[i + 1] = _mm512_unpackhi_epi32(x[i], x[i + 1]);
    }
    for (int i = 0; i < 16; i += 4) {
        x[i] = _mm512_unpacklo_epi64(y[i], y[i + 2]);
        x[i + 1] = _mm512_unpackhi_epi64(y[i], y[i + 2]);
        x[i + 2] = _mm512_unpacklo_epi64(y[i + 1], y[i + 3]);
        x[i + 3] = _mm512_unpackhi_epi64(y[i + 1], y[i + 3]);
    }
    for (int i = 0; i < 4; i++) {
        __m512i even = _mm512_shuffle_i32x4(x[i], x[4 + i], 0x88), odd = _mm512_shuffle_i32x4(x[i], x[4 + i], 0xdd);
        __m512i even2 = _mm512_shuffle_i32x4(x[8 + i], x[12 + i], 0x88);
        __m512i odd2 = _mm512_shuffle_i32x4(x[8 + i], x[12 + i], 0xdd);
        y[i] = _mm512_shuffle_i32x4(even, even2, 0x88);
        y[8 + i] = _mm512_shuffle_i32x4(even, even2, 0xdd);
        y[4 + i] = _mm512_shuffle_i32x4(odd, odd2, 0x88);
        y[12 + i] = _mm512_shuffle_i32x4(odd, odd2, 0xdd);
    }
    memcpy(x, y, sizeof y);
}

/* The probabilities of one vector of rows, words of [pair of keys][row], to [row][pair of keys]; zero behind `units`. */
static void ENGINE(turn_p)(const float *p, int units, int steps, float *turned) {
    for (int step = 0; step < steps; step++) {
        __m512i words[16];
        for (int i = 0; i < 16; i++) {
            int unit = step * 16 + i;
            words[i] = unit < units ? _mm512_loadu_si512(p + unit * ROWS) : _mm512_setzero_si512();
        }
        ENGINE(turn)(words);
        for (int i = 0; i < 16; i++) _mm512_storeu_si512(turned + i * TURNED_PAIRS + step * 16, words[i]);
    }
}

/* acc *= rescale for the rows [first, last), unless no maximum moved. */
static void ENGINE(rescale_rows)(ENGINE(local_t) *local, int first, int last) {
    for (int r = first; r < last; r++) {
        float *acc = local->acc + r * AC_MLA_DV;
        v_t rescale = v_set1(local->rescale[r]);
        if (local->rescale[r] == 1) continue;
        for (int i = 0; i < AC_MLA_DV; i += AC_LANES) v_store(acc + i, v_mul(v_load(acc + i), rescale));
    }
}

/* C += P V for 16 rows, whose probabilities are in tiles 4 to 7, and 16 columns. */
static inline void ENGINE(output_column)(const float *value, int steps, const float *from, float *to, size_t to_stride) {
    AC_TILE_LOAD(0, from, 4 * AC_MLA_DV);
    AC_TILE_LOAD(1, value, 4 * VALUE_BLOCK);
    AC_TILE_DOT(0, 4, 1);
    if (steps > 1) {
        AC_TILE_LOAD(2, value + 16 * VALUE_BLOCK, 4 * VALUE_BLOCK);
        AC_TILE_DOT(0, 5, 2);
    }
    if (steps > 2) {
        AC_TILE_LOAD(3, value + 32 * VALUE_BLOCK, 4 * VALUE_BLOCK);
        AC_TILE_DOT(0, 6, 3);
    }
    if (steps > 3) {
        AC_TILE_LOAD(1, value + 48 * VALUE_BLOCK, 4 * VALUE_BLOCK);
        AC_TILE_DOT(0, 7, 1);
    }
    AC_TILE_STORE(0, to, to_stride);
}

/* Values behind the last pair, up to a whole tile, become zero: 0 times what is left there might be NaN. */
static void ENGINE(clear_values)(ENGINE(local_t) *local, int units, int steps) {
    size_t bytes = (size_t)(steps * AC_TILE_WORDS - units) * VALUE_BLOCK * sizeof(float);
    for (int block = 0; bytes > 0 && block < AC_MLA_DV / VALUE_BLOCK; block++)
        memset(local->values + block * VALUE_BLOCK_WORDS + units * VALUE_BLOCK, 0, bytes);
}

/* Rows before first_row do not see the block and keep their acc: its values may be NaN. The turned probabilities take the
 * second half of the scores, of which pairs of keys leave only the first in use. */
static void ENGINE(output)(ENGINE(local_t) *local, int first_row, int num_rows, int units, ENGINE(ahead_t) *ahead) {
    const int steps = DIV_UP(units, AC_TILE_WORDS);
    float *turned = local->scores + TURNED_PAIRS * ROWS;
    ENGINE(clear_values)(local, units, steps);
    ENGINE(rescale_rows)(local, first_row, num_rows);
    for (int row = first_row / AC_LANES * AC_LANES; row < num_rows; row += AC_LANES) {
        float aside[AC_TILE_ROWS * AC_TILE_WORDS];
        const int unseeing = first_row - row; /* rows of this tile that keep their acc, if > 0 */
        ENGINE(turn_p)(local->scores + row, units, steps, turned);
        AC_TILE_LOAD(4, turned, TURNED_STRIDE);
        AC_TILE_LOAD(5, turned + 16, TURNED_STRIDE);
        AC_TILE_LOAD(6, turned + 32, TURNED_STRIDE);
        AC_TILE_LOAD(7, turned + 48, TURNED_STRIDE);
        for (int column = 0; column < AC_MLA_DV; column += AC_TILE_WORDS) {
            const float *value = local->values + column / VALUE_BLOCK * VALUE_BLOCK_WORDS + column % VALUE_BLOCK;
            float *acc = local->acc + row * AC_MLA_DV + column;
            ENGINE(prefetch)(ahead);
            if (unseeing <= 0) {
                ENGINE(output_column)(value, steps, acc, acc, 4 * AC_MLA_DV);
                continue;
            }
            ENGINE(output_column)(value, steps, acc, aside, 4 * AC_TILE_WORDS);
            for (int r = unseeing; r < AC_TILE_ROWS; r++)
                memcpy(acc + r * AC_MLA_DV, aside + r * AC_TILE_WORDS, 4 * AC_TILE_WORDS);
        }
    }
}

/* The calls of prefetch() that score() and output() make for a block. */
static int ENGINE(count_runs)(const ENGINE(walk_t) *walk, int vectors, int rows, int tokens) {
    int score = vectors / 2 * DIV_UP(tokens, 32) + vectors % 2 * DIV_UP(tokens, 64);
    (void)rows;
    return walk->words / AC_TILE_WORDS * score + AC_MLA_DV / AC_TILE_WORDS * vectors;
}

#undef KEY_STRIDE
#undef SCORE_STRIDE
#undef QUERY_VECTOR
#undef TURNED_PAIRS
#undef TURNED_STRIDE
#undef MAX_STEPS
