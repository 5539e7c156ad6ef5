/* The docstrings. Their first line is the text signature that inspect.signature reads, made from signatures.h.
 * B requests, T query rows, H query heads, S splits, D = 512 + rope elements of a KV row. */
#ifndef AC_MODULE_DOCS_H
#define AC_MODULE_DOCS_H

#include "signatures.h"

#define AC_DOC(name, text) AC_TEXT_SIGNATURE(name, "module") text
#define AC_METHOD_DOC(name, text) AC_TEXT_SIGNATURE(name, "self") text

#define AC_DOC_module                                                                                                  \
    "The C core of aiter_c. Tensors come in through DLPack's C exchange API, NumPy's C API or __dlpack__."

#define AC_DOC_load_plan                                                                                               \
    AC_DOC(load_plan, "What a pickled plan is loaded by: its kind, the version of aiter_c that made it, and what it "  \
                      "was made from.\n\n"                                                                             \
                      "Raises TypeError, ValueError (another version, an unknown architecture), UnsupportedError (no " \
                      "kernel).")

#define AC_DOC_set_allocator                                                                                           \
    AC_DOC(set_allocator, "Take the buffers of every op from allocator(name, like, shape, dtype, stream), not from "   \
                          "the caller's framework;\n"                                                                  \
                          "None: as usual. It must leave the tensors of the call alone. Returns the allocator "        \
                          "before. For tests that poison and inspect what an "                                         \
                          "op takes.")

#define AC_DOC_set_call_observer                                                                                       \
    AC_DOC(set_call_observer, "Call observer(function, plan) after every call of a function that is an op: its name "  \
                              "here, and the plan or None.\n"                                                          \
                              "None: nobody. What it raises is printed. Returns the observer before. For "             \
                              "AITER_C_DUMP.")

#define AC_DOC_set_num_threads                                                                                         \
    AC_DOC(set_num_threads, "Set the number of CPU threads, the calling one included; 0: at each call the CPUs that "  \
                            "it may use then.")
#define AC_DOC_get_num_threads AC_DOC(get_num_threads, "The number of CPU threads, the calling one included.")
#define AC_DOC_cpu_arch AC_DOC(cpu_arch, "The CPU path in use: 'amx', 'avx512bf16', 'avx512', 'avx2' or 'portable'.")

#define AC_DOC_build_info                                                                                              \
    AC_DOC(build_info, "How this extension was built: version, source_hash, code_objects (a hash for each that it "    \
                       "accepts),\n"                                                                                   \
                       "variant, compiler, target, limited_api, python_headers, dlpack.")

#define AC_DOC_runtime_info                                                                                            \
    AC_DOC(runtime_info, "What this process runs on: cpu_arch, cpu_reason, num_threads, and runtimes: name -> "        \
                         "available, devices,\n"                                                                       \
                         "device_names, library, version, attempts (libraries that would not do), reason (why no "     \
                         "runtime, or no device).\n"                                                                   \
                         "Loads the driver libraries and asks them for their devices.")

#define AC_DOC_environment                                                                                             \
    AC_DOC(environment, "The AITER_C_* switches at import: name -> (value or None, meaning, why the given value is "   \
                        "ignored or None).")

#define AC_DOC_kernel_table                                                                                            \
    AC_DOC(kernel_table, "Every kernel as a dict: its columns, what it writes, and whether it is available: this "     \
                         "processor runs it or,\n"                                                                     \
                         "for a GPU, its code object is here.")

#define AC_DOC_code_objects                                                                                            \
    AC_DOC(code_objects, "'<arch>/<object>' of the kernel table -> None, or why a launch would refuse it: missing, "   \
                         "or of other sources.")

#define AC_DOC_op_table                                                                                                \
    AC_DOC(op_table, "Every op as a dict: name, user_name (in error texts), returns, plan (its type's name, or None) " \
                     "and params:\n"                                                                                   \
                     "(name, default or None, kind, may be None, is written, choices, is a workspace), ('*', ...) "    \
                     "before those that\n"                                                                             \
                     "are keyword-only.")

#define AC_DOC_plan_table                                                                                              \
    AC_DOC(plan_table, "Every kind of plan as a dict: name, and fields: (name, 'int', 'bool', 'str' or 'kernel').")

#define AC_DOC_dlpack_path                                                                                             \
    AC_DOC(dlpack_path, "How tensors of a type (or of an object's type) come in: 'own', 'exchange', 'numpy', "         \
                        "'__dlpack__' or 'none'.")
#define AC_DOC_tensor_shape                                                                                            \
    AC_DOC(tensor_shape, "The shape of a tensor as the ops see it, as a tuple; `op` and `name` head the text of a "    \
                         "refusal.")

#define AC_DOC_cpu_ceilings                                                                                            \
    AC_DOC(cpu_ceilings, "Measure this machine on the pool's threads: bytes read, f32, bf16 and AMX flops per second " \
                         "(0: no such path).")

#define AC_DOC_workspace_bytes                                                                                         \
    AC_METHOD_DOC(workspace_bytes, "Bytes of logits and attn_lse together for num_rows query rows (None: batch * "     \
                                   "max_seqlen_q).\n\n"                                                                \
                                   "num_rows * num_kv_splits * num_heads * (512 + 1) * 4, or 0 when stage 1 writes "   \
                                   "the output.")

#endif
