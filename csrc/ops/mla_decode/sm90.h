/* Decode kernels of sm_90a; the rows of kernels.inc say what each serves. */
#ifndef AC_OPS_MLA_DECODE_SM90_H
#define AC_OPS_MLA_DECODE_SM90_H

#include "../attention/sm90/decode.h"
#include "../attention/sm90/few_decode.h"
#include "../attention/sm90/records_decode.h"
#include "kernel_params.h"

#define AC_FAMILY_ROWS "mla_decode/kernels.inc"
#include "../local_bytes.inc"

GPU_INLINE void sm90_prefetch_if(bool wanted, const void *address) {
    if (wanted && address) sm90_prefetch(address);
}

/* Prefetches the entries of all lists for the request at once; they are then read one after the other. */
GPU_INLINE void sm90_prefetch_lists(const ac_attention_params_t &p, const ac_work_grid_t &grid) {
    uint32_t request = blockIdx.x / (uint32_t)grid.row_tiles / (uint32_t)grid.splits.num_splits;
    int thread = gpu_thread();
    const int32_t *lengths = p.kv[0].lengths ? p.kv[0].lengths : p.kv[0].indptr;
    sm90_prefetch_if(thread == 0 && grid.qo_indptr, grid.qo_indptr + request);
    sm90_prefetch_if(thread == 1 && lengths, lengths + request);
    sm90_prefetch_if(thread == 2 && p.kv[0].last_page_lens, p.kv[0].last_page_lens + request);
    sm90_prefetch_if(thread == 3 && grid.splits.indptr, grid.splits.indptr + request);
    sm90_prefetch_if(thread == 4, p.q_scale.pointer);
    sm90_prefetch_if(thread == 5, p.kv_scale.pointer);
}

/* The same for a worker of lists. Where its first item is is not known yet: often it is that of the worker's number. */
GPU_INLINE void sm90_prefetch_items(const ac_attention_params_t &p, const ac_work_source_t &work) {
    uint32_t worker = blockIdx.x / (uint32_t)work.grid.row_tiles;
    int thread = gpu_thread();
    sm90_prefetch_if(thread == 0, work.lists.work_indptr + worker);
    sm90_prefetch_if(thread == 1 && worker < work.lists.num_items, work.lists.items + worker * AC_WORK_FIELDS);
    sm90_prefetch_if(thread == 2, p.kv[0].indptr);
    sm90_prefetch_if(thread == 4, p.q_scale.pointer);
    sm90_prefetch_if(thread == 5, p.kv_scale.pointer);
}

/* Registers of a thread: the launch has 168 for each of the three warpgroups, so producer + 2 consumer <= 504. Scores
 * are overlapped where several tiles share a list: see NOTES_sm90.md. */
#define SM90_DECODE_OF(name, type, source, terms, items, next, producer_registers, consumer_registers)                 \
    CHECK_LOCAL_BYTES(#name, sizeof(sm90_shared_t));                                                                   \
    GPU_KERNEL(SM90_THREADS) name(GPU_PARAMS(ac_mla_decode_params_t) p) {                                              \
        typedef sm90_kind<type, source, terms> kind_t;                                                                 \
        auto next_work = [&](ac_work_done_t *done, ac_work_t *out) { return next; };                                   \
        auto fill = [&](int thread, int threads) {                                                                     \
            ac_work_fill_unserved(&p.attention, &p.work, gpu_block(), thread, threads);                                \
        };                                                                                                             \
        if (!p.work.lists.work_indptr) sm90_prefetch_lists(p.attention, p.work.grid);                                  \
        else sm90_prefetch_items(p.attention, p.work);                                                                 \
        sm90_let_next_start(); /* the merge, which finds its lists while the last keys are multiplied */               \
        sm90_decode<kind_t, items, producer_registers, consumer_registers>(                                            \
            p.attention, next_work, fill, p.work.lists.work_indptr, p.work.grid.row_tiles > 1);                        \
    }
#define SM90_DECODE(name, type, source, terms, producer_registers, consumer_registers)                                 \
    SM90_DECODE_OF(name, type, source, terms, SM90_ALL_ITEMS,                                                          \
                   ac_work_next(&p.attention, &p.work, gpu_block(), kind_t::ROWS, done, out), producer_registers,      \
                   consumer_registers)
/* The item of the grid. */
#define SM90_DECODE_GRID(name, type, source, terms, producer_registers, consumer_registers)                            \
    SM90_DECODE_OF(name, type, source, terms, SM90_ONE_ITEM,                                                           \
                   done->items++ == 0 &&                                                                               \
                       ac_work_from_grid(&p.attention, &p.work.grid, gpu_block(), kind_t::ROWS, out),                  \
                   producer_registers, consumer_registers)

SM90_DECODE_GRID(mla_decode_bf16_r64, SM90_BF16, SM90_SAME, 1, 88, 208)
SM90_DECODE_GRID(mla_decode_f16_r64, SM90_F16, SM90_SAME, 1, 88, 208)
SM90_DECODE(mla_decode_fp8_r64, SM90_F16, SM90_FP8, 1, 104, 200)
SM90_DECODE(mla_decode_bf16_fp8_r64, SM90_BF16, SM90_FP8, 1, 104, 200)
SM90_DECODE(mla_decode_bf16_lists_r64, SM90_BF16, SM90_SAME, 1, 88, 208)
SM90_DECODE(mla_decode_f16_lists_r64, SM90_F16, SM90_SAME, 1, 88, 208)

/* Queries that do not fit the matrix type. */
SM90_DECODE(mla_decode_mixed_bf16_r16, SM90_BF16, SM90_SAME, 3, 72, 216)
SM90_DECODE(mla_decode_mixed_f16_r16, SM90_F16, SM90_SAME, 3, 72, 216)
SM90_DECODE(mla_decode_mixed_fp8_r16, SM90_BF16, SM90_FP8, 3, 56, 224)

/* At most 16 rows: see few_tile.h. The merge may be on its way as early as can be. */
#define FEW_DECODE_OF(name, type, bytes, grid)                                                                         \
    CHECK_LOCAL_BYTES(#name, sizeof(few_shared_t<few_kind<type, bytes>>));                                             \
    GPU_KERNEL(FEW_THREADS) name(GPU_PARAMS(ac_mla_decode_params_t) p) {                                               \
        sm90_let_next_start();                                                                                         \
        const sm90_items<grid, FEW_ROWS> items = {p.attention, p.work, p.fast};                                        \
        auto fill = [&](int thread, int threads) {                                                                     \
            ac_work_fill_unserved(&p.attention, &p.work, gpu_block(), thread, threads);                                \
        };                                                                                                             \
        few_decode<few_kind<type, bytes>, 56, 216>(items, fill);                                                       \
    }
#define FEW_DECODE(name, type, bytes)                                                                                  \
    FEW_DECODE_OF(name##_r16, type, bytes, true)                                                                       \
    FEW_DECODE_OF(name##_lists_r16, type, bytes, false)
FEW_DECODE(mla_decode_fp8, SM90_F16, 1)
FEW_DECODE(mla_decode_bf16, SM90_BF16, 2)
FEW_DECODE(mla_decode_f16, SM90_F16, 2)
#undef FEW_DECODE
#undef FEW_DECODE_OF

/* Records: see records_decode.h. */
#define RECORDS_DECODE(rows, loader_registers, scores_registers, output_registers)                                     \
    CHECK_LOCAL_BYTES("mla_decode_records_r" #rows, sizeof(records_shared_t<rows>));                                   \
    GPU_KERNEL(RECORDS_THREADS) mla_decode_records_r##rows(GPU_PARAMS(ac_mla_decode_params_t) p) {                     \
        sm90_let_next_start();                                                                                         \
        const sm90_items<false, rows> items = {p.attention, p.work, p.fast};                                           \
        auto fill = [&](int thread, int threads) {                                                                     \
            ac_work_fill_unserved(&p.attention, &p.work, gpu_block(), thread, threads);                                \
        };                                                                                                             \
        records_decode<rows, loader_registers, scores_registers, output_registers>(items, fill);                       \
    }
RECORDS_DECODE(16, 88, 136, 144)
RECORDS_DECODE(32, 88, 136, 144)
RECORDS_DECODE(64, 40, 136, 168)

#undef RECORDS_DECODE
#undef SM90_DECODE
#undef SM90_DECODE_GRID
#undef SM90_DECODE_OF

#endif
