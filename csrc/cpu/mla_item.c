#include "mla_item.h"

static int64_t min64(int64_t a, int64_t b) { return a < b ? a : b; }
static int64_t max64(int64_t a, int64_t b) { return a > b ? a : b; }
static int64_t clamp64(int64_t x, int64_t low, int64_t high) { return x < low ? low : x > high ? high : x; }
static int64_t ceil_div(int64_t a, int64_t b) { return a / b + (a % b != 0); }

void ac_cpu_mla_queries(const int32_t *qo_indptr, int64_t request, int64_t num_rows, int64_t *out_begin,
                        int64_t *out_count) {
    int64_t begin = clamp64(qo_indptr[request], 0, num_rows);
    *out_begin = begin;
    *out_count = clamp64(qo_indptr[request + 1], begin, num_rows) - begin;
}

/* The request's pages and the number of KV rows in them. */
static void find_kv(const ac_mla_decode_params_t *p, int64_t request, ac_cpu_mla_item_t *item) {
    int64_t begin = clamp64(p->kv_indptr[request], 0, p->num_indices);
    int64_t pages = clamp64(p->kv_indptr[request + 1], begin, p->num_indices) - begin;
    int64_t page_size = p->kv.page_size;
    item->pages = pages > 0 ? p->kv_indices + begin : 0;
    item->length = pages * page_size;
    if (p->kv_last_page_lens && pages > 0)
        item->length -= page_size - clamp64(p->kv_last_page_lens[request], 0, page_size);
}

/* The rows of split number item->split; none when the request has fewer splits. */
static void find_split(const ac_splits_t *splits, int64_t request, ac_cpu_mla_item_t *item) {
    int64_t count = min64(splits->count, splits->num_splits);
    if (splits->indptr)
        count = clamp64((int64_t)splits->indptr[request + 1] - splits->indptr[request], 0, splits->num_splits);
    item->begin = item->end = 0;
    if (item->split >= count) return;
    int64_t granule = max64(splits->granule, 1);
    int64_t run = max64(ceil_div(ceil_div(item->length, count), granule) * granule, splits->min_rows);
    item->begin = min64(item->split * run, item->length);
    item->end = min64(item->begin + run, item->length);
}

int ac_cpu_mla_item(const ac_mla_decode_params_t *p, int64_t index, ac_cpu_mla_item_t *out_item) {
    int64_t tile = index % p->row_tiles, rest = index / p->row_tiles;
    int64_t request = rest / p->splits.num_splits;
    out_item->split = (int32_t)(rest % p->splits.num_splits);
    ac_cpu_mla_queries(p->qo_indptr, request, p->num_rows, &out_item->query_begin, &out_item->num_queries);
    int64_t pairs = min64(out_item->num_queries, p->max_seqlen_q) * p->num_heads;
    out_item->first_pair = tile * AC_LOCAL_ROWS;
    if (out_item->first_pair >= pairs) return 0;
    out_item->num_rows = (int)min64(pairs - out_item->first_pair, AC_LOCAL_ROWS);
    find_kv(p, request, out_item);
    find_split(&p->splits, request, out_item);
    return 1;
}

/* Adds the keys [from, to) to the block until it is full; returns where it stopped. A page outside the pool masks its
 * keys: they are left out. */
static int64_t gather(const ac_mla_decode_params_t *p, const ac_cpu_mla_item_t *item, int64_t from, int64_t to,
                      int capacity, ac_cpu_kv_block_t *block) {
    const ac_kv_cache_t *kv = &p->kv;
    int64_t slot = from / kv->page_size, row = from % kv->page_size;
    int count = 0;
    for (; from < to && count < capacity; slot++, row = 0) {
        int64_t page = item->pages[slot], run = min64(kv->page_size - row, to - from);
        if (page < 0 || page >= kv->num_pages) {
            from += run;
            continue;
        }
        run = min64(run, capacity - count);
        from += run;
        const char *base = kv->base + page * kv->page_stride;
        for (; run > 0; run--, row++, count++) {
            block->rows[count].latent = base + kv->latent_offset + row * kv->latent_stride;
            block->rows[count].rope = base + kv->rope_offset + row * kv->rope_stride;
            block->rows[count].scales = base + kv->scale_offset + row * kv->scale_stride;
        }
    }
    block->num_tokens = count;
    return from;
}

void ac_cpu_mla_next_block(const ac_mla_decode_params_t *p, const ac_cpu_mla_item_t *item, int capacity,
                           int64_t *cursor, ac_cpu_kv_block_t *out_block) {
    out_block->num_tokens = out_block->first_row = 0;
    while (*cursor < item->end && out_block->num_tokens == 0) {
        int64_t to = item->end;
        if (p->causal) {
            /* Query token t sees the keys up to hidden + t. Cutting behind what the first token that sees *cursor
             * sees makes the whole piece visible to it and to every later one. */
            int64_t hidden = item->length - item->num_queries;
            int64_t query = max64(item->first_pair / p->num_heads, *cursor - hidden);
            out_block->first_row = (int)clamp64(query * p->num_heads - item->first_pair, 0, item->num_rows);
            if (out_block->first_row == item->num_rows) return;
            to = min64(to, hidden + query + 1);
        }
        *cursor = gather(p, item, *cursor, to, capacity, out_block);
    }
}
