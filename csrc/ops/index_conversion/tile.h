/* The work items of the kernels that convert indices; the kernels' rows list what they need. Includes nothing. */
#ifndef AC_OPS_INDEX_CONVERSION_TILE_H
#define AC_OPS_INDEX_CONVERSION_TILE_H

#define AC_INDEX_TILE 1024   /* columns of a row that one work item converts */
#define AC_INDEX_THREADS 256 /* of a workgroup on a GPU */
#define AC_INDEX_LOCAL 256   /* its shared memory: what its waves count */

#endif
