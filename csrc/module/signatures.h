/* The parameters of every function, once. From these lines come the text signature that inspect.signature reads, the
 * interned names the parser compares with, and the indices into the parsed values: they cannot disagree.
 * ARG(name, ) is required, ARG(name, =default) is not; after STAR arguments are keyword-only. */
#ifndef AC_MODULE_SIGNATURES_H
#define AC_MODULE_SIGNATURES_H

#define AC_MAX_ARGS 40

#define AC_ARGS_mla_decode_plan(ARG, STAR)                                                                       \
    ARG(q, ) ARG(kv_buffer, ) ARG(qo_indptr, ) ARG(kv_indices, ) ARG(max_seqlen_q, ) ARG(page_size, =1)          \
    ARG(nhead_kv, =1) ARG(num_kv_splits, =None) STAR ARG(return_lse, =False) ARG(deterministic, =False)          \
    ARG(kv_format, =None) ARG(q_dtype, =None) ARG(kv_dtype, =None)
#define AC_ARGS_mla_decode_stage1(ARG, STAR)                                                                     \
    ARG(q, ) ARG(kv_buffer, ) ARG(o, ) ARG(qo_indptr, ) ARG(kv_indptr, ) ARG(kv_indices, )                       \
    ARG(kv_last_page_lens, ) ARG(max_seqlen_q, ) ARG(page_size, ) ARG(nhead_kv, ) ARG(sm_scale, )                \
    ARG(logit_cap, ) ARG(num_kv_splits_indptr, ) ARG(logits, ) ARG(attn_lse, ) ARG(lse, ) ARG(q_scale, )         \
    ARG(kv_scale, ) ARG(causal, ) STAR ARG(plan, ) ARG(kv_format, =None) ARG(q_dtype, =None)                     \
    ARG(kv_dtype, =None) ARG(stream, =None)
#define AC_ARGS_mla_decode_stage2(ARG, STAR)                                                                     \
    ARG(logits, ) ARG(attn_lse, ) ARG(o, ) ARG(lse, ) ARG(qo_indptr, ) STAR ARG(plan, ) ARG(stream, =None)
#define AC_ARGS_mla_plan(ARG, STAR)                                                                              \
    ARG(batch, ) ARG(num_heads, ) ARG(max_seqlen_q, ) ARG(page_size, ) ARG(q_dtype, ) ARG(kv_dtype, ) STAR       \
    ARG(num_kv_splits, =None) ARG(max_kv_len, =None) ARG(kv_lora_rank, =512) ARG(qk_rope_head_dim, =64)          \
    ARG(return_lse, =False) ARG(deterministic, =False) ARG(device, ="cpu")
#define AC_ARGS_choose_kv_splits(ARG, STAR)                                                                      \
    ARG(num_kv_splits, ) ARG(batch, ) ARG(total_kv, ) ARG(num_heads, ) ARG(max_seqlen_q, ) ARG(is_fp8, )         \
    ARG(groups, ) ARG(ignore_total_kv, ) ARG(compute_units, )
#define AC_ARGS_empty(ARG, STAR) ARG(shape, ) ARG(dtype, ) ARG(device, ="cpu")
#define AC_ARGS_from_host(ARG, STAR) ARG(array, ) ARG(device, ="cpu")
#define AC_ARGS_set_num_threads(ARG, STAR) ARG(n, )
#define AC_ARGS_get_num_threads(ARG, STAR)
#define AC_ARGS_cpu_arch(ARG, STAR)
#define AC_ARGS_build_info(ARG, STAR)
#define AC_ARGS_runtime_info(ARG, STAR)
#define AC_ARGS_environment(ARG, STAR)
#define AC_ARGS_kernel_table(ARG, STAR)
#define AC_ARGS_cpu_ceilings(ARG, STAR)
#define AC_ARGS_dlpack_path(ARG, STAR) ARG(type_or_obj, )
#define AC_ARGS_tensor_shape(ARG, STAR) ARG(op, ) ARG(name, ) ARG(tensor, )
/* Methods. */
#define AC_ARGS_workspace_bytes(ARG, STAR) ARG(num_rows, =None)
#define AC_ARGS_numpy(ARG, STAR)
#define AC_ARGS___array__(ARG, STAR) ARG(dtype, =None) ARG(copy, =None)
#define AC_ARGS___dlpack__(ARG, STAR)                                                                            \
    STAR ARG(stream, =None) ARG(max_version, =None) ARG(dl_device, =None) ARG(copy, =None)
#define AC_ARGS___dlpack_device__(ARG, STAR)

/* FUNCTION(name): those whose arguments the parser binds. METH_NOARGS functions need no parser. */
#define AC_FUNCTIONS(FUNCTION)                                                                                   \
    FUNCTION(mla_decode_plan)                                                                                    \
    FUNCTION(mla_decode_stage1)                                                                                  \
    FUNCTION(mla_decode_stage2)                                                                                  \
    FUNCTION(mla_plan)                                                                                           \
    FUNCTION(choose_kv_splits)                                                                                   \
    FUNCTION(empty)                                                                                              \
    FUNCTION(from_host)                                                                                          \
    FUNCTION(set_num_threads)                                                                                    \
    FUNCTION(dlpack_path)                                                                                        \
    FUNCTION(tensor_shape)                                                                                       \
    FUNCTION(workspace_bytes)                                                                                    \
    FUNCTION(__dlpack__)                                                                                         \
    FUNCTION(__array__)

typedef enum ac_function_t {
#define AC_FUNCTION_ID(name) AC_FN_##name,
    AC_FUNCTIONS(AC_FUNCTION_ID)
#undef AC_FUNCTION_ID
    AC_FUNCTION_COUNT
} ac_function_t;

/* Indices into the parsed values, in the file that binds the function:
 *     #define ARG(name, value) PLAN_##name,
 *     enum { AC_ARGS_mla_plan(ARG, ) PLAN_COUNT };
 *     #undef ARG                                                                                              */

/* "name($module, q, kv_buffer, ...)\n--\n\n", the head of a docstring. */
#define AC_ARG_TEXT(name, value) ", " #name #value
#define AC_TEXT_SIGNATURE(function, self) \
    #function "($" self AC_ARGS_##function(AC_ARG_TEXT, ", *") ")\n--\n\n"

#endif
