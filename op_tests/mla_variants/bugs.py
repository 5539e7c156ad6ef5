"""Wrong variants of MLA decode that their tests must tell from the right ones; see op_tests/mutants."""

from __future__ import annotations

from bugs import Bug

TESTS = {
    "variants": "op_tests/mla_variants --device cpu",
    "variants-gpu": "op_tests/mla_variants --device gfx950 -m device",
}
_HERE = "csrc/ops/mla_decode/"
OP, VARIANT, PLAN, STAGE2 = (f"{_HERE}{name}.c" for name in ("op", "variant", "plan", "stage2"))
WORK, STORE, CPU = "csrc/ops/attention/work*.h", "csrc/ops/attention/s*.h", "csrc/ops/attention/cpu/*.inc"


def _bug(name: str, within: str, old: str, new: str, why: str, **more: str) -> Bug:
    return Bug(f"variants-{name}", within, old, new, why, "variants", **more)


def _gpu(name: str, within: str, old: str, new: str, why: str) -> Bug:
    return Bug(f"variants-gpu-{name}", within, old, new, why, "variants-gpu", "mla_decode")


BUGS = [
    # Tables.
    _bug("table-high", WORK, "request), 0, most) : most;", "request), 0, INT32_MAX) : most;", "past a row"),
    _bug("table-low", WORK, "ac_clamp64(ac_list_entry(kv->lengths, request), 0,",
         "ac_clamp64(ac_list_entry(kv->lengths, request), INT32_MIN,", "lengths below 0",
         harmless="a run that ends before its begin is empty as well"),
    _bug("table-stride", OP, "args->block_tables->stride[0];", "args->block_tables->shape[1];", "rows are dense"),
    # Rows of requests.
    _bug("uniform", WORK, ": request * uniform;", ": request;", "every request has one row"),
    _bug("uniform-divides", OP, "if (T % rows)", "if (0)", "a request may be short of rows",
         harmless="mla_gluon, which alone has no indptr, takes the number from q's shape"),
    # Views.
    _bug("join", VARIANT, "if (outer > 1 && inner > 1 && view->stride[0] != view->stride[1] * inner)", "if (0)",
         "rows of o at several distances"),
    _bug("join-one", VARIANT, "if (inner > 1) view->stride[0]", "if (1) view->stride[0]", "the stride of one row"),
    _bug("rope-address", VARIANT,
         "return (intptr_t)part->data + offset * bytes == (intptr_t)view->data + columns * bytes;", "return true;",
         "a rope part anywhere"),
    _bug("rope-offset", VARIANT, "(intptr_t)part->data + offset * bytes", "(intptr_t)part->data", "no offset"),
    _bug("rope-shape", VARIANT, "if (part->shape[i] != view->shape[i]) return false;", "", "of fewer rows"),
    # Segments.
    _bug("granule", PLAN, "plan->split_granule = plan->request.page_size;", "", "segments are not cut at pages"),
    _bug("power", PLAN, "count < MAX_SEGMENTS) count *= 2;", "count < MAX_SEGMENTS) count++;", "not a power of two"),
    _bug("base-e", OP, "p->lse_unit = base_2 ? 1 :", "p->lse_unit = 0 ? 1 :", "maxima in base e"),
    _bug("empty", OP, "p->lse_empty = base_2 ? -FLT_MAX :", "p->lse_empty = 0 ? -FLT_MAX :", "-inf"),
    _bug("sums", OP, "ac_floats(args->expsum), one,", "ac_floats(args->expsum), lowest,", "sums are not 1"),
    _bug("segment-cpu", CPU, "p->o + segment * segment_bytes + row", "p->o + row", "all segments in one place"),
    _bug("segment-lse-cpu", CPU, "p->segments + segment : NULL", "p->segments : NULL", "all maxima in one place"),
    _gpu("segment", STORE, "segment_at = segment * (AC_MLA_DV * 4);", "segment_at = 0;", "all in one place"),
    _gpu("unit", STORE, "mla_lse(softmax, p.lse_unit, p.lse_empty);",
         "mla_lse(softmax, (float)AC_LN_2, p.lse_empty);", "maxima in base e"),
    # Stage 2 without an indptr.
    _bug("merge-uniform", "csrc/ops/mla_merge/group.h", ": number * p->max_seqlen_q;", ": number;", "one row each"),
    _bug("merge-rows", STAGE2, 'if (!args->qo_indptr) ac_size_bind(&sizes, "T",', 'if (0) ac_size_bind(&sizes, "T",',
         "o of any number of rows", harmless="stage 1 has checked o; the kernel clamps rows to it"),
]  # fmt: skip
