/* What the kernels that plan work lists of prefill get: plain data, shared by the host and by the kernels of every
 * device. B requests, W workers. Every value that a pointer leads to is untrusted; see schedule.h. */
#ifndef AC_OPS_PS_METADATA_KERNEL_PARAMS_H
#define AC_OPS_PS_METADATA_KERNEL_PARAMS_H

#include <stdint.h>

#define AC_PS_MAX_TILES (1 << 20) /* of a plan, and so of its requests and of its workers */

/* One work item plans everything. */
typedef struct ac_ps_metadata_params_t {
    const int32_t *qo_indptr;    /* [B+1] */
    const int32_t *kv_indptr;    /* [B+1]: pages */
    const int32_t *context_lens; /* [B]: keys */
    /* The lists, as work_list.h has them. All of them is written; what the plan does not need is 0. */
    int32_t *work_indptr;   /* [W+1] */
    int32_t *work_info;     /* [max_items, 8] */
    int32_t *reduce_indptr; /* [reduce_entries]; past the last group the total */
    int32_t *final_map;     /* [final_rows, 2] */
    int32_t *partial_map;   /* [max_entries] */
    int64_t max_items, reduce_entries, final_rows, max_entries;
    int32_t max_tiles;             /* that the buffers hold, and the planner takes */
    int32_t num_requests;          /* B */
    int32_t clusters;              /* of workers; each has the same plan, for heads of its own */
    int32_t workers, heads;        /* of a cluster: W = clusters * workers, and heads of keys and values */
    int32_t group_size;            /* query heads of one of those */
    int32_t tile_rows;             /* query rows of a tile, and of a partial */
    int32_t unit_keys, unit_pages; /* a list is cut at multiples of them */
    int32_t page_size;
    int32_t causal, need_lse;
} ac_ps_metadata_params_t;

#endif
