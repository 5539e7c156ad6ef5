/* A KV cache and the scales of its operands, as kernels see them: plain data, the same on every device. Every value
 * that a pointer leads to is untrusted; strides are in bytes. */
#ifndef AC_OPS_ATTENTION_CACHE_H
#define AC_OPS_ATTENTION_CACHE_H

#include <stdint.h>

#define AC_MLA_DV 512  /* latent width: the value, and the first part of the key */
#define AC_MLA_ROPE 64 /* rope width, or 0 */

/* One KV cache. A row is three runs of bytes, each with its own offset and stride in the page: the latent (512
 * elements), the rope part (0 or 64) and, for the quantised records, 4 fp32 scales of 128 latent elements each. This
 * one form covers token-by-token pages, region-by-region pages, padded pages and block-major pools. */
typedef struct ac_kv_cache_t {
    const char *base;
    int64_t num_entries; /* an entry of a list below 0 or from num_entries on masks its rows */
    int64_t page_stride;
    int64_t latent_offset, latent_stride; /* of page, of row */
    int64_t rope_offset, rope_stride;
    int64_t scale_offset, scale_stride;
    int32_t page_size;
    int32_t entry_rows; /* that an entry of a list stands for: page_size, the entry is a page; or 1, it is a slot:
                           number page * page_size + row */
    uint32_t page_multiplier, page_shift; /* n / page_size == (uint64_t)n * multiplier >> shift for 0 <= n < 2^31 */
    int32_t latent_dtype, rope_dtype;     /* ac_dtype_t */
    int32_t rope_dim;                     /* 64 or 0 */
    int32_t scale_groups;                 /* 4, or 0: no scales in the rows */
} ac_kv_cache_t;

/* A per-tensor scale: read on the device where `pointer` is set, else `value`; 1 for an operand that is not fp8. */
typedef struct ac_scale_t {
    const float *pointer; /* [1] */
    float value;
} ac_scale_t;

#endif
