/* Shared memory of the kernel that plans work lists of prefill on a GPU; the kernels' rows list its size, and the
 * kernel asserts it. Includes nothing. */
#ifndef AC_OPS_PS_METADATA_LOCAL_H
#define AC_OPS_PS_METADATA_LOCAL_H

#define AC_PS_THREADS 256
#define AC_PS_LOCAL (AC_PS_THREADS * 4 * (4 + 7 + 3 + 5) + 3 * 2 * 8 * 8)

#endif
