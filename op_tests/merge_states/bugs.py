"""Wrong merges that the tests of merge_states must tell from the right one; see op_tests/mutants."""

from __future__ import annotations

from bugs import Bug

TESTS = {
    "states": "op_tests/merge_states --device cpu",
    "states-gpu": "op_tests/merge_states --device gfx950 -m device",
}
_HERE = "csrc/ops/merge_states/"
OP, CPU, GPU = f"{_HERE}op.c", f"{_HERE}cpu/*.inc", f"{_HERE}*.hip"
RULES, CALL = "csrc/core/*.c", "csrc/module/call.c"

#: name, file, right, wrong, why
_BUGS = [
    # Arguments.
    (
        "in-place-any",
        RULES,
        "return view->data == other->data && is_same_layout(view, other, 0);",
        "return is_same_layout(view, other, 0);",
        "an output may be a shifted input",
    ),
    ("in-place-part", RULES, "return distance % part == 0 &&", "return", "... or begin between two states"),
    ("in-place-last", RULES, "distance / part < whole->shape[0];", "true;", "... or behind the last one's begin"),
    (
        "in-place-strides",
        RULES,
        "if (view->shape[i] > 1 && view->stride[i] != whole->stride[i + first]) return false;",
        "",
        "an output in place may have other strides",
    ),
    ("in-place-dtype", RULES, "|| view->dtype != whole->dtype) return false;", ") return false;", "... or dtype"),
    (
        "in-place-overlap",
        RULES,
        "|| !ac_view_elements_are_apart(whole)) return false;",
        ") return false;",
        "states that share their memory with the output's",
    ),
    ("in-place-output", RULES, "|| other->rule->flags & AC_WRITTEN) return false;", ") return false;", "an LSE",
    ),
    ("in-place-kind", RULES, "return is_all_parts ?", "return is_all_parts || view->ndim < input->ndim ?", "any part"),
    ("each", RULES, "i == 0 || i < tensors->count;", "i == 0;", "only the first tensor of a list is checked"),
    ("list-held", CALL, "    call->sequences[call->sequence_count++] = items;\n", "", "the tensors of a list leak"),
    ("list-length", CALL, "if (count < 1 || count > AC_MAX_SEQUENCE) {", "if (count > AC_MAX_SEQUENCE) {", "none"),
    ("list-released", CALL, "i < call.sequence_count; i++) Py_DECREF(call.sequences[i]);", "i < 0; i++) {}", "leaks"),
    ("dtypes", OP, "if (args->o.views[i]->dtype == first) continue;", "continue;", "states of several dtypes"),
    ("fresh", OP, "if (args->is_fresh) {", "if (0) {", "what an allocator gives is not looked at"),
    ("layout-out", OP, "{heads_first ? H : T, heads_first ? T : H}", "{T, H}", "a fresh LSE is [T, H] always"),
    ("row-stride", OP, "source->o_row_stride = ac_stride_bytes(o, o->ndim - 3);",
     "source->o_row_stride = ac_size(&args->sizes, \"H\") * ac_size(&args->sizes, \"D\") * ac_dtype_bytes(o->dtype);",
     "dense rows"),
    ("out-stride", OP, "p->out_head_stride = ac_stride_bytes(out, 1);",
     "p->out_head_stride = ac_size(&args->sizes, \"D\") * ac_dtype_bytes(out->dtype);", "dense heads"),
    ("together", OP, "p->lse_stride = ac_stride_bytes(args->lse.views[0], 0);", "p->lse_stride = p->o_stride;", "LSEs"),
    ("out-dtype", OP, "p->out_dtype = (int32_t)out->dtype;", "p->out_dtype = p->o_dtype;", "another dtype"),
    ("sink-off", OP, "p->sink = ac_floats(args->sink);", "p->sink = NULL;", "the sink is left out"),
    # The arithmetic on the CPU.
    ("nan", CPU, "lse <= FLT_MAX || p->spreads_nan ?", "lse < INFINITY || lse != lse ?",
     "NaN is a number"),
    ("infinity", CPU, "lse <= FLT_MAX || p->spreads_nan ?", "lse == lse ?", "and +inf"),
    ("nothing", CPU, "if (lse < -FLT_MAX) continue;", "", "a state that holds nothing is read"),
    ("top", CPU, "lse > pair.top ? lse : pair.top", "state == 0 ? lse : pair.top", "the first LSE for the largest"),
    ("weight", CPU, "const float factor = expf(lse - pair->top);", "const float factor = expf(lse);", "leaves fp32"),
    ("sum", CPU, "pair->sum += factor;", "pair->sum += 1;", "every state weighs the same in the sum"),
    ("sum-again", CPU, "    pair->sum = 0;\n", "", "wide rows count their states again"),
    ("zero", CPU, "acc[i] = -0.0F;", "acc[i] = 0;", "a lone -0.0 loses its sign"),
    ("negative-zero", CPU, "        memset(acc, 0, sizeof acc);\n    }", "    }", "a row of nothing is -0.0"),
    ("lse", CPU, "const double lse = pair->top + log(pair->sum);", "const double lse = pair->top;",
     "the LSE is the largest of the states'"),
    ("sink-top", CPU, "expf(sink[pair->head] - pair->top)", "expf(sink[pair->head])", "the sink has another scale"),
    ("sink-head", CPU, "expf(sink[pair->head] -", "expf(sink[0] -", "every head has the first one's sink"),
    ("sink-empty", CPU, "if (pair->sum == 0) return 0;", "", "0 / 0 without a sink"),
    ("sink-lse", CPU, "    return 1 / (sink ? pair->sum +", "    return 1 / (sink ? 2 * pair->sum +", "half of it"),
    ("rest", CPU, "if (i == width) return;\n    char rest", "return;\n    char rest", "the last columns are lost"),
    ("rest-read", CPU, "(size_t)((width - i) * bytes));\n    v_store(acc + i, v_fma(states_load(rest",
     "(size_t)(AC_LANES * bytes));\n    v_store(acc + i, v_fma(states_load(rest", "reads go past the row"),
    ("pairs", CPU, "pair / p->num_heads, pair % p->num_heads", "pair / p->num_heads, 0", "the first head for all"),
]  # fmt: skip

#: Of the kernel of AMD and NVIDIA.
_GPU_BUGS = [
    ("nan", "lses[k] <= GPU_FLT_MAX ?", "!(lses[k] > GPU_FLT_MAX) ?", "NaN is a number"),
    ("infinity", "lses[k] <= GPU_FLT_MAX ?", "lses[k] == lses[k] ?", "+inf is a number"),
    ("nothing", "if (lses[k] == GPU_MINUS_INFINITY) continue;", "if (first + k >= p.num_states) continue;", "is read"),
    ("more", "if (first + k >= p.num_states) continue;", "if (first + k > p.num_states) continue;", "a state too many"),
    ("group", "if (p.num_states > GROUP) load_lses(first);", "", "the LSEs of the last group for all"),
    ("sum", "sum += factors[k];", "sum += 1;", "every state weighs the same in the sum"),
    ("sum-again", "add(int64_t block) {\n        sum = 0;", "add(int64_t block) {\n        if (!block) sum = 0;",
     "wide rows count their states again"),
    ("zero", "acc[j][i] = -0.0f;", "acc[j][i] = 0;", "a lone -0.0 loses its sign"),
    ("loaded-zero", "word = BYTES == 4 ? 0x80000000u : 0x80008000u;", "word = 0;", "... beside states of nothing"),
    ("negative-zero", "zero = sum == 0 ? 0.0f : -0.0f;", "zero = -0.0f;", "a row of nothing is -0.0"),
    ("positive-zero", "zero = sum == 0 ? 0.0f : -0.0f;", "zero = 0.0f;", "a lone -0.0 loses its sign"),
    ("lse", "top + gpu_log2(sum) * (float)AC_LN_2;", "top + gpu_log2(sum);", "the LSE is in part in base 2"),
    ("sink", "if (p.sink) weights +=", "if (false) weights +=", "the sink is left out"),
    ("sink-head", "weights += gpu_exp2((gpu_entry(p.sink + head)", "weights += gpu_exp2((gpu_entry(p.sink)",
     "every head has the first one's sink"),
    ("sink-empty", "return sum == 0 ? 0 : 1 / weights;", "return 1 / weights;", "0 / 0 in a row of nothing"),
    ("vector", "bool is_whole = at + VALUES <= p.value_dim &&", "bool is_whole = at < p.value_dim &&", "past rows"),
    ("tail", "if (at + i >= p.value_dim) break;\n            if (p.out_dtype", "if (p.out_dtype", "writes past rows"),
    ("second", "return (lane() + load * LANES) * VALUES;", "return lane() * VALUES;", "a lane's first vector twice"),
    ("step", "block += LANES * LOADS * VALUES", "block += COLUMNS", "columns of wide rows are left out"),
    ("rows", "if (row >= p.num_rows) return;", "", "work items past the last row"),
    ("heads", "(int)(head % (uint32_t)p.num_heads)", "(int)head", "heads past the last are not those of the next row"),
    ("lse-first", "        find_top();\n        for (int64_t block", "        find_top();\n        sum = 1;\n"
     "        store_lse();\n        for (int64_t block", "an LSE in place is written before it is read again"),
]  # fmt: skip

BUGS = [Bug(f"states-{name}", within, old, new, why, "states") for name, within, old, new, why in _BUGS]
BUGS += [
    Bug(f"states-gpu-{name}", GPU, old, new, why, "states-gpu", "merge_states") for name, old, new, why in _GPU_BUGS
]
