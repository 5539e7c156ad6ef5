/* What the kernels that plan work lists get: plain data, shared by the host and by the kernels of every device. B
 * requests, W workers. Every value that a pointer leads to is untrusted; see request.h. */
#ifndef AC_OPS_MLA_METADATA_KERNEL_PARAMS_H
#define AC_OPS_MLA_METADATA_KERNEL_PARAMS_H

#include <stdint.h>

#define AC_LIST_MAX_TILES (1 << 20) /* of a plan, and so of its requests and of the workers that share lists */

/* One work item plans everything. */
typedef struct ac_mla_metadata_params_t {
    const int32_t *qo_indptr;      /* [B+1] */
    const int32_t *kv_indptr;      /* [B+1]: pages */
    const int32_t *last_page_lens; /* [B] or NULL: page_size is 1 */
    /* The lists, as work_list.h has them. */
    uint64_t *tag;                             /* [2] */
    int32_t *work_indptr;                      /* [W+1] */
    int32_t *work_info;                        /* [max_items, 8] */
    int32_t *reduce_indptr;                    /* [reduce_entries] */
    int32_t *final_map;                        /* [max_tiles or more, 2] */
    int32_t *partial_map;                      /* [max_entries] */
    int32_t num_requests, num_workers;         /* B, W */
    int32_t max_tiles, max_items, max_entries; /* that the buffers hold, and the planner takes */
    int32_t reduce_entries;                    /* all of them, past the tiles too, are written */
    int32_t max_splits;                        /* of all lists together; -1: chosen by their lengths */
    int32_t tile_rows;                         /* query rows that a tile holds, with all their heads */
    int32_t page_size, granule,
        overhead;                       /* keys of a page, pages of a block, blocks that an item costs beside its own */
    int32_t max_seqlen_q, uni_seqlen_q; /* 0 or less: not known; from qo_indptr */
    int32_t topk;                       /* pages of a query row's own list; -1: requests have lists */
    int32_t trims;                      /* earlier tiles leave out keys that only later ones see */
    int32_t tail_keys;                  /* no cut leaves fewer keys for the last item; 0 or less: any */
    int32_t deterministic;
} ac_mla_metadata_params_t;

#endif
