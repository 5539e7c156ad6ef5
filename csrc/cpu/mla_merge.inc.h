/* Stage 2: one query row, all heads. Merges the row's partials in the order of the splits by their LSE. */

static void ac_cpu_merge_head(const ac_mla_merge_params_t *p, int64_t row, int64_t head) {
    const int64_t stride = p->num_heads; /* of the splits */
    const int64_t first = row * p->num_splits * stride + head;
    const float *lse = p->partial_lse + first, *partial = p->partial_o + first * AC_MLA_DV;
    float acc[AC_MLA_DV], sum = 0, top = -FLT_MAX;
    for (int i = 0; i < AC_MLA_DV; i++) acc[i] = -0.0f; /* the one start that keeps the sign of a lone zero */
    for (int64_t s = 0; s < p->num_splits; s++)
        if (lse[s * stride] > top) top = lse[s * stride];
    for (int64_t s = 0; s < p->num_splits; s++) {
        if (lse[s * stride] == -INFINITY) continue; /* nothing was written there */
        float weight = expf(lse[s * stride] - top);
        const float *from = partial + s * stride * AC_MLA_DV;
        v_t weights = v_set1(weight);
        sum += weight;
        for (int i = 0; i < AC_MLA_DV; i += AC_LANES)
            v_store(acc + i, v_fma(v_load(from + i), weights, v_load(acc + i)));
    }
    if (sum == 0) memset(acc, 0, sizeof acc);
    ac_cpu_store_row(p->o + row * p->o_row_stride + head * p->o_head_stride, p->o_dtype, acc,
                     v_set1(sum == 0 ? 0 : 1 / sum));
    if (p->lse) p->lse[row * p->num_heads + head] = sum == 0 ? -INFINITY : (float)(top + log(sum));
}

/* Item b * max_seqlen_q + t: query token t of request b. */
static void ac_cpu_merge_row(const void *params, int64_t index, void *scratch) {
    const ac_mla_merge_params_t *p = params;
    int64_t begin, count, token = index % p->max_seqlen_q;
    (void)scratch;
    ac_cpu_mla_queries(p->qo_indptr, index / p->max_seqlen_q, p->num_rows, &begin, &count);
    if (token >= count) return;
    for (int64_t head = 0; head < p->num_heads; head++) ac_cpu_merge_head(p, begin + token, head);
}
