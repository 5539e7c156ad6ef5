/* The planner of MLA decode: a pure function from a request to a plan. No Python, nothing read from memory. */
#ifndef AC_OPS_MLA_DECODE_PLAN_H
#define AC_OPS_MLA_DECODE_PLAN_H

#include "../../core/kernel.h"
#include "../../core/view.h"
#include "../attention/cache_format.h"
#include "kernel_params.h"

#define AC_MLA_MAX_HEADS 128
#define AC_MLA_AUTO_SPLITS (-1)
#define AC_MLA_ITEM_PAIRS 128 /* (query row, head) pairs of a list's item, as a rule */

extern const ac_kernel_family_t ac_kernels_mla_decode, ac_kernels_mla_merge;

/* Splits that are final rows, for somebody else to merge. */
typedef enum ac_mla_segments_t {
    AC_MLA_NO_SEGMENTS,
    AC_MLA_SEGMENTS,      /* cut as other splits are */
    AC_MLA_PAGE_SEGMENTS, /* cut at whole pages, a power of two of them */
} ac_mla_segments_t;

/* What a plan is made from: the call, and the device as far as a plan depends on it. */
typedef struct ac_mla_request_t {
    int32_t batch, num_heads, max_seqlen_q;
    int32_t page_size;                     /* keys that a list's entry stands for */
    ac_dtype_t q_dtype, kv_dtype, o_dtype; /* o_dtype AC_DTYPE_NONE: any the kernel writes */
    int32_t kv_format;                     /* ac_kv_format_t */
    int32_t kv_lora_rank, rope_dim;
    int32_t num_kv_splits; /* AC_MLA_AUTO_SPLITS: the planner chooses */
    int32_t num_workers;   /* of lists; 0: work items come from the grid */
    int64_t total_kv;      /* upper bound of all KV lengths together; -1: not known */
    int return_lse, deterministic;
    ac_mla_segments_t segments; /* no field of MlaPlan: such plans do not outlive their call */
    ac_device_t device;
    int32_t arch; /* ac_arch_t */
    int32_t compute_units;
} ac_mla_request_t;

typedef struct ac_mla_plan_t {
    ac_mla_request_t request;
    const ac_kernel_t *stage1, *stage2;
    int32_t num_kv_splits; /* S */
    int32_t split_count;   /* runs a list is cut into at most, and how: see ac_splits_t */
    int32_t split_min_rows, split_granule;
    int32_t row_tiles;     /* per request, or per item of a list */
    int32_t tile_rows;     /* of stage 1 */
    int writes_output;     /* stage 1 writes o and the LSE: the early return */
    int64_t grid;          /* workgroups of stage 1 */
    int64_t scratch_bytes; /* local memory of all units of the device together, whatever the shape */
} ac_mla_plan_t;

int ac_mla_plan(const char *op, const ac_mla_request_t *request, ac_mla_plan_t *out_plan, ac_error_t *error);

/* Bytes of the partials of T query rows: T * S * H * (512 + 1) * 4, or 0 when stage 1 writes the output; -1 for
 * 2**63 bytes and more. */
int64_t ac_mla_workspace_bytes(const ac_mla_plan_t *plan, int64_t num_rows);

/* AITER's split heuristic (get_meta_param): the number of splits for `batch` requests with `total_kv` rows together on
 * `compute_units` units; `num_kv_splits` AC_MLA_AUTO_SPLITS, or a count that only the fp8 cap may lower. */
int32_t ac_mla_choose_splits(int32_t num_kv_splits, int64_t batch, int64_t total_kv, int32_t num_heads,
                             int32_t max_seqlen_q, int is_fp8, int32_t groups, int ignore_total_kv,
                             int32_t compute_units);

/* The number of splits that fills a GPU: `work_items` tiles, each over a list of `length` rows (-1: not known), on
 * `compute_units` units that run one workgroup at a time. */
int32_t ac_mla_fill_splits(int64_t work_items, int64_t length, int32_t compute_units);

#endif
