/* Decode kernels of sm_90a; the rows of kernels.inc say what each serves. */
#ifndef AC_OPS_MLA_DECODE_SM90_H
#define AC_OPS_MLA_DECODE_SM90_H

#include "../attention/sm90/decode.h"
#include "kernel_params.h"

#define AC_FAMILY_ROWS "mla_decode/kernels.inc"
#include "../local_bytes.inc"

GPU_INLINE void sm90_prefetch_if(bool wanted, const void *address) {
    if (wanted && address) sm90_prefetch(address);
}

/* Prefetches the request's entries of all lists at once; they are then read one after the other. */
GPU_INLINE void sm90_prefetch_lists(const ac_attention_params_t &p, const ac_work_grid_t &grid) {
    uint32_t request = blockIdx.x / (uint32_t)grid.row_tiles / (uint32_t)grid.splits.num_splits;
    int thread = gpu_thread();
    sm90_prefetch_if(thread == 0, grid.qo_indptr + request);
    sm90_prefetch_if(thread == 1, p.kv[0].indptr + request);
    sm90_prefetch_if(thread == 2 && p.kv[0].last_page_lens, p.kv[0].last_page_lens + request);
    sm90_prefetch_if(thread == 3 && grid.splits.indptr, grid.splits.indptr + request);
    sm90_prefetch_if(thread == 4, p.q_scale.pointer);
    sm90_prefetch_if(thread == 5, p.kv_scale.pointer);
}

/* Registers of a thread: the launch has 168 for each of the three warpgroups, so producer + 2 consumer <= 504. Scores
 * are overlapped where several tiles share a list: see NOTES_sm90.md. */
#define SM90_DECODE(name, type, source, terms, producer_registers, consumer_registers)                                 \
    CHECK_LOCAL_BYTES(#name, sizeof(sm90_shared_t));                                                                   \
    GPU_KERNEL(SM90_THREADS) name(GPU_PARAMS(ac_mla_decode_params_t) p) {                                              \
        typedef sm90_kind<type, source, terms> kind_t;                                                                 \
        ac_work_t work;                                                                                                \
        sm90_prefetch_lists(p.attention, p.grid);                                                                      \
        if (!ac_work_from_grid(&p.attention, &p.grid, gpu_block(), kind_t::ROWS, &work)) return;                       \
        sm90_decode<kind_t, producer_registers, consumer_registers>(p.attention, work, p.grid.row_tiles > 1);          \
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
