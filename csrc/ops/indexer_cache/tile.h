/* The work items of the kernels of the indexer's cache; the kernels' rows list what they need. Includes nothing. */
#ifndef AC_OPS_INDEXER_CACHE_TILE_H
#define AC_OPS_INDEXER_CACHE_TILE_H

#define AC_INDEXER_ITEMS 16    /* tokens, groups or heads of a work item on the CPU */
#define AC_INDEXER_THREADS 256 /* of a workgroup on a GPU, */
#define AC_INDEXER_TEAM 32     /* of which so many do one */
#define AC_INDEXER_TEAMS (AC_INDEXER_THREADS / AC_INDEXER_TEAM)
#define AC_INDEXER_DIM 128 /* elements of a key and of a query head where rope is fused */
#define AC_INDEXER_ROPE 64 /* of them turned, the first */

#endif
