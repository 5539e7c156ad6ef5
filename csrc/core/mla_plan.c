#include "mla_plan.h"

#include <inttypes.h>
#include <stddef.h>

#include "check.h"
#include "fault.h"
#include "../ops/attention/work.h"

#define SPLIT_GRANULE 16 /* runs begin at multiples of it, so that no kernel tile straddles two of them */

/* An explicit count above this and above what the lists could fill is lowered: the rest of the runs would hold nothing,
 * and the scratch would not fit any memory. */
#define MAX_SPLITS 4096

/* deterministic=True without an explicit count: the cut depends on the row's own length and on nothing else. */
#define FIXED_SPLITS 16
#define FIXED_SPLIT_MIN_ROWS 512
#define FIXED_SPLIT_GRANULE 64

typedef enum { FITS, Q_DTYPE, KV_DTYPE, O_DTYPE, KV_FORMAT, HEADS, SEQLEN_Q } column_t;

static const char *const column_names[] = {
    [FITS] = "everything", [Q_DTYPE] = "q_dtype", [KV_DTYPE] = "kv_dtype",     [O_DTYPE] = "o dtype",
    [HEADS] = "num_heads", [KV_FORMAT] = "kv_format", [SEQLEN_Q] = "max_seqlen_q"};

/* The dtype by which the kernel table knows a cache: the records are fp8 inside. */
static ac_dtype_t table_kv_dtype(const ac_mla_request_t *r) {
    return r->kv_format == AC_KV_PLAIN ? r->kv_dtype : AC_FLOAT8_E4M3FN;
}

/* The first column in which the kernel does not serve the request; later columns are nearer misses. */
static column_t first_misfit(const ac_kernel_t *kernel, const ac_mla_request_t *r) {
    if (!ac_dtype_in(r->q_dtype, kernel->q_dtypes)) return Q_DTYPE;
    if (!ac_dtype_in(table_kv_dtype(r), kernel->kv_dtypes)) return KV_DTYPE;
    if (r->o_dtype != AC_DTYPE_NONE && !ac_dtype_in(r->o_dtype, kernel->o_dtypes)) return O_DTYPE;
    if (!(kernel->kv_formats >> r->kv_format & 1)) return KV_FORMAT;
    if (r->num_heads > kernel->max_heads) return HEADS;
    if (kernel->max_seqlen_q && r->max_seqlen_q > kernel->max_seqlen_q) return SEQLEN_Q;
    return FITS;
}

static int64_t tiles_of(const ac_kernel_t *kernel, int64_t query_rows) {
    return (query_rows + kernel->tile_rows - 1) / kernel->tile_rows;
}

/* Fewer passes over the KV, then less of the tile that no row fills. */
static bool is_better(const ac_kernel_t *kernel, const ac_kernel_t *than, int64_t query_rows) {
    int64_t tiles = tiles_of(kernel, query_rows), other = tiles_of(than, query_rows);
    return tiles != other ? tiles < other : kernel->tile_rows < than->tile_rows;
}

/* The best kernel of the op that serves the request, on this arch or on the nearest below that it also runs. */
static const ac_kernel_t *find_kernel(const char *op, ac_op_t kind, const ac_mla_request_t *r, ac_arch_t arch,
                                      ac_error_t *error) {
    /* Kernels of other tiles add in another order: a deterministic row must not depend on the longest query. */
    const int64_t query_rows = (int64_t)(r->deterministic ? 1 : r->max_seqlen_q) * r->num_heads;
    const ac_kernel_t *nearest = NULL, *best = NULL;
    column_t nearest_misfit = FITS;
    const int lowest = ac_arch_is_cpu(arch) ? AC_CPU_PORTABLE : (int)arch;
    for (int tried = (int)arch; tried >= lowest && !best; tried--) {
        for (int i = 0; i < AC_KERNEL_COUNT; i++) {
            const ac_kernel_t *kernel = ac_kernel((ac_kernel_id_t)i);
            if (kernel->op != kind || (int)kernel->arch != tried) continue;
            column_t misfit = kind == AC_OP_MLA_MERGE ? FITS : first_misfit(kernel, r);
            if (misfit == FITS && (!best || is_better(kernel, best, query_rows))) best = kernel;
            if (misfit > nearest_misfit) nearest = kernel, nearest_misfit = misfit;
        }
    }
    if (best) return best;
    ac_fail(error, AC_ERROR_UNSUPPORTED,
            "%s: no kernel on %s for q %s, kv %s (%s), o %s, %" PRId32 " heads, max_seqlen_q %" PRId32
            "; the nearest is %s, which differs in %s",
            op, ac_arch_name(arch), ac_dtype_name(r->q_dtype), ac_dtype_name(r->kv_dtype),
            ac_kv_format_name(r->kv_format), r->o_dtype == AC_DTYPE_NONE ? "any" : ac_dtype_name(r->o_dtype),
            r->num_heads, r->max_seqlen_q, nearest ? nearest->name : "none", column_names[nearest_misfit]);
    return NULL;
}

static int check_request(const char *op, const ac_mla_request_t *r, ac_error_t *error) {
    if (ac_check_int(op, "batch", r->batch, 0, INT32_MAX, error) < 0) return -1;
    if (ac_check_int(op, "max_seqlen_q", r->max_seqlen_q, 1, INT32_MAX, error) < 0) return -1;
    if (ac_check_int(op, "page_size", r->page_size, 1, INT32_MAX, error) < 0) return -1;
    if (ac_check_int(op, "num_heads", r->num_heads, 1, INT32_MAX, error) < 0) return -1;
    if (r->num_kv_splits != AC_MLA_AUTO_SPLITS && r->num_kv_splits < 1)
        return ac_fail(error, AC_ERROR_VALUE,
                       "%s: num_kv_splits: expected None or -1 (automatic) or 1 to 2147483647, got %" PRId32, op,
                       r->num_kv_splits);
    if (r->num_heads > AC_MLA_MAX_HEADS)
        return ac_fail(error, AC_ERROR_UNSUPPORTED, "%s: num_heads: expected 1 to %d, got %" PRId32, op,
                       AC_MLA_MAX_HEADS, r->num_heads);
    if (r->kv_lora_rank != AC_MLA_DV || (r->rope_dim != AC_MLA_ROPE && r->rope_dim != 0))
        return ac_fail(error, AC_ERROR_UNSUPPORTED,
                       "%s: kv_lora_rank + qk_rope_head_dim: expected 512 + 64 or 512 + 0, got %" PRId32 " + %" PRId32,
                       op, r->kv_lora_rank, r->rope_dim);
    if (r->kv_format != AC_KV_PLAIN && r->rope_dim == 0)
        return ac_fail(error, AC_ERROR_UNSUPPORTED, "%s: qk_rope_head_dim: expected 64 for kv_format %s, got 0", op,
                       ac_kv_format_name(r->kv_format));
    if (r->kv_format != AC_KV_PLAIN && !ac_dtype_in(r->q_dtype, AC_HALF))
        return ac_fail(error, AC_ERROR_UNSUPPORTED, "%s: q: expected bfloat16 or float16 for kv_format %s, got %s", op,
                       ac_kv_format_name(r->kv_format), ac_dtype_name(r->q_dtype));
    return 0;
}

/* Fills the four fields that say how KV lists are cut. */
static void plan_splits(ac_mla_plan_t *plan) {
    const ac_mla_request_t *r = &plan->request;
    plan->split_min_rows = 0;
    plan->split_granule = SPLIT_GRANULE;
    if (r->num_kv_splits != AC_MLA_AUTO_SPLITS) {
        int64_t most = r->total_kv < 0 ? MAX_SPLITS : r->total_kv / SPLIT_GRANULE;
        most = most < MAX_SPLITS ? MAX_SPLITS : most;
        plan->num_kv_splits = plan->split_count = r->num_kv_splits < most ? r->num_kv_splits : (int32_t)most;
    } else if (r->deterministic) {
        int64_t most = r->total_kv < 0 ? FIXED_SPLITS
                                       : ac_ceil_div64(r->total_kv, FIXED_SPLIT_MIN_ROWS);
        plan->num_kv_splits = (int32_t)(most < 1 ? 1 : most > FIXED_SPLITS ? FIXED_SPLITS : most);
        plan->split_count = FIXED_SPLITS;
        plan->split_min_rows = FIXED_SPLIT_MIN_ROWS;
        plan->split_granule = FIXED_SPLIT_GRANULE;
    } else if (!ac_arch_is_cpu(plan->target.arch)) {
        plan->num_kv_splits = plan->split_count =
            ac_mla_fill_splits((int64_t)r->batch * plan->row_tiles,
                               r->total_kv < 0 ? -1 : r->total_kv / ac_max64(r->batch, 1), plan->target.compute_units);
    } else {
        int is_fp8 = ac_dtype_in(r->q_dtype, AC_FP8) && r->total_kv >= 0;
        plan->num_kv_splits = plan->split_count =
            ac_mla_choose_splits(AC_MLA_AUTO_SPLITS, r->batch, r->total_kv, r->num_heads, r->max_seqlen_q, is_fp8, 1,
                                 r->total_kv < 0, plan->target.compute_units);
    }
}

int ac_mla_plan(const char *op, const ac_mla_request_t *request, const ac_plan_target_t *target,
                ac_mla_plan_t *out_plan, ac_error_t *error) {
    ac_mla_plan_t plan = {.request = *request, .target = *target};
    if (check_request(op, request, error) < 0) return -1;
    plan.stage1 = find_kernel(op, AC_OP_MLA_DECODE, request, target->arch, error);
    plan.stage2 = find_kernel(op, AC_OP_MLA_MERGE, request, target->arch, error);
    if (!plan.stage1 || !plan.stage2) return -1;
    int64_t tiles = tiles_of(plan.stage1, (int64_t)request->max_seqlen_q * request->num_heads);
    if (ac_check_int(op, "max_seqlen_q * num_heads / tile_rows", tiles, 1, INT32_MAX, error) < 0) return -1;
    plan.row_tiles = (int32_t)tiles;
    plan_splits(&plan);
    plan.writes_output = plan.num_kv_splits == 1 && plan.stage1->writes_output && !AC_FAULT("merge_after_direct");
    if (__builtin_mul_overflow((int64_t)request->batch * plan.num_kv_splits, tiles, &plan.grid))
        return ac_fail(error, AC_ERROR_VALUE, "%s: num_kv_splits: %" PRId32 " splits of %" PRId32
                       " requests overflow the grid", op, plan.num_kv_splits, request->batch);
    plan.scratch_bytes = (int64_t)plan.stage1->local_bytes * target->compute_units;
    *out_plan = plan;
    return 0;
}

int64_t ac_mla_workspace_bytes(const ac_mla_plan_t *plan, int64_t num_rows) {
    const int64_t row_bytes = (int64_t)plan->num_kv_splits * plan->request.num_heads * (AC_MLA_DV + 1) * 4;
    int64_t bytes;
    if (plan->writes_output) return 0;
    return __builtin_mul_overflow(num_rows, row_bytes, &bytes) ? -1 : bytes;
}
