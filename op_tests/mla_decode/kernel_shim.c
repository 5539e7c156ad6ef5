/* The kernels' own headers for tests: work items and groups as C sees them, parameter structs for launches, and the
 * portable CPU kernels. Tests compile it with any C compiler; every argument list is an array of int64. */
#include "simd_portable.h"

#include "../ops/attention/cpu/block.c"
#include "../ops/attention/cpu/common.inc"
#include "../ops/attention/cpu/engine_f32.inc"
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
