#include "block.h"

static void place(const ac_kv_cache_t *kv, int64_t page, int64_t row, ac_cpu_kv_row_t *out_row) {
    const char *base = kv->base + page * kv->page_stride;
    out_row->latent = base + kv->latent_offset + row * kv->latent_stride;
    out_row->rope = base + kv->rope_offset + row * kv->rope_stride;
    out_row->scales = base + kv->scale_offset + row * kv->scale_stride;
}

/* Adds the keys [from, to) to the block until it is full; returns where it stopped. An entry outside the pool masks its
 * keys: they are left out. */
static int64_t gather(const ac_attention_params_t *p, const ac_work_t *work, int64_t from, int64_t to, int capacity,
                      ac_cpu_kv_block_t *block) {
    const ac_kv_cache_t *kv = &p->kv[0].cache;
    int count = 0;
    if (kv->entry_rows == 1 && kv->page_size == 1) { /* the same without the inner loop */
        for (; from < to && count < capacity; from++) {
            const int64_t page = work->entries[from];
            if (page >= 0 && page < kv->num_entries) place(kv, page, 0, &block->rows[count++]);
        }
        block->num_tokens = count;
        return from;
    }
    int64_t index = from / kv->entry_rows, skipped = from % kv->entry_rows;
    for (; from < to && count < capacity; index++, skipped = 0) {
        int64_t page = work->entries[index], row = skipped, run = ac_min64(kv->entry_rows - skipped, to - from);
        if (page < 0 || page >= kv->num_entries) {
            from += run;
            continue;
        }
        if (kv->entry_rows != kv->page_size) { /* a slot */
            row = page % kv->page_size;
            page /= kv->page_size;
        }
        run = ac_min64(run, capacity - count);
        from += run;
        for (; run > 0; run--, row++, count++) place(kv, page, row, &block->rows[count]);
    }
    block->num_tokens = count;
    return from;
}

void ac_cpu_mla_next_block(const ac_attention_params_t *p, const ac_work_t *work, int capacity, int64_t *cursor,
                           ac_cpu_kv_block_t *out_block) {
    out_block->num_tokens = out_block->first_row = 0;
    while (*cursor < work->end && out_block->num_tokens == 0) {
        /* The piece ends with what the first token that sees *cursor sees, so that all of it is visible to that token
         * and to every later one. */
        int64_t query = work->first_pair / p->num_heads;
        if (work->causal) query = ac_max64(query, ac_shard_key(&work->shard, *cursor) - work->frontier);
        out_block->first_row = (int)ac_clamp64(query * p->num_heads - work->first_pair, 0, work->num_rows);
        int64_t to = ac_seen_end(work, query);
        if (out_block->first_row == work->num_rows || to <= *cursor) return;
        *cursor = gather(p, work, *cursor, to, capacity, out_block);
    }
}
