/* Constants of the softmax in base 2: the host, the CPU kernels and the GPU kernels use the same. */
#ifndef AC_CORE_CONSTANTS_H
#define AC_CORE_CONSTANTS_H

#define AC_LOG2_E 1.4426950408889634 /* log2(e): takes a natural exponent to base 2 */
#define AC_LN_2 0.6931471805599453   /* ln(2): takes a logarithm in base 2 to a natural one */

#endif
