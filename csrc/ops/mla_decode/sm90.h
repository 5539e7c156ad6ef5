/* Decode kernels of sm_90a; the rows of kernels.inc say what each serves. */
#ifndef AC_OPS_MLA_DECODE_SM90_H
#define AC_OPS_MLA_DECODE_SM90_H

#include "../attention/sm90/decode.h"

#define AC_FAMILY_ROWS "mla_decode/kernels.inc"
#include "../local_bytes.inc"

/* Registers of a thread: the launch has 168 for each of the three warpgroups, so producer + 2 consumer <= 504. */
#define SM90_DECODE(name, type, source, terms, producer_registers, consumer_registers)                             \
    CHECK_LOCAL_BYTES(#name, sizeof(sm90_shared_t));                                                               \
    GPU_KERNEL(SM90_THREADS) name(GPU_PARAMS(ac_mla_decode_params_t) p) {                              \
        sm90_decode<sm90_kind<type, source, terms>, producer_registers, consumer_registers>(p);                    \
    }

SM90_DECODE(mla_decode_bf16_r64, SM90_BF16, SM90_SAME, 1, 88, 208)
SM90_DECODE(mla_decode_f16_r64, SM90_F16, SM90_SAME, 1, 88, 208)
SM90_DECODE(mla_decode_fp8_r64, SM90_F16, SM90_FP8, 1, 104, 200)
SM90_DECODE(mla_decode_bf16_fp8_r64, SM90_BF16, SM90_FP8, 1, 104, 200)
SM90_DECODE(mla_decode_records_r64, SM90_BF16, SM90_RECORDS, 1, 88, 208)

/* Queries that do not fit the matrix type. */
SM90_DECODE(mla_decode_any_bf16_r16, SM90_BF16, SM90_SAME, 3, 72, 216)
SM90_DECODE(mla_decode_any_f16_r16, SM90_F16, SM90_SAME, 3, 72, 216)
SM90_DECODE(mla_decode_any_fp8_r16, SM90_BF16, SM90_FP8, 3, 56, 224)
SM90_DECODE(mla_decode_any_records_r16, SM90_BF16, SM90_RECORDS, 3, 56, 224)

#undef SM90_DECODE

#endif
