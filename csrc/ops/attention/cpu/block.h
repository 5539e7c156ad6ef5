/* Blocks of keys for the CPU kernels: the next visible keys of a work item, as addresses. A masked key is left out
 * here, so that nothing of it reaches the arithmetic. */
#ifndef AC_OPS_ATTENTION_CPU_BLOCK_H
#define AC_OPS_ATTENTION_CPU_BLOCK_H

#include "../work.h"
#include "local.h"

/* One key in the cache. */
typedef struct ac_cpu_kv_row_t {
    const char *latent, *rope, *scales;
} ac_cpu_kv_row_t;

/* Keys that are computed together: all of them visible to the rows from `first_row` of the tile on, none to the rows
 * before it. Masked keys are not among them. */
typedef struct ac_cpu_kv_block_t {
    int num_tokens; /* 0: the split is done */
    int first_row;
    ac_cpu_kv_row_t rows[AC_LOCAL_DOT_TOKENS];
} ac_cpu_kv_block_t;

/* The next block of at most `capacity` keys from KV row *cursor on; moves the cursor past it. */
void ac_cpu_mla_next_block(const ac_attention_params_t *params, const ac_work_t *work, int capacity, int64_t *cursor,
                           ac_cpu_kv_block_t *out_block);

#endif
