/* Entry points of the indexer logits; see kernel_params.h and kernels.inc. */
#if defined(__gfx942__) || defined(__gfx950__)
#include "gfx9/contiguous.h"
#include "gfx9/paged.h"
#elif defined(__CUDA_ARCH__)
#include "sm90/contiguous.h"
#include "sm90/paged.h"
#include "sm90/paged_one.h"
#endif

#define AC_FAMILY_ROWS "mqa_logits/kernels.inc"
#include "../local_bytes.inc"

/* `kind` and `heads` are the arguments of the template. */
#define KERNEL(name, body, threads, per_unit, kind, heads)                                                             \
    CHECK_LOCAL_BYTES(#name, (body##_t<kind, heads>::BYTES));                                                          \
    GPU_KERNEL_OF(threads, per_unit) name(GPU_PARAMS(ac_mqa_logits_params_t) p) { body<kind, heads>(p); }

#if defined(__gfx942__) || defined(__gfx950__)
KERNEL(mqa_logits_paged_h32, mqa_paged, MQA_THREADS, 2, fp8_matrix_t, 2)
KERNEL(mqa_logits_paged_h64, mqa_paged, MQA_THREADS, 2, fp8_matrix_t, 4)
KERNEL(mqa_logits_paged_h64_f16, mqa_paged, MQA_THREADS, 1, f16_matrix_t, 4)
KERNEL(mqa_logits_contiguous_h32, mqa_contiguous, MQA_THREADS, 2, fp8_matrix_t, 2)
KERNEL(mqa_logits_contiguous_h64, mqa_contiguous, MQA_THREADS, 2, fp8_matrix_t, 4)
KERNEL(mqa_logits_contiguous_h64_f16, mqa_contiguous, MQA_THREADS, 1, f16_matrix_t, 4)
#elif defined(__CUDA_ARCH__)
KERNEL(mqa_logits_paged_h32, mqa_paged, MQA_PAGED_THREADS, 1, SM90_E4M3, 32)
KERNEL(mqa_logits_paged_h64, mqa_paged, MQA_PAGED_THREADS, 1, SM90_E4M3, 64)
KERNEL(mqa_logits_paged_h64_f16, mqa_paged, MQA_PAGED_THREADS, 1, SM90_F16, 64)
KERNEL(mqa_logits_paged_one_h32, mqa_paged_one, MQA_ONE_THREADS, MQA_ONE_PER_UNIT, SM90_E4M3, 32)
KERNEL(mqa_logits_paged_one_h64, mqa_paged_one, MQA_ONE_THREADS, MQA_ONE_PER_UNIT, SM90_E4M3, 64)
KERNEL(mqa_logits_contiguous_h32, mqa_contiguous, MQA_CONTIGUOUS_THREADS, 1, SM90_E4M3, 32)
KERNEL(mqa_logits_contiguous_h64, mqa_contiguous, MQA_CONTIGUOUS_THREADS, 1, SM90_E4M3, 64)
KERNEL(mqa_logits_contiguous_h64_f16, mqa_contiguous, MQA_CONTIGUOUS_THREADS, 1, SM90_F16, 64)
#endif
