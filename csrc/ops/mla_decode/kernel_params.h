/* What the MLA decode kernels get: plain data, shared by the host and by the kernels of every device. GPU kernels take
 * the struct by value; a workgroup has one work item of the grid, or those of a
 * worker's list. Every value that a pointer leads to is untrusted; the kernels
 * clamp and mask. */
#ifndef AC_OPS_MLA_DECODE_KERNEL_PARAMS_H
#define AC_OPS_MLA_DECODE_KERNEL_PARAMS_H

#include "../attention/work_fast.h"

typedef struct ac_mla_decode_params_t {
    ac_attention_params_t attention;
    ac_work_source_t work;
    ac_work_fast_t fast; /* of these; for kernels that use it */
} ac_mla_decode_params_t;

#endif
