/* MLA decode of one work item: scores, online softmax and output of a tile of rows over one run of KV, which is read
 * once. Compiled once per engine and instruction set; mla_f32.inc.h, mla_dot.inc.h and mla_amx.inc.h include it behind
 *
 *   ENGINE(name)     name with the engine's suffix
 *   AC_PAIR          elements in a word: 1 (fp32), or 2 (bf16 that are multiplied and summed in one step)
 *   AC_BLOCK         keys that are resident at a time
 *   AC_TILES         the file with ENGINE(score), ENGINE(output) and ENGINE(count_runs): mla_register_tiles.inc.h, which
 *                    wants QK_VECS, QK_TOKENS, QK_CHUNKS (register tile of the scores, chunks in which a key is walked)
 *                    and v_mac(a, b, c) = c + the product of the words a and b; or mla_amx_tiles.inc.h
 *   ENGINE(local_t)  the scratch: query, keys, scores, acc, top, sum, rescale, row (and what the engine adds)
 *   ENGINE(load_query), ENGINE(load_block), ENGINE(values), ENGINE(store_p), ENGINE(order_columns)   see there
 *
 * Rows lie in the lanes: a query word of all rows times one broadcast word of a key gives the scores of all rows, so
 * that no sum crosses lanes and the softmax is vertical. For the output, columns lie in the lanes. A "word" is 32 bits
 * and a "unit" is the AC_PAIR keys whose words are summed in one step. */

#define ROWS AC_LOCAL_ROWS
#define WORDS (AC_LOCAL_KEY / AC_PAIR)     /* of a key; the stride also where the rope part is absent */
#define RUN 4                              /* steps between two prefetches; divides every chunk of a key */
#define LINE 64                            /* bytes of a cache line */
#define DIV_UP(a, b) (((a) + (b)-1) / (b))

/* What the walk over the KV needs of the params, looked up once per item. */
typedef struct ENGINE(walk) {
    float score_scale;            /* with log2(e): scores are in base 2 */
    int words;                    /* of a key */
    int latent_bytes, rope_bytes; /* of a row in the cache */
} ENGINE(walk_t);

static ENGINE(walk_t) ENGINE(make_walk)(const ac_mla_decode_params_t *p) {
    ENGINE(walk_t) walk;
    int dim = AC_MLA_DV + p->kv.rope_dim;
    double log2_e = 1.4426950408889634;
    walk.score_scale = (float)(p->sm_scale * log2_e * ac_cpu_query_scale(p) * ac_cpu_value_scale(p));
    walk.words = dim / AC_PAIR;
    walk.latent_bytes = AC_MLA_DV * ac_cpu_element_bytes(p->kv.latent_dtype);
    walk.rope_bytes = p->kv.rope_dim * ac_cpu_element_bytes(p->kv.rope_dtype);
    return walk;
}

/* The cache lines of the next block, asked for bit by bit during the computation of this one: all at once they would
 * fill the miss buffers and stop it. Into the L2, since a block is larger than the L1. */
typedef struct ENGINE(ahead) {
    const char *lines[AC_BLOCK * (AC_LOCAL_KEY * 2 / LINE)];
    int num_lines, done;
    int64_t due, due_per_run; /* lines, in 1/65536 */
} ENGINE(ahead_t);

/* Lists the lines of `next`; they are due over `num_runs` calls of prefetch(). */
static void ENGINE(look_ahead)(const ENGINE(walk_t) *walk, const ac_cpu_kv_block_t *next, int num_runs,
                               ENGINE(ahead_t) *ahead) {
    int n = 0;
    for (int t = 0; t < next->num_tokens; t++) {
        const ac_cpu_kv_row_t *row = &next->rows[t];
        for (int i = 0; i < walk->latent_bytes; i += LINE) ahead->lines[n++] = row->latent + i;
        for (int i = 0; i < walk->rope_bytes; i += LINE) ahead->lines[n++] = row->rope + i;
    }
    ahead->num_lines = n;
    ahead->done = 0;
    ahead->due = 0;
    ahead->due_per_run = ((int64_t)n << 16) / num_runs + 1;
}

static inline void ENGINE(prefetch)(ENGINE(ahead_t) *ahead) {
    ahead->due += ahead->due_per_run;
    int end = (int)(ahead->due >> 16);
    if (end > ahead->num_lines) end = ahead->num_lines;
    for (; ahead->done < end; ahead->done++) __builtin_prefetch(ahead->lines[ahead->done], 0, 2);
}

/* The tile's queries as words in the order of the scores: [vector of rows][word][lane]. Lanes behind the last row
 * are zero. */
static void ENGINE(load_queries)(const ac_mla_decode_params_t *p, const ac_cpu_mla_item_t *item, int words,
                                 ENGINE(local_t) *local) {
    memset(local->query, 0, sizeof local->query);
    for (int r = 0; r < item->num_rows; r++) {
        int64_t pair = item->first_pair + r, row = item->query_begin + pair / p->num_heads;
        const char *q = p->q + row * p->q_row_stride + pair % p->num_heads * p->q_head_stride;
        ENGINE(load_query)(p->q_dtype, q, words * AC_PAIR, local->row);
        float *lane = local->query + r / AC_LANES * WORDS * AC_LANES + r % AC_LANES;
        for (int w = 0; w < words; w++) lane[w * AC_LANES] = local->row[w];
    }
}

/* Online softmax of the vectors [first, last) of rows: scores become probabilities relative to the running maximum,
 * in words. A NaN score is left out of the maximum but makes its row's sum NaN. While a row has seen nothing but
 * -inf, its base is finite, so that its probabilities are 0 and not NaN. */
static void ENGINE(softmax)(ENGINE(local_t) *local, int first, int last, int num_tokens) {
    for (int v = first; v < last; v++) {
        float *score = local->scores + v * AC_LANES, *p = score;
        v_t before = v_load(local->top + v * AC_LANES), top = before;
        for (int t = 0; t < num_tokens; t++) top = v_max(v_load(score + t * ROWS), top);
        v_t base = v_max(top, v_set1(-FLT_MAX));
        v_t rescale = v_exp2(v_sub(before, base));
        v_t sum = v_mul(v_load(local->sum + v * AC_LANES), rescale);
        for (int t = 0; t < num_tokens; t += AC_PAIR, p += ROWS) { /* p never overtakes what is still to be read */
            v_t pair[2] = {v_exp2(v_sub(v_load(score + t * ROWS), base)), v_zero()};
            if (AC_PAIR == 2 && t + 1 < num_tokens) pair[1] = v_exp2(v_sub(v_load(score + (t + 1) * ROWS), base));
            sum = v_add(sum, v_add(pair[0], pair[1]));
            ENGINE(store_p)(p, pair);
        }
        v_store(local->top + v * AC_LANES, top);
        v_store(local->sum + v * AC_LANES, sum);
        v_store(local->rescale + v * AC_LANES, rescale);
    }
}

#include AC_TILES

/* Normalised rows and their LSE, final or as partials. */
static void ENGINE(finish)(const ac_mla_decode_params_t *p, const ac_cpu_mla_item_t *item, ENGINE(local_t) *local) {
    float value_scale = ac_cpu_value_scale(p);
    for (int r = 0; r < item->num_rows; r++) {
        int64_t pair = item->first_pair + r, head = pair % p->num_heads;
        int64_t row = item->query_begin + pair / p->num_heads;
        float *acc = local->acc + r * AC_MLA_DV, sum = local->sum[r];
        int empty = sum == 0; /* no key, or all of them -inf; the sum of any other row is >= 1 or NaN */
        float lse = empty ? -INFINITY : (float)((local->top[r] + log2(sum)) * 0.6931471805599453); /* ln(2) */
        v_t scale = v_set1(empty ? 0 : value_scale / sum);
        if (empty) memset(acc, 0, AC_MLA_DV * sizeof *acc); /* it may hold 0 * inf */
        else ENGINE(order_columns)(acc);
        if (p->writes_output) {
            ac_cpu_store_row(p->o + row * p->o_row_stride + head * p->o_head_stride, p->o_dtype, acc, scale);
            if (p->lse) p->lse[row * p->num_heads + head] = lse;
            continue;
        }
        int64_t partial = (row * p->splits.num_splits + item->split) * p->num_heads + head;
        p->partial_lse[partial] = lse;
        if (empty) continue;
        for (int i = 0; i < AC_MLA_DV; i += AC_LANES)
            v_store(p->partial_o + partial * AC_MLA_DV + i, v_mul(v_load(acc + i), scale));
    }
}

static void ENGINE(run_item)(const void *params, int64_t index, void *scratch) {
    const ac_mla_decode_params_t *p = params;
    ENGINE(local_t) *local = scratch;
    ENGINE(walk_t) walk = ENGINE(make_walk)(p);
    ac_cpu_kv_block_t blocks[2], *block = &blocks[0], *next = &blocks[1];
    ac_cpu_mla_item_t item;
    ENGINE(ahead_t) ahead;
    if (!ac_cpu_mla_item(p, index, &item)) return;

    int64_t cursor = item.begin;
    int last = DIV_UP(item.num_rows, AC_LANES);
    ac_cpu_mla_next_block(p, &item, AC_BLOCK, &cursor, block);
    ENGINE(look_ahead)(&walk, block, 1, &ahead);
    ENGINE(prefetch)(&ahead);
    for (int r = 0; r < ROWS; r++) local->top[r] = -INFINITY, local->sum[r] = 0;
    if (block->num_tokens > 0) {
        memset(local->acc, 0, (size_t)item.num_rows * AC_MLA_DV * sizeof *local->acc);
        ENGINE(load_queries)(p, &item, walk.words, local);
    }
    while (block->num_tokens > 0) {
        int first = block->first_row / AC_LANES, tokens = block->num_tokens;
        int runs = ENGINE(count_runs)(&walk, last - first, item.num_rows - block->first_row, tokens);
        ac_cpu_mla_next_block(p, &item, AC_BLOCK, &cursor, next);
        ENGINE(look_ahead)(&walk, next, runs, &ahead);
        ENGINE(load_block)(&p->kv, block, local);
        ENGINE(score)(&walk, local, first, last, tokens, &ahead);
        /* Rows in the lanes before first_row see nothing of this block. */
        for (int t = 0; t < tokens; t++)
            for (int r = first * AC_LANES; r < block->first_row; r++) local->scores[t * ROWS + r] = -INFINITY;
        ENGINE(softmax)(local, first, last, tokens);
        ENGINE(output)(local, block->first_row, item.num_rows, DIV_UP(tokens, AC_PAIR), &ahead);
        ac_cpu_kv_block_t *done = block;
        block = next;
        next = done;
    }
    ENGINE(finish)(p, &item, local);
}

#undef ROWS
#undef WORDS
#undef RUN
#undef LINE
#undef DIV_UP
