/* The parameters of the functions that are no ops, once (an op has rows of its own: ops/<op>/params.inc). From these
 * lines come the text signature that inspect.signature reads, the interned names the parser compares with, and the
 * indices into the parsed values: they cannot disagree.
 * ARG(name, ) is required, ARG(name, =default) is not; after STAR arguments are keyword-only. */
#ifndef AC_MODULE_SIGNATURES_H
#define AC_MODULE_SIGNATURES_H

#define AC_ARGS_load_plan(ARG, STAR) ARG(kind, ) ARG(version, ) ARG(inputs, )
#define AC_ARGS_set_allocator(ARG, STAR) ARG(allocator, )
#define AC_ARGS_set_call_observer(ARG, STAR) ARG(observer, )
#define AC_ARGS_empty(ARG, STAR) ARG(shape, ) ARG(dtype, ) ARG(device, = "cpu")
#define AC_ARGS_from_host(ARG, STAR) ARG(array, ) ARG(device, = "cpu")
#define AC_ARGS_set_num_threads(ARG, STAR) ARG(n, )
#define AC_ARGS_get_num_threads(ARG, STAR)
#define AC_ARGS_cpu_arch(ARG, STAR)
#define AC_ARGS_build_info(ARG, STAR)
#define AC_ARGS_runtime_info(ARG, STAR)
#define AC_ARGS_environment(ARG, STAR)
#define AC_ARGS_kernel_table(ARG, STAR)
#define AC_ARGS_code_objects(ARG, STAR)
#define AC_ARGS_op_table(ARG, STAR)
#define AC_ARGS_plan_table(ARG, STAR)
#define AC_ARGS_cpu_ceilings(ARG, STAR)
#define AC_ARGS_dlpack_path(ARG, STAR) ARG(type_or_obj, )
#define AC_ARGS_tensor_shape(ARG, STAR) ARG(op, ) ARG(name, ) ARG(tensor, )
/* Methods. */
#define AC_ARGS_workspace_bytes(ARG, STAR) ARG(num_rows, = None)
#define AC_ARGS_numpy(ARG, STAR)
#define AC_ARGS___array__(ARG, STAR) ARG(dtype, = None) ARG(copy, = None)
#define AC_ARGS___dlpack__(ARG, STAR)                                                                                  \
    STAR ARG(stream, = None) ARG(max_version, = None) ARG(dl_device, = None) ARG(copy, = None)
#define AC_ARGS___dlpack_device__(ARG, STAR)

/* FUNCTION(name): those whose arguments the parser binds. METH_NOARGS functions need no parser. */
#define AC_FUNCTIONS(FUNCTION)                                                                                         \
    FUNCTION(empty)                                                                                                    \
    FUNCTION(from_host)                                                                                                \
    FUNCTION(set_num_threads)                                                                                          \
    FUNCTION(dlpack_path)                                                                                              \
    FUNCTION(tensor_shape)                                                                                             \
    FUNCTION(load_plan)                                                                                                \
    FUNCTION(set_allocator)                                                                                            \
    FUNCTION(set_call_observer)                                                                                        \
    FUNCTION(workspace_bytes)                                                                                          \
    FUNCTION(__dlpack__)                                                                                               \
    FUNCTION(__array__)

typedef enum ac_function_t {
#define AC_FUNCTION_ID(name) AC_FN_##name,
    AC_FUNCTIONS(AC_FUNCTION_ID)
#undef AC_FUNCTION_ID
        AC_FUNCTION_COUNT
} ac_function_t;

/* Indices into the parsed values, in the file that binds the function:
 *     #define ARG(name, value) A_##name,
 *     enum { AC_ARGS_empty(ARG, ) A_COUNT };
 *     #undef ARG                                                                                              */

/* "name($module, shape, dtype, ...)\n--\n\n", the head of a docstring. */
#define AC_ARG_TEXT(name, value) ", " #name #value
#define AC_TEXT_SIGNATURE(function, self) #function "($" self AC_ARGS_##function(AC_ARG_TEXT, ", *") ")\n--\n\n"

#endif
