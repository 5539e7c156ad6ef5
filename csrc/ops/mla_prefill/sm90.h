/* Prefill kernels of sm_90a; the rows of kernels.inc say what each serves. */
#ifndef AC_OPS_MLA_PREFILL_SM90_H
#define AC_OPS_MLA_PREFILL_SM90_H

#include "sm90/prefill.h"

#define AC_FAMILY_ROWS "mla_prefill/kernels.inc"
#include "../local_bytes.inc"

#define SM90_PREFILL(name, type, head_dim, value_dim, keys, producer_registers, consumer_registers)                    \
    CHECK_LOCAL_BYTES(#name, sizeof(prefill_shared_t<prefill_kind<type, head_dim, value_dim, keys>>));                 \
    GPU_KERNEL(PREFILL_THREADS) name(GPU_PARAMS(ac_mla_prefill_params_t) p) {                                          \
        prefill<prefill_kind<type, head_dim, value_dim, keys>, producer_registers, consumer_registers>(p);             \
    }

SM90_PREFILL(mla_prefill_bf16_d192, SM90_BF16, 192, 128, 128, 40, 232)
SM90_PREFILL(mla_prefill_bf16_d256, SM90_BF16, 256, 256, 80, 40, 232)
SM90_PREFILL(mla_prefill_fp8_d192, SM90_E4M3, 192, 128, 128, 72, 216)
SM90_PREFILL(mla_prefill_fp8_d256, SM90_E4M3, 256, 256, 64, 56, 224)
SM90_PREFILL(mla_prefill_f16_d192, SM90_F16, 192, 128, 128, 40, 232)
SM90_PREFILL(mla_prefill_f16_d256, SM90_F16, 256, 256, 80, 40, 232)

#undef SM90_PREFILL

#endif
