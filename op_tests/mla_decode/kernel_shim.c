/* The kernels' own headers for tests: work items and groups as C sees them, parameter structs for launches, and the
 * portable CPU kernels. Tests compile it with any C compiler; every argument list is an array of int64. */
#include "simd_portable.h"

#include "../ops/attention/cpu/block.c"
#include "../ops/attention/cpu/common.inc"
#include "../ops/attention/cpu/engine_f32.inc"
#include "../ops/attention/work_fast_lists.h"
#include "../ops/mla_decode/kernel_params.h"

/* No call is interrupted here. */
bool ac_cpu_cancelled(void) { return 0; }

#define EXPORT __attribute__((visibility("default")))

/* bfloat16 queries over a plain bfloat16 cache of [num_pages, 576], page size 1. */
EXPORT int64_t shim_decode_params(const int64_t *a, ac_mla_decode_params_t *p) {
    int64_t H = a[10], page = 576 * 2;
    memset(p, 0, sizeof *p);
    p->attention.q = (const char *)a[0];
    p->attention.q_row_stride = H * 576 * 2;
    p->attention.q_head_stride = 576 * 2;
    p->attention.kv[0].cache = (ac_kv_cache_t){
        .base = (const char *)a[1], .num_entries = a[12], .page_stride = page, .latent_stride = page, .rope_stride = page,
        .rope_offset = AC_MLA_DV * 2, .page_size = 1, .entry_rows = 1, .page_multiplier = 1, .page_shift = 0,
        .latent_dtype = AC_BFLOAT16, .rope_dtype = AC_BFLOAT16, .rope_dim = 64,
    };
    p->attention.o = (char *)a[2];
    p->attention.o_row_stride = H * AC_MLA_DV * 2;
    p->attention.o_head_stride = AC_MLA_DV * 2;
    p->attention.lse = (float *)a[3];
    p->attention.partial_o = (float *)a[4];
    p->attention.partial_lse = (float *)a[5];
    p->work.grid.qo_indptr = (const int32_t *)a[6];
    p->attention.kv[0].indptr = (const int32_t *)a[7];
    p->attention.kv[0].indices = (const int32_t *)a[8];
    p->attention.total_indptr = (const int32_t *)a[9];
    p->attention.num_heads = (int32_t)H;
    p->attention.segments = 1;
    p->attention.lse_unit = (float)AC_LN_2;
    p->attention.lse_empty = -INFINITY;
    p->attention.num_rows = a[11];
    p->attention.kv[0].num_indices = a[13];
    p->work.grid.max_seqlen_q = (int32_t)a[14];
    p->work.grid.splits = (ac_splits_t){NULL, (int32_t)a[15], (int32_t)a[15], 1, 1};
    p->work.grid.writes_output = (int32_t)a[16];
    p->attention.causal = (int32_t)a[17];
    p->attention.shard = (ac_shard_t){(int32_t)a[18], (int32_t)a[19], (int32_t)a[20]};
    p->work.grid.row_tiles = (int32_t)((a[14] * H + a[21] - 1) / a[21]);
    p->attention.q_scale = p->attention.kv_scale = (ac_scale_t){NULL, 1};
    p->attention.sm_scale = 1.0f / 24;
    p->attention.q_dtype = AC_BFLOAT16;
    p->attention.o_dtype = AC_BFLOAT16;
    return sizeof *p;
}

/* The work item: its numbers, and what the tokens 0 .. tokens-1 see. Returns 0 when it has no rows. */
EXPORT int64_t shim_work(const ac_mla_decode_params_t *p, int64_t index, int64_t tile_rows, int64_t tokens,
                         int64_t *numbers, int64_t *seen) {
    ac_work_t work;
    if (!ac_work_from_grid(&p->attention, &p->work.grid, index, (int)tile_rows, &work)) return 0;
    const int64_t all[] = {work.query_begin, work.first_pair, work.num_rows, work.begin, work.end,
                           work.entries ? work.entries - p->attention.kv[0].indices : -1, work.partial_row,
                           work.partial_step};
    memcpy(numbers, all, sizeof all);
    for (int64_t t = 0; t < tokens; t++) seen[t] = ac_seen_end(&work, t);
    return 1;
}

/* Division by a reciprocal. */
EXPORT int64_t shim_divide(int64_t d, int64_t n) { return ac_divide(ac_divisor(d), (uint32_t)n); }

/* Whether two items, and what their rows see, are the same. */
static int same_work(const ac_attention_params_t *p, const ac_work_t *a, const ac_work_t *b, const ac_span_t *span) {
    const int64_t query = a->first_pair / p->num_heads, head = a->first_pair % p->num_heads;
    const int64_t end = ac_seen_end(a, query + (head + a->num_rows - 1) / p->num_heads);
    return a->query_begin == b->query_begin && a->first_pair == b->first_pair && a->num_rows == b->num_rows &&
           a->causal == b->causal && a->entries == b->entries && a->begin == b->begin && a->end == b->end &&
           a->frontier == b->frontier && a->total == b->total && a->partial_row == b->partial_row &&
           a->partial_step == b->partial_step && memcmp(&a->shard, &b->shard, sizeof a->shard) == 0 &&
           span->first_query == query && span->first_head == head && span->end == end &&
           span->masked_tail == end - ac_seen_end(a, query);
}

/* Every item by work_items.h and by work_fast.h, with the guess and without: how many there are; -1 where they differ,
 * -2 where work_fast.h does not serve them. Numbers: rows, heads, most rows of a request, requests, indices, rows of an
 * entry, width and stride of a table, splits, their count, least and granule, causal, final, rows of a tile; of lists
 * tiles of rows, workers, items, partials, placed; stride of the shards. */
EXPORT int64_t shim_fast(const int64_t *a, const int32_t *qo, const int32_t *kv, const int32_t *indices,
                         const int32_t *last, const int32_t *lengths, const int32_t *splits, const int32_t *work_indptr,
                         const int32_t *items) {
    ac_mla_decode_params_t p = {0};
    int64_t found = 0, grid = 0;
    ac_attention_params_t *at = &p.attention;
    at->num_rows = a[0], at->num_heads = (int32_t)a[1], at->causal = (int32_t)a[12];
    at->shard = (ac_shard_t){(int32_t)a[20], 0, 1};
    at->kv[0] = (ac_kv_source_t){.cache = {.entry_rows = (int32_t)a[5]}, .indptr = kv, .indices = indices,
                                 .last_page_lens = last, .lengths = lengths, .num_indices = a[4], .table_width = a[6],
                                 .table_stride = a[7]};
    p.work.grid = (ac_work_grid_t){qo, {splits, (int32_t)a[8], (int32_t)a[9], (int32_t)a[10], (int32_t)a[11]},
                                   (int32_t)a[3], (int32_t)a[2], 1, (int32_t)a[13]};
    p.work.grid.row_tiles = (int32_t)(work_indptr ? a[15] : (a[2] * a[1] + a[14] - 1) / a[14]);
    p.work.lists = (ac_work_lists_t){work_indptr, items, a[17], a[18], (int32_t)a[3], (int32_t)a[16], (int32_t)a[19]};
    p.fast = ac_work_fast(at, &p.work);
    if (!p.fast.fits) return -2;
    grid = p.work.grid.row_tiles * (work_indptr ? a[16] : a[3] * a[8]);
    for (int64_t w = 0; w < grid; w++) {
        for (int guess = 0; guess < (work_indptr ? 2 : 1); guess++) {
            ac_work_done_t done = {0}, fast_done = {0};
            for (int more = 1; more;) {
                ac_work_t work, fast;
                ac_span_t span;
                int is_first = done.items == 0 && done.tiles == 0, same;
                more = ac_work_next(at, &p.work, w, (int)a[14], &done, &work);
                if (work_indptr)
                    same = more == ac_fast_from_lists(at, &p.work, &p.fast, (uint32_t)w, (int)a[14], guess && is_first,
                                                      &fast_done, &fast, &span) &&
                           (fast_done.items == AC_FAST_NO_MORE || memcmp(&done, &fast_done, sizeof done) == 0);
                else
                    same = !is_first || more == ac_fast_from_grid(at, &p.work.grid, &p.fast, (uint32_t)w, (int)a[14],
                                                                  &fast, &span);
                if (!same || (more && !same_work(at, &work, &fast, &span))) return -1;
                found += more;
            }
        }
    }
    return found;
}

EXPORT int64_t shim_shard_key(int64_t stride, int64_t phase, int64_t block, int64_t key) {
    return ac_shard_key(&(ac_shard_t){(int32_t)stride, (int32_t)phase, (int32_t)block}, key);
}

EXPORT int64_t shim_shard_count(int64_t stride, int64_t phase, int64_t block, int64_t count) {
    return ac_shard_count(&(ac_shard_t){(int32_t)stride, (int32_t)phase, (int32_t)block}, count);
}

EXPORT void shim_decode(const ac_mla_decode_params_t *p, int64_t grid, void *scratch) {
    ac_work_t work;
    for (int64_t i = 0; i < grid; i++)
        if (ac_work_from_grid(&p->attention, &p->work.grid, i, AC_LOCAL_ROWS, &work))
            run_item_f32(&p->attention, &work, scratch);
}

EXPORT int64_t shim_scratch_bytes(void) { return sizeof(local_t_f32); }
