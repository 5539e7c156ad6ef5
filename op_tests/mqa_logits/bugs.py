"""Wrong programs that the tests of the indexer's logits must tell from the right one; see op_tests/mutants."""

from __future__ import annotations

from bugs import Bug

TESTS = {
    "logits": "op_tests/mqa_logits --device cpu",
    "logits-gpu": "op_tests/mqa_logits/test_mqa_logits.py --device gfx950 -m device",
}

_HERE = "csrc/ops/mqa_logits/"
ROWS, HOST, CPU = f"{_HERE}rows.h", f"{_HERE}op.c", f"{_HERE}cpu/logits.inc"
SCHEDULE, PAGED, RAGGED = f"{_HERE}schedule.h", f"{_HERE}gfx9/paged.h", f"{_HERE}gfx9/contiguous.h"
WAVE = f"{_HERE}gfx9/wave.h"

#: name, file, right, wrong, why; seen on the CPU
_BUGS = [
    # aiter#2866: logits past the row
    ("row-end", HOST, "ac_min64(args->out_logits->shape[1], args->max_model_len)", "args->max_model_len", "past width"),
    (
        "max-model-len",
        HOST,
        "ac_min64(args->out_logits->shape[1], args->max_model_len)",
        "args->out_logits->shape[1]",
        "past max_model_len",
    ),
    ("chunk-end", CPU, "ac_min64(item.first + p->item_columns, p->columns)", "item.first + p->item_columns", "a chunk"),
    ("bounds-end", ROWS, "ac_mqa_entry(p->ends, at * p->ends_stride), p->columns)", "p->columns, p->columns)", "all"),
    # aiter's Q24 and Q28
    ("mask-one", ROWS, "p->group_rows - 1 - row;", "p->group_rows - row;", "a row sees a key less"),
    ("mask-none", ROWS, "p->length_per_row ? 0 : p->group_rows - 1 - row;", "0;", "a row sees later tokens' keys"),
    ("mask-reversed", ROWS, "0 : p->group_rows - 1 - row;", "0 : row;", "rows see in reversed order"),
    ("row-length", ROWS, "p->length_per_row ? row * p->lengths_row_stride : 0", "0", "one length for all rows"),
    ("requests", ROWS, "if (group >= p->num_requests) return 0;", "", "lengths past their end are read"),
    ("table-width", ROWS, "if (entry >= k->table_width) return -1;", "", "entries past the table"),
    ("page-pool", ROWS, "page >= 0 && page < k->num_pages ? page : -1", "page", "pages past the pool"),
    ("page-last", ROWS, "page < k->num_pages ?", "page <= k->num_pages ?", "one page too many"),
    ("shuffle", ROWS, "(token & 15) * 16", "(token & 15) * 32", "another tile"),
    ("shuffle-run", CPU, "from + 256 * run, 16", "from + 16 * run, 16", "runs stand apart in a tile"),
    ("divide", HOST, "+ (uint64_t)size - 1) / (uint64_t)size);", ") / (uint64_t)size);", "the multiplier rounds down"),
    ("scale-page", HOST, ".scales = kv->data + size * AC_MQA_DIM,", ".scales = kv->data + AC_MQA_DIM,", "scales"),
    ("page-stride", HOST, ".page_stride = ac_stride_bytes(kv, 0),", ".page_stride = size * kv->shape[3],", "dense"),
    (
        "page-stride-32",
        HOST,
        ".page_stride = ac_stride_bytes(kv, 0),",
        ".page_stride = (int32_t)ac_stride_bytes(kv, 0),",
        "a stride of 32 bits",
    ),
    ("logits-stride-32", CPU, "+ row) * p->logits_stride);", "+ row) * (int32_t)p->logits_stride);", "32 bits"),
    ("table-stride", HOST, "table->shape[0] > 1 ? table->stride[0] : 0", "table->shape[1]", "a dense table"),
    ("lengths-stride", HOST, ".lengths_stride = entries_stride(lengths, 0)", ".lengths_stride = 1", "dense lengths"),
    ("scale-stride", HOST, ".scale_stride = ac_stride_bytes(args->kv_scales, 0)", ".scale_stride = 4", "dense scales"),
    ("fewer-tables", HOST, "ac_min64(lengths->shape[0], args->kv_indices->shape[0])", "lengths->shape[0]", "rows"),
    ("missing-key", CPU, "out[j] = exists[at] ?", "out[j] = 1 ?", "0 for no key"),
    ("scale", CPU, "local->logits[at] * local->scales[at] :", "local->logits[at] :", "no scale"),
    ("relu", CPU, "v_max(score[v][t], v_zero())", "score[v][t]", "no relu"),
    ("relu-nan", CPU, "v_max(score[v][t], v_zero())", "v_max(v_zero(), score[v][t])", "NaN passes"),
    ("weights-stale", CPU, "    memset(local->weights, 0, sizeof local->weights);\n", "", "weights of missing heads"),
    ("heads-stale", CPU, "else memset(heads[h], 0, sizeof heads[h]);", "", "missing heads hold anything"),
    ("clean-end", CPU, "p->clean ? item->last : ac_clamp64(window.end, seen, item->last)", "item->last", "past length"),
    ("clean-never", CPU, "p->clean ? item->last : ac_clamp64", "0 ? item->last : ac_clamp64", "columns stay"),
    ("clean-begin", CPU, "if (p->clean) mqa_fill(out, item->first, begin);", "", "columns before the window stay"),
    ("union-begin", CPU, "begin = ac_min64(begin, window.begin);", "begin = window.begin;", "the last row's"),
    ("union-end", CPU, "end = ac_max64(end, window.seen);", "end = window.seen;", "likewise"),
    ("last-group", CPU, "ac_min64(p->group_rows, p->num_rows - item.group * p->group_rows)", "p->group_rows", "rows"),
    ("kv-dtype", HOST, "&& dtype == AC_DTYPE_NONE) dtype = args->q_fp8->dtype;", ") dtype = args->q_fp8->dtype;", "-"),
    ("cache-pages", HOST, "kv->stride[1] != kv->shape[3]", "0", "a page with gaps passes"),
    ("shuffle-size", HOST, "args->Preshuffle && args->KVBlockSize % 16 != 0", "0", "a page of half a tile passes"),
]  # fmt: skip

#: the same on a GPU
_GPU = [
    ("length-end", ROWS, "ac_clamp64(length, 0, p->columns)", "length < 0 ? 0 : length", "aiter#2866"),
    ("past-row", PAGED, "if (j < window.end) gpu_store", "gpu_store", "aiter#2866: a tile is stored whole"),
    ("past-row-by-block", PAGED, "if (j < window.end) gpu_store", "if (j < (window.end | 15)) gpu_store", "2866"),
    ("ragged-past", RAGGED, "if (j >= seen.begin && j < seen.end) gpu_store", "if (j >= seen.begin) gpu_store", "2866"),
    ("clean-past", SCHEDULE, "ac_min64((run + 1) * RUN, p.columns)", "(run + 1) * RUN", "past the row"),
    ("missing-key", PAGED, "sees = has_page && j < window.seen;", "sees = j < window.seen;", "a logit for no key"),
    ("mask", PAGED, "sees = has_page && j < window.seen;", "sees = has_page;", "a row sees later tokens' keys"),
    ("window", PAGED, "lds<window_t>(WINDOWS_AT + row * 8);", "lds<window_t>(WINDOWS_AT);", "that of another row"),
    ("share", SCHEDULE, "return share + (worker < more);", "return share;", "the tiles that are left over"),
    ("share-first", SCHEDULE, "worker * share + (worker < more ? worker : more)", "worker * share", "twice"),
    ("units", SCHEDULE, "before += all;", "", "later units"),
    ("empty-unit", SCHEDULE, "} while (at.length == 0);", "} while (false);", "no keys"),
    ("row-block", PAGED, "(int64_t)(number - group * p.row_blocks) * p.block_rows", "0", "every block is the first"),
    ("reload", PAGED, "if (at[0].unit != unit.number) unit", "if (unit.number < 0) unit", "stale q"),
    ("no-page", PAGED, "page = has_page ? page : others_page;", "", "pages that are not there are read"),
    ("stage", RAGGED, "store(stage ^ 1, next);", "store(stage, next);", "the stage at hand is overwritten"),
    ("race", PAGED, "        gpu_barrier(); /* the last unit's readers */\n", "", "queries change under their readers"),
    ("lanes", WAVE, "(lane >> 4) * run", "(lane >> 4) * 2 * run", "runs of another lane"),
    ("factor", WAVE, "fp8_factor_of(p.q_dtype) * fp8_factor_of(p.k.dtype)", "1.0f", "half of fn"),
]  # fmt: skip

BUGS = [Bug(f"logits-{name}", within, old, new, why, "logits") for name, within, old, new, why in _BUGS] + [
    Bug(
        f"logits-gpu-{name}",
        within,
        old,
        new,
        why,
        "logits-gpu",
        code_object="mqa_logits",
        harmless="fn is the matrix unit's own kind on gfx950: its factor is 1" if name == "factor" else "",
    )
    for name, within, old, new, why in _GPU
]
