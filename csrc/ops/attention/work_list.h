/* Work lists: which items a worker does, as metadata ops write them and list-driven kernels read them. All int32; the
 * layout is AITER's, so that lists of either run on the kernels of both.
 *
 *   work_indptr         [W+1]: worker w does the items [work_indptr[w], work_indptr[w+1])
 *   work_info_set       [items, 8]: see AC_WORK_*
 *   reduce_indptr       [tiles+1]: tile i has the entries [reduce_indptr[i], reduce_indptr[i+1]) of the partial map
 *   reduce_final_map    [tiles, 2]: the tile's final rows [begin, end); only where it has entries
 *   reduce_partial_map  [entries]: the partial row of the tile's first final row, in the order of the keys
 *
 * A tile is a run of query rows of one request with all their heads. */
#ifndef AC_OPS_ATTENTION_WORK_LIST_H
#define AC_OPS_ATTENTION_WORK_LIST_H

#include <stdint.h>

/* The fields of an item. */
enum {
    AC_WORK_REQUEST, /* number of the request */
    AC_WORK_PARTIAL, /* partial row of the first query row, or -1: the item has all keys, and writes final rows */
    AC_WORK_Q_BEGIN, /* query rows [begin, end) */
    AC_WORK_Q_END,
    AC_WORK_KV_BEGIN, /* entries [begin, end) of kv_indices: pages, counted from max(kv_indptr[0], 0) */
    AC_WORK_KV_END,
    AC_WORK_KV_AFTER, /* keys of the request after the item's; kernels here do not need it */
    AC_WORK_HEADS,    /* 0: all heads */
    AC_WORK_FIELDS
};

/* What a metadata op leaves in the two words of work_metadata_ptrs, where AITER has two addresses: a tag. Lists without
 * it are somebody else's, and are only masked. No kernel reads it; the host does where the tensor is in its memory. */
#define AC_WORK_TAG UINT64_C(0x31306b726f776361) /* "acwork01" */
enum { AC_WORK_TAG_DETERMINISTIC = 1 << 0 };     /* of the second word */

#endif
