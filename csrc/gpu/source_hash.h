/* Every code object says which source it was made from: scripts/build_kernels includes this file before the source and
 * defines AC_KERNEL_SOURCE_HASH; csrc/device/code_object.c refuses a code object that does not carry the hash that the
 * extension knows. */
#ifndef AC_GPU_SOURCE_HASH_H
#define AC_GPU_SOURCE_HASH_H

#if defined(__CUDACC__)
extern "C" __device__ const char aiter_c_kernel_source[] = "aiter_c kernel source " AC_KERNEL_SOURCE_HASH;
#else
extern "C" __attribute__((device, used)) const char aiter_c_kernel_source[] = "aiter_c kernel "
                                                                              "source " AC_KERNEL_SOURCE_HASH;
#endif

#endif
