/* Shared memory of the kernel that plans work lists on a GPU; the kernels' rows list its size, and the kernel asserts
 * it. Includes nothing. */
#ifndef AC_OPS_MLA_METADATA_LOCAL_H
#define AC_OPS_MLA_METADATA_LOCAL_H

#define AC_LISTS_THREADS 256
#define AC_LISTS_LOCAL (AC_LISTS_THREADS * 4 * 22 + 512)

#endif
