"""Wrong merges that the tests of mla_reduce_v1 must tell from the right one; see op_tests/mutants."""

from __future__ import annotations

from bugs import Bug

TESTS = {
    "reduce": "op_tests/mla_reduce --device cpu",
    "reduce-gpu": "op_tests/mla_reduce --device gfx950 -m device",
}
OP, GROUP = "csrc/ops/mla_reduce/op.c", "csrc/ops/mla_merge/group.h"
CPU, GPU = "csrc/ops/mla_merge/cpu/*.inc", "csrc/ops/mla_merge/gfx9.h csrc/ops/mla_merge/store.h"


def _host(name: str, within: str, old: str, new: str, why: str, **more: str) -> Bug:
    return Bug(f"reduce-{name}", within, old, new, why, "reduce", **more)


def _gpu(name: str, old: str, new: str, why: str, within: str = GPU) -> Bug:
    return Bug(f"reduce-gpu-{name}", within, old, new, why, "reduce-gpu", "mla_merge")


BUGS = [
    # The host.
    _host(
        "dtype",
        OP,
        "p->o_dtype = (int32_t)args->final_output->dtype;",
        "p->o_dtype = AC_BFLOAT16;",
        "an output is taken for another",
    ),
    _host("stride", OP, "ac_stride_bytes(args->final_output, 1)", '2 * ac_size(&args->sizes, "Dv")', "dense heads"),
    _host("lse-off", OP, "p->lse = ac_floats(args->final_lse);", "p->lse = NULL;", "the LSE is not written"),
    _host(
        "slots",
        OP,
        "ac_max64(ac_min64(wanted, held), 1)",
        "ac_min64(wanted, held)",
        "no slot where N is 0",
        harmless="a launch without final rows has no work items anyway",
    ),
    _host(
        "own-memory",
        OP,
        "if (ac_check_own_memory(op_name, args, rules, AC_COUNT(rules), error) < 0) return -1;",
        "",
        "an output may lie in an input",
    ),
    _host(
        "rank",
        "csrc/core/rules.c",
        "    sizes->count = count;\n",
        "",
        "a shape that does not fit leaves its symbols bound, and the next one is compared with them",
    ),
    _host("splits", OP, "splits >= -1 &&", "splits >= -2 &&", "-2 splits are taken"),
    _host(
        "heads",
        OP,
        '"partial_output.shape[-2]", ac_size(sizes, "H"), 1,',
        '"partial_output.shape[-2]", ac_size(sizes, "H"), 0,',
        "no heads at all are taken",
    ),
    # Which partials, which rows.
    _host(
        "bounds",
        GROUP,
        "group.num_parts = ac_clamp64(p->reduce_indptr[number + 1], begin, p->num_entries) - begin;",
        "group.num_parts = ac_clamp64(p->reduce_indptr[number + 1], begin, p->num_entries) - begin + 1;",
        "a group takes the first partial of the next",
    ),
    _host(
        "unclamped-end",
        GROUP,
        "ac_clamp64(p->reduce_indptr[number + 1], begin, p->num_entries)",
        "ac_max64(p->reduce_indptr[number + 1], begin)",
        "entries past the end of the map are read",
    ),
    _host(
        "unclamped-begin",
        GROUP,
        "ac_clamp64(p->reduce_indptr[number], 0, p->num_entries)",
        "ac_min64(p->reduce_indptr[number], p->num_entries)",
        "entries before the map are read",
    ),
    _host("empty-group", GROUP, "if (group.num_parts == 0) return group;", "", "rows of an empty group are written"),
    _host(
        "final-map",
        GROUP,
        "from = p->final_map[2 * number];",
        "from = p->final_map[number];",
        "the map is read densely",
    ),
    _host(
        "final-end",
        GROUP,
        "to = p->final_map[2 * number + 1];",
        "to = p->final_map[2 * number + 1] + 1;",
        "a row too many",
    ),
    _host(
        "final-clamp",
        GROUP,
        "ac_clamp64(to, group->first_row, num_rows) - group->first_row;",
        "ac_max64(to, group->first_row) - group->first_row;",
        "rows past the output are written",
    ),
    _host(
        "no-map", GROUP, "from = number * rows;", "from = number * p->max_seqlen_q;", "groups are max_seqlen_q apart"
    ),
    _host(
        "no-map-one",
        GROUP,
        "group.num_parts > 1 ? (int64_t)group.locations[1] - group.locations[0] : p->max_seqlen_q",
        "(int64_t)group.locations[1] - group.locations[0]",
        "a lone partial has a second one",
    ),
    _host(
        "token",
        CPU,
        "group->locations ? row : (group->first_row",
        "group->locations ? 0 : (group->first_row",
        "every row of a group is made of the first row's partials",
    ),
    _host(
        "minus-one",
        GROUP,
        "location >= 0 && location + row",
        "location + row >= 0 && location + row",
        "-1 names a partial of the second row",
    ),
    _host(
        "beyond",
        GROUP,
        "location + row < num_partials",
        "location + 0 * row < num_partials",
        "partials past the end are read",
    ),
    # The arithmetic on the CPU.
    _host("sum", CPU, "sum += weight;", "sum += 1;", "the sum is not rescaled"),
    _host("weight", CPU, "expf(lse - pair.top)", "expf(lse - 0 * pair.top)", "weights leave fp32"),
    _host(
        "top",
        CPU,
        "if (lse > pair.top) pair.top = lse;",
        "if (part == 0) pair.top = lse;",
        "the first LSE for the largest",
    ),
    _host("nothing", CPU, "if (lse == -INFINITY) continue;", "", "a partial that holds nothing is read"),
    _host("lse", CPU, "(float)(pair.top + log(sum))", "(float)pair.top", "the LSE is the largest of the parts"),
    _host(
        "tail",
        CPU,
        "if (i == width) return;\n    float tail",
        "return;\n    float tail",
        "the last columns are not summed",
    ),
    _host(
        "tail-store",
        CPU,
        "memcpy(o + i * bytes, tail, (size_t)((width - i) * bytes));",
        "memcpy(o + i * bytes, tail, (size_t)(AC_LANES * bytes));",
        "stores go past the row",
    ),
    _host(
        "tail-load",
        CPU,
        "memcpy(tail, from + i, (size_t)(width - i) * sizeof *tail);",
        "memcpy(tail, from + i, sizeof tail);",
        "loads go past the row",
    ),
    _host(
        "block",
        CPU,
        "at * pair.partial_step + column",
        "at * pair.partial_step + 0 * column",
        "columns from 512 on repeat the first",
    ),
    _host(
        "row-slots",
        CPU,
        "row += p->row_slots",
        "row += 1",
        "rows are merged several times",
        harmless="to the same bits",
    ),
    _host(
        "last-rows",
        CPU,
        "for (int64_t row = slot; row < group.num_rows;",
        "for (int64_t row = slot; row < p->row_slots;",
        "rows past max_seqlen_q are left out",
    ),
    # AMD.
    _gpu("sum", "-1 : gpu_exp2((lse - top) * (float)AC_LOG2_E);", "-1 : 1;", "parts weigh alike"),
    _gpu("sum-lanes", "over_lanes(sum, [](float x, float y) { return x + y; });", "sum;", "a lane's parts alone"),
    _gpu("sum-nothing", "staged()[i] < 0 ? 0 : staged()[i];", "staged()[i];", "a part that holds nothing counts as -1"),
    _gpu("top-lanes", "top = over_lanes(top, larger);", "", "each lane its own largest LSE"),
    _gpu("weigh-again", "if (weighs) weigh(count);", "weigh(count);", "weights of weights, from column 512 on"),
    _gpu("weigh-barrier", "gpu_barrier(); /* all have seen the LSEs */", "", "weights in the place of LSEs"),
    _gpu(
        "chunk",
        "is_staged ? num_parts() : stage(first)",
        "num_parts() <= MERGE_THREADS ? num_parts() : stage(first)",
        "the last chunk for all",
    ),
    _gpu(
        "team",
        "staged() { return STAGED + team() * TEAM; }",
        "staged() { return STAGED; }",
        "all heads by the LSEs of the last",
    ),
    _gpu(
        "locations",
        "int32_t *locations() { return LOCATIONS + team() * TEAM; }",
        "int32_t *locations() { return LOCATIONS; }",
        "the map is where another team left it",
    ),
    _gpu(
        "odd",
        "if (half() == 0)\n            for (int c = 0; c < 4; c++) acc[c] += odd_sums()[c * MERGE_HALF];",
        "",
        "the odd parts are lost",
    ),
    _gpu(
        "nothing",
        "else if (holds) load(",
        "else load(",
        "a partial that holds nothing is read",
    ),
    _gpu("tail-load", "if (!LISTS || from + 4 <= width()) {", "if (true) {", "loads go past the row"),
    _gpu("tail-store", "if (at >= width) break;", "", "stores go past the row"),
    _gpu(
        "block",
        "merge_store<LISTS>(out, block + column(), width(), acc);",
        "merge_store<LISTS>(out, column(), width(), acc);",
        "columns from 512 on are stored over the first",
    ),
    _gpu("block-barrier", "if (block > 0) gpu_barrier();", "", "odd sums are replaced while others read them"),
    _gpu("lse", "if (block + column() == 0) mla_store_lse(out);", "", "the LSE is not written"),
    _gpu("head", "tile * team_t::TEAMS + team_t::team()", "tile + team_t::team()", "teams take the heads of others"),
    _gpu(
        "zero", "for (float &x : quads[k]) x = -0.0f;", "for (float &x : quads[k]) x = 0;", "a lone -0.0 loses its sign"
    ),
    _gpu("rows", "team.row += p.row_slots", "team.row += 1 << 30", "rows past max_seqlen_q are left out"),
]
