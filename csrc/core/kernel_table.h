/* The kernel table: one row per kernel, its limits and what it writes. The planner picks rows from it, the
 * launchers find code by `id`, errors name the column that failed, tests and docs are checked against it. */
#ifndef AC_CORE_KERNEL_TABLE_H
#define AC_CORE_KERNEL_TABLE_H

#include "dtype.h"

typedef enum ac_op_t { AC_OP_MLA_DECODE, AC_OP_MLA_MERGE } ac_op_t;

/* Every CPU architecture also runs the kernels of those before it, and takes the last that serves the request. A GPU
 * runs the kernels of its own architecture. */
typedef enum ac_arch_t {
    AC_CPU_PORTABLE,
    AC_CPU_AVX2,
    AC_CPU_AVX512,
    AC_CPU_AVX512BF16,
    AC_CPU_AMX,
    AC_GFX942,
    AC_GFX950,
    AC_SM90A,
    AC_ARCH_COUNT
} ac_arch_t;

static inline bool ac_arch_is_cpu(ac_arch_t arch) { return arch <= AC_CPU_AMX; }

typedef enum ac_kv_format_t {
    AC_KV_PLAIN,      /* rows of one dtype */
    AC_KV_FP8_DS_MLA, /* 656-byte records, token by token: 512 e4m3fn, 4 fp32 scales, 64 bf16 */
    AC_KV_3BUFFER,    /* the same bytes, region by region within a page */
    AC_KV_FORMAT_COUNT
} ac_kv_format_t;

typedef enum ac_page_rule_t { AC_PAGE_ANY } ac_page_rule_t;

typedef enum ac_kernel_id_t {
#define KERNEL(id, ...) AC_KERNEL_##id,
#include "kernel_table.inc"
#undef KERNEL
    AC_KERNEL_COUNT
} ac_kernel_id_t;

typedef struct ac_kernel_t {
    ac_kernel_id_t id;
    const char *name;     /* unique within an arch */
    ac_op_t op;
    ac_arch_t arch;
    ac_dtype_set_t q_dtypes, kv_dtypes, o_dtypes;
    unsigned kv_formats;  /* bit set of ac_kv_format_t */
    int max_heads;
    int max_seqlen_q;     /* 0: no limit */
    ac_page_rule_t page_rule;
    int tile_rows;        /* (query row, head) pairs that share one pass over the KV; heads of a work item of a merge */
    int writes_output;    /* can write final rows */
    int writes_partials;
    int writes_lse;
    ac_dtype_t p_dtype;   /* in which probabilities meet values; AC_DTYPE_NONE for a merge */
    int local_bytes;      /* scratch of one running work item: LDS on a GPU, an arena per thread on the CPU */
    int threads;          /* of a workgroup; 1 on the CPU */
    const char *object;   /* the code object hsa/<arch>/<object> that holds symbol `name`; NULL on the CPU */
} ac_kernel_t;

const ac_kernel_t *ac_kernel(ac_kernel_id_t id);
const char *ac_arch_name(ac_arch_t arch);
const char *ac_kv_format_name(ac_kv_format_t format);
ac_kv_format_t ac_kv_format_from_name(const char *name); /* AC_KV_FORMAT_COUNT: no such name */

#endif
