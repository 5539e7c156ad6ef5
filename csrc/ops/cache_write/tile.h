/* The work items of the kernels that write MLA caches; the kernels' rows list what they need. Includes nothing. */
#ifndef AC_OPS_CACHE_WRITE_TILE_H
#define AC_OPS_CACHE_WRITE_TILE_H

#define AC_CACHE_WRITE_ROWS 8      /* rows of a work item on the CPU */
#define AC_CACHE_WRITE_THREADS 256 /* of a workgroup on a GPU, whose waves have a row each */

#endif
