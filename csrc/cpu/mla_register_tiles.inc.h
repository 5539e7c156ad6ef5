/* The two products of mla_decode.inc.h on the vector registers: scores with rows in the lanes, the output with columns in
 * the lanes, each in a register tile of accumulators. */

#define COLUMNS (AC_PV_VECS * AC_LANES) /* of the output's register tile */

/* Adds the sum over a chunk of `words` words to the scores of `vectors` vectors of rows with QK_TOKENS keys. */
static inline __attribute__((always_inline)) void ENGINE(score_tile)(const float *query, const float *key, int words,
                                                                     int is_first, v_t scale, ENGINE(ahead_t) *ahead,
                                                                     float *score, const int vectors) {
    v_t sum[QK_VECS][QK_TOKENS];
#pragma GCC unroll 16
    for (int t = 0; t < QK_TOKENS; t++)
#pragma GCC unroll 4
        for (int v = 0; v < vectors; v++) sum[v][t] = v_zero();
    for (int run = 0; run < words; run += RUN) {
        ENGINE(prefetch)(ahead);
        for (int w = 0; w < RUN; w++, query += AC_LANES, key++) {
            v_t q[QK_VECS];
#pragma GCC unroll 4
            for (int v = 0; v < vectors; v++) q[v] = v_load(query + v * WORDS * AC_LANES);
#pragma GCC unroll 16
            for (int t = 0; t < QK_TOKENS; t++) {
                v_t k = v_broadcast(key + t * WORDS);
#pragma GCC unroll 4
                for (int v = 0; v < vectors; v++) sum[v][t] = v_mac(q[v], k, sum[v][t]);
            }
        }
    }
#pragma GCC unroll 16
    for (int t = 0; t < QK_TOKENS; t++)
#pragma GCC unroll 4
        for (int v = 0; v < vectors; v++) {
            float *to = score + t * ROWS + v * AC_LANES;
            v_t total = is_first ? sum[v][t] : v_add(v_load(to), sum[v][t]);
            v_store(to, v_mul(total, scale));
        }
}

/* Scores of the vectors [first, last) of rows with the block's keys, one chunk of the words after the other: a chunk of
 * the queries stays in the L1 while all keys pass over it, and a sum of short sums rounds less than one long one (the LSE
 * of a row with one key is its score, however close to zero that comes). The last register tile may cover keys behind the
 * block's end: leftovers in the scratch, whose scores nothing reads. */
static void ENGINE(score)(const ENGINE(walk_t) *walk, ENGINE(local_t) *local, int first, int last, int num_tokens,
                          ENGINE(ahead_t) *ahead) {
    int words = walk->words / QK_CHUNKS;
    for (int chunk = 0; chunk < QK_CHUNKS; chunk++) {
        v_t scale = v_set1(chunk + 1 == QK_CHUNKS ? walk->score_scale : 1);
        for (int v = first; v < last; v += QK_VECS) {
            const float *query = local->query + (v * WORDS + chunk * words) * AC_LANES;
            for (int t = 0; t < num_tokens; t += QK_TOKENS) {
                const float *key = local->keys + t * WORDS + chunk * words;
                float *score = local->scores + t * ROWS + v * AC_LANES;
                if (v + QK_VECS <= last)
                    ENGINE(score_tile)(query, key, words, chunk == 0, scale, ahead, score, QK_VECS);
                else /* QK_VECS is 1 or 2 */
                    ENGINE(score_tile)(query, key, words, chunk == 0, scale, ahead, score, 1);
            }
        }
    }
}

/* acc = acc * rescale + P V for `rows` rows and COLUMNS columns. */
static inline __attribute__((always_inline)) void ENGINE(output_tile)(const float *p, const float *value,
                                                                      int value_stride, int units,
                                                                      const float *rescale, float *acc,
                                                                      ENGINE(ahead_t) *ahead, const int rows) {
    v_t sum[AC_PV_ROWS][AC_PV_VECS];
#pragma GCC unroll 8
    for (int r = 0; r < rows; r++)
#pragma GCC unroll 4
        for (int c = 0; c < AC_PV_VECS; c++)
            sum[r][c] = v_mul(v_load(acc + r * AC_MLA_DV + c * AC_LANES), v_broadcast(rescale + r));
    for (int u = 0; u < units; u += RUN) {
        int run = units - u < RUN ? units - u : RUN;
        ENGINE(prefetch)(ahead);
        for (int i = 0; i < run; i++, p += ROWS, value += value_stride) {
            v_t columns[AC_PV_VECS];
#pragma GCC unroll 4
            for (int c = 0; c < AC_PV_VECS; c++) columns[c] = v_load(value + c * AC_LANES);
#pragma GCC unroll 8
            for (int r = 0; r < rows; r++) {
                v_t weight = v_broadcast(p + r);
#pragma GCC unroll 4
                for (int c = 0; c < AC_PV_VECS; c++) sum[r][c] = v_mac(weight, columns[c], sum[r][c]);
            }
        }
    }
#pragma GCC unroll 8
    for (int r = 0; r < rows; r++)
#pragma GCC unroll 4
        for (int c = 0; c < AC_PV_VECS; c++) v_store(acc + r * AC_MLA_DV + c * AC_LANES, sum[r][c]);
}

/* Columns outside, rows inside: a slice of the values stays in the L1 while all rows pass over it. Rows before
 * first_row do not see the block and are not touched: its values may be NaN. */
static void ENGINE(output)(ENGINE(local_t) *local, int first_row, int num_rows, int units, ENGINE(ahead_t) *ahead) {
    for (int column = 0; column < AC_MLA_DV; column += COLUMNS) {
        int stride, row = first_row;
        const float *value = ENGINE(values)(local, column, &stride);
        for (; row + AC_PV_ROWS <= num_rows; row += AC_PV_ROWS)
            ENGINE(output_tile)(local->scores + row, value, stride, units, local->rescale + row,
                                local->acc + row * AC_MLA_DV + column, ahead, AC_PV_ROWS);
        float *acc = local->acc + row * AC_MLA_DV + column;
        const float *p = local->scores + row, *rescale = local->rescale + row;
        switch (num_rows - row) { /* fewer than AC_PV_ROWS, which is 4 or 6 */
#if AC_PV_ROWS > 4
        case 5: ENGINE(output_tile)(p, value, stride, units, rescale, acc, ahead, 5); break;
        case 4: ENGINE(output_tile)(p, value, stride, units, rescale, acc, ahead, 4); break;
#endif
        case 3: ENGINE(output_tile)(p, value, stride, units, rescale, acc, ahead, 3); break;
        case 2: ENGINE(output_tile)(p, value, stride, units, rescale, acc, ahead, 2); break;
        case 1: ENGINE(output_tile)(p, value, stride, units, rescale, acc, ahead, 1); break;
        default: break;
        }
    }
}

/* The calls of prefetch() that score() and output() make for a block. */
static int ENGINE(count_runs)(const ENGINE(walk_t) *walk, int vectors, int rows, int tokens) {
    int score = walk->words / RUN * DIV_UP(vectors, QK_VECS) * DIV_UP(tokens, QK_TOKENS);
    int output = AC_MLA_DV / COLUMNS * DIV_UP(rows, AC_PV_ROWS) * DIV_UP(DIV_UP(tokens, AC_PAIR), RUN);
    return score + output;
}

#undef COLUMNS
