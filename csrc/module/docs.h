/* The docstrings. Their first line is the text signature that inspect.signature reads, made from signatures.h.
 * B requests, T query rows, H query heads, S splits, D = 512 + rope elements of a KV row. */
#ifndef AC_MODULE_DOCS_H
#define AC_MODULE_DOCS_H

#include "signatures.h"

#define AC_DOC(name, text) AC_TEXT_SIGNATURE(name, "module") text
#define AC_METHOD_DOC(name, text) AC_TEXT_SIGNATURE(name, "self") text

#define AC_DOC_module \
    "The C core of aiter_c. Tensors come in through DLPack's C exchange API, NumPy's C API or __dlpack__."

#define AC_DOC_mla_decode_plan AC_DOC(mla_decode_plan, \
    "Plan one mla_decode_fwd call from its tensors and numbers. Nothing in the tensors is read.\n\n" \
    "q: [T, H, D] bfloat16, float16, float32, float8_e4m3fn or float8_e4m3fnuz (or uint8 with q_dtype=)\n" \
    "kv_buffer: [num_page, page_size, 1, D] bfloat16, float16 or fp8 (or uint8 with kv_dtype=), or uint8 records\n" \
    "qo_indptr: [B+1] int32\n" \
    "kv_indices: [num_indices] int32; its length bounds the KV rows for the automatic split count\n" \
    "num_kv_splits: partials per query row; None or -1 is automatic\n" \
    "kv_format: None (from dtype and shape), 'plain', 'fp8_ds_mla' or '3buffer'\n\n" \
    "Raises TypeError (not a tensor, wrong dtype), ValueError (shape, stride, range), BufferError (DLPack refusal),\n" \
    "UnsupportedError (no kernel).")

#define AC_DOC_mla_decode_stage1 AC_DOC(mla_decode_stage1, \
    "Attend over the paged latent cache: final rows into o and lse when plan.writes_output, else partials.\n\n" \
    "q: [T, H, D]; kv_buffer: [num_page, page_size, 1, D]; o: [T, H, 512] bfloat16 or float16, written in place\n" \
    "qo_indptr, kv_indptr: [B+1] int32; kv_indices: [num_indices] int32, pages; an index outside the pool is masked\n" \
    "kv_last_page_lens: [B] int32, not read at page_size 1, or None\n" \
    "sm_scale: None is 1/sqrt(D); logit_cap: 0\n" \
    "num_kv_splits_indptr: [B+1] int32 or None; logits: [T, S, H, 512] float32 and attn_lse: [T, S, H, 1] float32,\n" \
    "or None when plan.writes_output; lse: [T, H] float32, natural log, or None\n" \
    "q_scale, kv_scale: None, a float, or a one-element float32 tensor; used for an fp8 operand only\n" \
    "plan: an MlaPlan made for this call; stream: the device's stream handle, None is the framework's current one\n" \
    "(a TypeError where no framework tells one, as for Arrays alone: pass 0 for the default stream)\n\n" \
    "Returns the handle of the stream that it ran on, for stage 2; 0 on the CPU.\n" \
    "The op runs asynchronously on a device: with a stream of your own, keep the tensors alive until it is done.\n" \
    "Raises TypeError, ValueError, BufferError (DLPack refusal, read-only output), UnsupportedError, DeviceError;\n" \
    "a refused call writes nothing.")

#define AC_DOC_mla_decode_stage2 AC_DOC(mla_decode_stage2, \
    "Merge the partials of stage 1 by log-sum-exp. Refused when plan.writes_output.\n\n" \
    "logits: [T, S, H, 512] float32; attn_lse: [T, S, H, 1] float32\n" \
    "o: [T, H, 512] bfloat16 or float16; lse: [T, H] float32 or None; both written in place\n" \
    "qo_indptr: [B+1] int32\n\n" \
    "Raises TypeError, ValueError, BufferError, UnsupportedError, DeviceError; a refused call writes nothing.")

#define AC_DOC_mla_plan AC_DOC(mla_plan, \
    "Plan MLA decode from plain numbers: kernels, splits, grid and workspace, without a tensor.\n\n" \
    "q_dtype, kv_dtype: a name or a NumPy, ml_dtypes or torch dtype; kv_dtype may also be 'fp8_ds_mla' or '3buffer'\n" \
    "num_kv_splits: None or -1: automatic, lowered above max(4096, KV rows / 16); max_kv_len: of a request, or None\n" \
    "kv_lora_rank, qk_rope_head_dim: elements of a KV row; device: 'cpu', 'cuda:0', 'hip:0' or a torch.device\n\n" \
    "Raises TypeError (wrong type, unknown dtype), ValueError (range), UnsupportedError (no kernel, no runtime).")

#define AC_DOC_choose_kv_splits AC_DOC(choose_kv_splits, \
    "AITER's split heuristic: the number of KV splits for `batch` requests with `total_kv` rows together.\n\n" \
    "num_kv_splits: None or -1 is automatic; another count is lowered by the fp8 cap only.")

#define AC_DOC_empty AC_DOC(empty, \
    "A new Array of the given shape (an int or a sequence) and dtype on a device; the contents are undefined.\n\n" \
    "dtype: a name or a NumPy, ml_dtypes or torch dtype; device: 'cpu', 'cuda:0', 'hip:0' or a torch.device\n\n" \
    "Raises TypeError (unknown dtype), ValueError (shape, device), UnsupportedError (no runtime), MemoryError.")

#define AC_DOC_from_host AC_DOC(from_host, \
    "A contiguous copy of a NumPy array or of any tensor on the CPU, as an Array on a device; complete on return.")

#define AC_DOC_set_num_threads AC_DOC(set_num_threads, \
    "Set the number of CPU threads, the calling one included; 0: at each call the CPUs that it may use then.")

#define AC_DOC_get_num_threads AC_DOC(get_num_threads, "The number of CPU threads, the calling one included.")

#define AC_DOC_cpu_arch AC_DOC(cpu_arch, "The CPU path in use: 'amx', 'avx512bf16', 'avx512', 'avx2' or 'portable'.")

#define AC_DOC_build_info AC_DOC(build_info, \
    "How this extension was built: version, source_hash, kernel_source_hash (of the code objects it accepts),\n" \
    "variant, compiler, target, limited_api, python_headers, dlpack.")

#define AC_DOC_runtime_info AC_DOC(runtime_info, \
    "What this process runs on: cpu_arch, cpu_reason, num_threads, and runtimes: name -> available, devices,\n" \
    "device_names, library, version, attempts (libraries that would not do), reason (why no runtime, or no device).\n" \
    "Loads the driver libraries and asks them for their devices.")

#define AC_DOC_environment AC_DOC(environment, \
    "The AITER_C_* switches as they were at import: name -> (value or None, meaning).")

#define AC_DOC_kernel_table AC_DOC(kernel_table, \
    "Every kernel as a dict: its limits, what it writes, and whether it is available: this processor runs it or,\n" \
    "for a GPU, its code object is here.")

#define AC_DOC_dlpack_path AC_DOC(dlpack_path, \
    "How tensors of a type (or of an object's type) come in: 'own', 'exchange', 'numpy', '__dlpack__' or 'none'.")

#define AC_DOC_tensor_shape AC_DOC(tensor_shape, \
    "The shape of a tensor as the ops see it, as a tuple; `op` and `name` head the text of a refusal.")

#define AC_DOC_cpu_ceilings AC_DOC(cpu_ceilings, \
    "Measure this machine on the pool's threads: bytes read, f32, bf16 and AMX flops per second (0: no such path).")

#define AC_DOC_MlaPlan \
    "A plan of MLA decode: which kernels, how many splits, how much workspace. Immutable, hashable; made by mla_plan."

#define AC_DOC_workspace_bytes AC_METHOD_DOC(workspace_bytes, \
    "Bytes of logits and attn_lse together for num_rows query rows (None: batch * max_seqlen_q).\n\n" \
    "num_rows * num_kv_splits * num_heads * (512 + 1) * 4, or 0 when stage 1 writes the output.")

#define AC_DOC_Array \
    "Contiguous memory on a device with a dtype and a shape; made by empty and from_host, exported by DLPack."

#define AC_DOC_numpy AC_METHOD_DOC(numpy, \
    "The array as a NumPy array: over the same memory on the CPU; from another device a copy, made when all work of\n" \
    "the device is done. bfloat16 and fp8 need ml_dtypes.")

#define AC_DOC___dlpack__ AC_METHOD_DOC(__dlpack__, \
    "Export as a DLPack capsule: versioned for max_version >= (1, 0), else the older kind.\n\n" \
    "stream: the consumer's. An Array does not know on which streams it was written, so this waits for all work of\n" \
    "its device; -1 does not wait (under graph capture, or when the consumer's stream is the one that wrote it).")

#define AC_DOC___dlpack_device__ AC_METHOD_DOC(__dlpack_device__, "(device type, device id) in DLPack's numbers.")

#endif
