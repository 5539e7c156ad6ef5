"""Wrong programs that the tests must tell from the right one. A bug is found by its text, wherever the file moves."""

from __future__ import annotations

from dataclasses import dataclass

_VALUES = ("test_mla_decode", "test_masking", "test_large", "test_guard_pages", "test_fp8")

#: What is run for a bug; -x ends it at the first failure. op_tests/<op>/bugs.py adds those of an op.
TESTS = {
    "decode": " ".join(f"op_tests/mla_decode/{name}.py" for name in _VALUES) + " --device cpu",
    "bounds": "op_tests/mla_decode/test_guard_pages.py op_tests/mla_decode/test_masking.py --device cpu",
    "plan": "op_tests/mla_decode/test_plan.py op_tests/mla_decode/test_metadata.py --device cpu",
    "refuse": "op_tests/mla_decode/test_bad_arguments.py op_tests/mla_decode/test_plan.py --device cpu",
    "boundary": "op_tests/boundary op_tests/mla_decode/test_bad_arguments.py --device cpu",
    "threads": "op_tests/runtime/test_float_environment.py op_tests/mla_decode/test_deterministic.py --device cpu",
    "gpu": "op_tests/mla_decode op_tests/runtime/test_simulated.py --device gfx950 -m device",
}

#: A script that is asked before, where one sees most of a group's bugs.
FIRST = {"decode": "op_tests/mla_decode/isolated/run_cases.py"}


@dataclass(frozen=True)
class Bug:
    """`old` becomes `new` in the one file under `within` (globs) that holds it once. code_object: the one of hsa/<arch>
    it is planted in. harmless: why nothing needs to see it."""

    name: str
    within: str
    old: str
    new: str
    why: str
    tests: str = "decode"
    code_object: str = ""
    harmless: str = ""
    arch: str = "gfx950"


OPS, WORK, CPU, GPU = "csrc/ops/**/*.c", "csrc/ops/**/work*.h", "csrc/**/cpu/**/*.[ic]*", "csrc/ops/**/*.h"
DECODE_CPU = "csrc/ops/attention/cpu/*.inc"

PLANNER = [
    Bug(
        "splits-cost", OPS, "ROWS_PER_SPLIT_COST 84.1", "ROWS_PER_SPLIT_COST 80.0", "AITER's number is another", "plan"
    ),
    Bug("splits-fp8-tile", OPS, "tile < 16 ? 64", "tile < 17 ? 64", "the fp8 table is one off", "plan"),
    Bug("splits-groups", OPS, "(groups > 1 ? groups : 1)", "1", "groups do not count as work", "plan"),
    Bug("splits-merge-cost", OPS, "(splits > 1 ? MERGE_ROWS : 0)", "0", "a merge costs nothing on a GPU", "gpu"),
    Bug("splits-granule", OPS, "#define SPLIT_GRANULE 16", "#define SPLIT_GRANULE 8", "runs begin inside of tiles"),
    Bug(
        "splits-fixed",
        GPU,
        "#define AC_FIXED_MIN_KEYS 512",
        "#define AC_FIXED_MIN_KEYS 256",
        "deterministic runs are shorter than said",
    ),
    Bug(
        "splits-length",
        OPS,
        "r->total_kv / ac_max64(r->batch, 1)",
        "r->total_kv",
        "splits of a GPU by the sum of all lists",
        "gpu",
    ),
    Bug(
        "plan-early-return",
        OPS,
        "!request->num_workers && plan.num_kv_splits == 1 &&",
        "!request->num_workers && plan.num_kv_splits <= 2 &&",
        "two splits write final rows",
    ),
    Bug("plan-workspace", OPS, "(AC_MLA_DV + 1) * 4", "AC_MLA_DV * 4", "the workspace has no room for the LSE", "plan"),
    Bug(
        "plan-rows",
        OPS,
        "if (r->deterministic) return r->num_heads;",
        "",
        "a deterministic kernel follows the longest query",
        "gpu",
    ),
    Bug("plan-small-tiles", OPS, "rows < 64 && rows < pairs", "rows < 0", "units stay idle beside few lists", "plan"),
    Bug("plan-small-rounds", OPS, "<= units / runs)", "<= 2 * units / runs)", "small tiles cost a round", "plan"),
    Bug(
        "plan-most-splits",
        OPS,
        "r->num_kv_splits < most ? r->num_kv_splits : (int32_t)most",
        "r->num_kv_splits",
        "any split count is taken",
        "refuse",
    ),
    Bug(
        "plan-page-size",
        OPS,
        '        {"page_size", r->page_size, entry_rows(args), NULL, NULL},\n',
        "",
        "a plan for pages of another size is used",
        "refuse",
    ),
    Bug(
        "kernel-choice",
        "csrc/core/*.c",
        "tiles < other : kernel",
        "tiles > other : kernel",
        "the kernel with the most tiles is taken",
        "gpu",
    ),
    Bug(
        "kernel-dtypes",
        "csrc/core/*.c",
        "number < 64 && row >> number & 1",
        "number < 64",
        "any dtype fits a kernel",
        "plan",
    ),
]

HOST = [
    Bug(
        "scale-16-bit",
        "csrc/ops/attention/scale_arg.h",
        "if (!ac_dtype_in(dtype, AC_FP8)) return (ac_scale_t){NULL, 1};",
        "",
        "scales count for operands of 16 bits",
    ),
    Bug("sm-scale", OPS, "1.0 / sqrt((double)args->kv.row_width)", "1.0 / sqrt(576.0)", "the scale without rope"),
    Bug(
        "last-page-lens",
        OPS,
        "if (entry_rows(args) == 1 || args->kv_lens) args->kv_last_page_lens = NULL;",
        "if (entry_rows(args) == 0 || args->kv_lens) args->kv_last_page_lens = NULL;",
        "lengths are looked at with pages of one row",
    ),
    Bug(
        "unowned-lse",
        OPS,
        "if (params.attention.lse && (lists || launch.grid == 0) &&",
        "if (0 &&",
        "the LSE of rows that no request serves is not written, by lists or without requests",
    ),
    Bug("causal", OPS, "p->causal = args->causal;", "p->causal = 1;", "causal=False is ignored"),
    Bug(
        "head-stride",
        "csrc/ops/mla_decode/op.c",
        "p->o_head_stride = ac_stride_bytes(o, 1);",
        "p->o_head_stride = 2 * AC_MLA_DV;",
        "heads of o lie densely",
    ),
    Bug(
        "merge-head-stride",
        "csrc/ops/**/stage2.c",
        ".o_head_stride = ac_stride_bytes(args->o, 1),",
        ".o_head_stride = 2 * AC_MLA_DV,",
        "the merge's heads of o lie densely",
    ),
    Bug(
        "q-row-stride",
        OPS,
        "p->q_row_stride = ac_stride_bytes(args->q, 0);",
        "p->q_row_stride = (int32_t)ac_stride_bytes(args->q, 0);",
        "rows of q beyond 2 GiB wrap",
    ),
    Bug(
        "served-rows",
        OPS,
        "return ac_min64(plan->request.max_seqlen_q, T);",
        "return plan->request.max_seqlen_q;",
        "rows past T are work",
        harmless="they are items without rows: only time",
    ),
    Bug(
        "aliasing",
        "csrc/ops/mla_decode/op.c",
        '"T H 512", AC_DENSE_ROWS | AC_WRITTEN | AC_MAY_BE_NONE)',
        '"T H 512", AC_DENSE_ROWS | AC_MAY_BE_NONE)',
        "o may share memory with inputs",
        "refuse",
    ),
    Bug(
        "aliasing-touch",
        "csrc/core/*.c",
        "a->low < b->high && b->low < a->high &&",
        "a->low <= b->high && b->low <= a->high &&",
        "neighbours in memory are refused",
        "refuse",
    ),
    Bug(
        "overlap",
        "csrc/core/*.c",
        "if (step(view, next) < span) return false;",
        "if (step(view, next) < span - 1) return false;",
        "outputs may overlap by one element",
        "refuse",
    ),
    Bug(
        "dense-rows",
        "csrc/core/*.c",
        "arg.view->stride[last] == 1",
        "arg.view->stride[last] >= 1",
        "elements may be apart",
        "refuse",
    ),
    Bug(
        "at-least",
        "csrc/core/*.c",
        "return dim->or_more ? size >= wanted",
        "return dim->or_more ? size >= wanted - 1",
        "index tensors may be one short",
        "refuse",
    ),
    Bug(
        "broadcast-stride",
        "csrc/core/*.c",
        "return view->shape[dim] > 1 ? view->stride[dim]",
        "return 1 ? view->stride[dim]",
        "strides of a dimension of one count",
        harmless="nothing is multiplied by them but index 0",
    ),
    Bug(
        "overlap-nested",
        "csrc/core/*.c",
        "if (step(view, i) < span) return false;",
        "if (step(view, i) < span - 1) return false;",
        "outputs may overlap by one element, as most tensors are laid out",
        "refuse",
    ),
    Bug(
        "extent",
        "csrc/module/tensor.c",
        "view->high = address + (uintptr_t)high;",
        "view->high = address + (uintptr_t)high - 1;",
        "an output may have one byte of its memory in common with an input",
        "refuse",
        harmless="elements have aligned addresses, so that tensors have one in common or none",
    ),
    Bug(
        "extent-low",
        "csrc/module/tensor.c",
        "view->low = address + (uintptr_t)low;",
        "view->low = address;",
        "the memory of a tensor with a negative stride begins at its first element",
        "refuse",
    ),
]

CPU_KERNELS = [
    Bug("pool-end", CPU, "page >= kv->num_entries", "page > kv->num_entries", "the page after the last is read"),
    Bug("pool-begin", CPU, "if (page < 0 || page >=", "if (page >=", "negative pages are read"),
    Bug(
        "page-stride",
        CPU,
        "kv->base + page * kv->page_stride",
        "kv->base + (int32_t)(page * kv->page_stride)",
        "pages beyond 2 GiB wrap",
    ),
    Bug(
        "frontier",
        WORK,
        "out->frontier = out->total - num_queries;",
        "out->frontier = out->total - num_queries + 1;",
        "a key too many is seen",
    ),
    Bug(
        "first-row",
        CPU,
        "out_block->first_row = (int)ac_clamp64(query * p->num_heads - work->first_pair, 0, work->num_rows);",
        "out_block->first_row = 0;",
        "rows see keys that the mask hides",
    ),
    Bug(
        "page-middle",
        CPU,
        "run = ac_min64(kv->entry_rows - skipped, to - from)",
        "run = ac_min64(kv->entry_rows, to - from)",
        "a block that begins inside a page leaves it",
    ),
    Bug(
        "scales-of-record",
        CPU,
        "row->scales + i / (AC_MLA_DV / kv->scale_groups) *",
        "row->scales + i / AC_MLA_DV *",
        "a record's first scale for all groups",
    ),
    Bug(
        "no-rope",
        CPU,
        "ac_cpu_widen(kv->rope_dtype, row->rope, kv->rope_dim, key + AC_MLA_DV);",
        "",
        "rope is left out",
    ),
    Bug(
        "softmax-sum",
        CPU,
        "v_t sum = v_mul(v_load(local->sum + v * AC_LANES), rescale);",
        "v_t sum = v_load(local->sum + v * AC_LANES);",
        "the sum is not rescaled",
    ),
    Bug("softmax-base", CPU, "v_t base = v_max(top, v_set1(-FLT_MAX));", "v_t base = top;", "-inf minus -inf"),
    Bug(
        "odd-key", CPU, "if (AC_PAIR == 2 && t + 1 < num_tokens)", "if (AC_PAIR == 2)", "the key after an odd last one"
    ),
    Bug(
        "value-scale",
        DECODE_CPU,
        "v_set1(empty ? 0 : walk->value_scale / sum)",
        "v_set1(empty ? 0 : 1 / sum)",
        "kv_scale of the values",
    ),
    Bug(
        "lse-empty",
        CPU,
        "partial] = empty ? -INFINITY :",
        "partial] = 0 ? -INFINITY :",
        "the LSE of an empty row",
        harmless="log2(0) is -inf: the base of a row without keys is not added to anything else",
    ),
    Bug(
        "o-empty",
        CPU,
        "if (empty) memset(acc, 0, AC_MLA_DV * sizeof *acc);",
        "if (0) ;",
        "an empty row keeps what was there",
    ),
    Bug(
        "partial-place",
        CPU,
        "int64_t partial = partial_row * p->num_heads + head;",
        "int64_t partial = partial_row * p->num_heads + (head ^ (head == 1));",
        "a partial in another's place",
    ),
    Bug(
        "query-lanes",
        DECODE_CPU,
        "memset(local->query, 0, sizeof local->query);",
        "",
        "lanes past the last row hold old numbers",
        harmless="their results are never stored",
    ),
    Bug("merge-sum", CPU, "sum += weight;", "sum += 1;", "the merge adds sums without their scale"),
    Bug(
        "merge-weight", CPU, "expf(lse - pair.top)", "expf(pair.top - pair.top)", "the merge weighs all partials alike"
    ),
    Bug(
        "merge-empty",
        CPU,
        "if (lse == -INFINITY) continue;",
        "",
        "the merge reads partials that nobody wrote",
    ),
    Bug(
        "merge-lse",
        CPU,
        "(float)(pair.top + log(sum))",
        "(float)pair.top",
        "the merged LSE is the largest of the parts",
    ),
    Bug(
        "merge-first",
        CPU,
        "if (lse > pair.top) pair.top = lse;",
        "if (part > 0 && lse > pair.top) pair.top = lse;",
        "the first partial is not in the maximum",
    ),
    Bug(
        "merge-none",
        CPU,
        "if (sum == 0) memset(acc, 0, (size_t)width * sizeof *acc);",
        "",
        "a row of empty partials keeps -0.0",
        tests="reduce",
    ),
    Bug("merge-zero", CPU, "acc[i] = -0.0f;", "acc[i] = 0.0f;", "a lone -0.0 loses its sign", tests="reduce"),
    Bug(
        "store-dtype",
        CPU,
        "if (dtype == AC_BFLOAT16)\n        for",
        "if (dtype != AC_BFLOAT16)\n        for",
        "the dtype of an output row",
    ),
]

MODULE = [
    Bug(
        "leak-tensors",
        "csrc/module/*.c",
        "    ac_tensor_release(call.tensors, call.tensor_count);\n",
        "",
        "imported tensors are never released",
        "boundary",
    ),
    Bug(
        "unset-int",
        "csrc/module/*.c",
        "*out_object = PyLong_FromLongLong(*(const int64_t *)field);",
        "*out_object = PyLong_FromLongLong(2);",
        "a 2 is as if nothing were passed",
        "refuse",
    ),
    Bug(
        "unset-none",
        "csrc/module/*.c",
        "if (!value || value == signature->unset[i]) continue;",
        "if (!value || value == Py_None) continue;",
        "None is always as if nothing were passed",
        "refuse",
    ),
    Bug("leak-plan", "csrc/module/*.c", "    Py_XDECREF(call.plan_object);\n", "", "plans leak", "boundary"),
    Bug(
        "leak-workspace",
        "csrc/module/*.c",
        "for (int i = 0; i < AC_MAX_WORKSPACES; i++) Py_XDECREF(call.workspaces[i]);",
        "",
        "workspaces leak",
        "boundary",
    ),
    Bug(
        "leak-scratch",
        "csrc/module/*.c",
        "if (array->owner->deleter) array->owner->deleter(array->owner);",
        "",
        "scratch of torch's memory leaks",
        "boundary",
    ),
    Bug(
        "float-environment",
        "csrc/module/*.c",
        "    ac_float_env_leave(saved);\n",
        "",
        "the caller's rounding changes",
        "threads",
    ),
    Bug(
        "version-counter",
        "csrc/module/*.c",
        "int told = ac_tensors_written(call->state, call->tensors, call->tensor_count);",
        "int told = 0;",
        "torch does not see what was written",
        "boundary",
    ),
    Bug(
        "read-only",
        "csrc/module/*.c",
        "managed->flags & DLPACK_FLAG_BITMASK_READ_ONLY",
        "0",
        "read-only outputs are written",
        "boundary",
    ),
    Bug(
        "byte-offset",
        "csrc/module/*.c",
        "(char *)tensor->data + tensor->byte_offset",
        "(char *)tensor->data",
        "DLPack's byte_offset is ignored",
        "boundary",
    ),
    Bug(
        "legacy-output",
        "csrc/module/*.c",
        "    if (writable) return 0;\n",
        "    return 0;\n",
        "outputs of legacy capsules",
        "boundary",
    ),
    Bug(
        "pinned",
        "csrc/module/*.c",
        "type == AC_DEVICE_CUDA_HOST || type == AC_DEVICE_HIP_HOST",
        "type == AC_DEVICE_CUDA_HOST",
        "pinned memory of HIP is a device",
        "boundary",
    ),
    Bug(
        "finite",
        "csrc/module/*.c",
        "return param->flags & AC_FINITE ? ac_check_finite(op, param->name, out_scale->value) : 0;",
        "return 0;",
        "a scale of NaN",
        "refuse",
    ),
]

GPU_KERNELS = [
    Bug(
        "gpu-frontier",
        GPU,
        "work->frontier + query + 1 : work->total",
        "work->frontier + query : work->total",
        "a key too few is seen",
        "gpu",
        "mla_decode",
    ),
    Bug(
        "gpu-range-end",
        GPU,
        "if (t < cursor.left) location",
        "if (t <= cursor.left) location",
        "the key after the range",
        "gpu",
        "mla_decode",
    ),
    Bug(
        "gpu-pool-end",
        GPU,
        "location.entry < kv.num_entries",
        "location.entry <= kv.num_entries",
        "the page after the last",
        "gpu",
        "mla_decode",
    ),
    Bug(
        "gpu-page-stride",
        GPU,
        "(place.page * kv.page_stride + offset",
        "((int32_t)(place.page * kv.page_stride) + offset",
        "pages beyond 2 GiB wrap",
        "gpu",
        "mla_decode",
    ),
    Bug(
        "gpu-softmax-sum", GPU, "row->sum *= factor;", "row->sum *= factor * 0.5f;", "half the sum", "gpu", "mla_decode"
    ),
    Bug(
        "gpu-columns-bases",
        GPU,
        "GPU_UNROLL for (int r = 0; r < a_t::HELD; r++)\n            if (base_moves<matrix_t>(tops[r], rows[r]))",
        "GPU_UNROLL for (int r = 0; r < a_t::SCORED; r++)\n            if (base_moves<matrix_t>(tops[r], rows[r]))",
        "a wave rescales the rows whose scores it has alone",
        "gpu",
        "mla_decode",
    ),
    Bug(
        "gpu-masked-middle",
        GPU,
        "(SEEN == SEEN_SAME && __builtin_expect(!none_is_masked(keys), false))",
        "false",
        "masked keys far from the end count as zeros",
        "gpu",
        "mla_decode",
    ),
    Bug(
        "gpu-wave-sum",
        GPU,
        "parts[w].y * mla_rebase(parts[w].x, softmax->base)",
        "parts[w].y",
        "waves' sums are added without their scale",
        "gpu",
        "mla_decode",
    ),
    Bug(
        "gpu-value-scale",
        "csrc/ops/attention/*.h",
        "out.scale = value_scale / softmax.sum;",
        "out.scale = 1 / softmax.sum;",
        "kv_scale of the values",
        "gpu",
        "mla_decode",
    ),
    Bug(
        "gpu-record-scales",
        GPU,
        "whole += part * scales(n, step / (LATENT / PARTS));",
        "whole += part * scales(n, 0);",
        "a record's first scale for all groups",
        "gpu",
        "mla_decode",
    ),
    Bug(
        "gpu-merge-sum",
        GPU,
        "-1 : gpu_exp2((lse - top) * (float)AC_LOG2_E);",
        "-1 : 1;",
        "the merge weighs all partials alike",
        "gpu",
        "mla_merge",
    ),
    Bug(
        "gpu-merge-chunk",
        GPU,
        "is_staged ? num_parts() : stage(first)",
        "num_parts() <= 4096 ? num_parts() : stage(first)",
        "more splits than threads are merged by the last chunk's LSEs",
        "gpu",
        "mla_merge",
    ),
]

BUGS = [*PLANNER, *HOST, *CPU_KERNELS, *MODULE, *GPU_KERNELS]
