"""Wrong merges between ranks that the tests of CpMerge must tell from the right one; see op_tests/mutants."""

from __future__ import annotations

from bugs import Bug

TESTS = {
    "ranks": "op_tests/cp_merge/test_one_process.py --device cpu",
    "cp-arguments": "op_tests/cp_merge/test_arguments.py --device cpu",
    "gloo": "op_tests/cp_merge/test_processes.py --device cpu",
}
_HERE = "aiter_c/distributed.py"

#: name, right, wrong, why, which tests
_BUGS = [
    # Messages.
    ("divide", ".transpose(0, 1)\n\n\nclass _Packed", "\n\n\nclass _Packed", "heads are not divided among the ranks"),
    ("own", "self.own = slice(rank * self.kept, (rank + 1) * self.kept)", "self.own = slice(0, self.kept)",
     "every rank scales and labels its sums by the first heads"),
    ("aligned", "rows * self.kept * self.dim * self.dtype.itemsize, 16)",
     "rows * self.kept * self.dim * self.dtype.itemsize, 1)", "an LSE that begins inside of a word"),
    ("room", "_round_up(rows * self.kept * 4, 16)", "rows * self.kept * 4 - 4", "a message lies in the next one"),
    ("max-rows", "_, message = self._sizes(max_rows)", "_, message = self._sizes(max(1, max_rows - 1))",
     "buffers for a row too few"),
    ("lse-sent", "        sent_lse.copy_(self._divided(lse))\n", "", "the LSE of an earlier call"),
    ("kind", 'yield "all_to_all" if self.parts > 1 else "all_gather"', 'yield "all_to_all"', "all heads by all-to-all"),
    # Sums.
    ("clean", ".nan_to_num_(0.0, 0.0, 0.0)", "", "one NaN in a row spoils the grid of all"),
    ("nothing", "own_lse, out=weight), 0.0, out=nothing)", "own_lse, out=weight), torch.inf, out=nothing)",
     "rows of garbage are called nothing, and good ones as well"),
    ("mask", ".masked_fill_(self._divided(nothing).unsqueeze(-1), 0.0)", "", "garbage of a rank that has nothing"),
    ("round", ".round_()", "", "sums depend on the order of the ranks"),
    ("grid-coarse", "mul_(2.0**-23)", "mul_(2.0**-17)", "terms are rounded too much"),
    ("grid-fine", "mul_(2.0**-23)", "mul_(2.0**-25)", "sums are not exact"),
    ("grid-zero", "grid.clamp_(min=2.0**-100)", "grid", "a row of zeros divides by 0"),
    ("weight", "self._is_own[self.rank] = 1", "self._is_own[0] = 1", "all ranks weigh by the first one's share"),
    ("scaled", "grid[:, self.own].unsqueeze(-1), out=out)", "grid[:, : self.kept].unsqueeze(-1), out=out)",
     "the first heads' grid for all"),
    ("lse-own", "lse_out.copy_(merged[:, self.own])", "lse_out.copy_(merged[:, : self.kept])", "the first heads' LSE"),
    ("most", "merge_states(most.unsqueeze(-1), lses, grid.unsqueeze(-1), merged)",
     "merge_states(most[[self.rank] * self.world_size].unsqueeze(-1), lses, grid.unsqueeze(-1), merged)",
     "each rank has a grid of its own"),
    # Arguments.
    ("rows", "if len(o) > self._max_rows:", "if len(o) > self._max_rows + 1:", "a row too many", "cp-arguments"),
    ("dense", "if out.stride(-1) != 1 and exchange.dim > 1:", "if False:", "values apart are refused too late",
     "cp-arguments"),
    ("apart", "if any(size > 1 and stride == 0", "if any(size > 9 and stride == 0", "outputs that overlap",
     "cp-arguments"),
    ("grad", "if given.requires_grad:", "if False:", "an output that requires grad", "cp-arguments"),
    ("no-grad", "    @torch.no_grad()\n", "", "a graph of autograd is made", "cp-arguments"),
    ("world-size", "if numbers[name] not in (-1, value):", "if False:", "another number of ranks than the group's",
     "cp-arguments"),
    ("refused", "        if not self._compare:\n", '        self._failed = "?"\n        if not self._compare:\n',
     "a refusal before anything was sent is final", "cp-arguments"),
    # Between processes.
    ("multiple", 'if told["keep"] == "own" and numbers["heads"] % world_size:', "if False:", "heads that do not divide",
     "gloo"),
    ("agree", "if len(set(values)) > 1:", "if len(set(values)) > 2:", "ranks that differ are not told", "gloo"),
    ("agree-wrong", "            if wrong:\n", "            if wrong > 1:\n", "the others go on", "gloo"),
    ("agree-first", "        if codes is None:\n            return\n", "", "who is wrong does not learn why", "gloo"),
    ("early", "            self._agree(names, None)\n", "", "the others wait for a wrong rank", "gloo"),
    ("early-call", '                self._agree(["o.shape[0]"], None)\n', "", "... in a call", "gloo"),
    ("failed", 'self._failed = f"{type(error).__name__}: {error}"[:200]', 'self._failed = ""',
     "after a failure calls are served", "gloo"),
    ("compare", 'device.type == "cpu" if compare', "False if compare", "rows are not compared", "gloo"),
    ("note", "error.add_note(", "str(", "an error that does not say whose call it was", "gloo"),
    ("fallback", "sent.view(self._world_size, -1)[self._rank]", "sent.view(self._world_size, -1)[0]",
     "without reduce-scatter all ranks get the first one's heads", "gloo"),
    ("scatters", "        except (RuntimeError, NotImplementedError):\n            return False\n",
     "        except NotImplementedError:\n            return False\n", "an old gloo is an error", "gloo"),
    ("group", "dist.all_to_all_single(received, sent, group=self._group)", "dist.all_to_all_single(received, sent)",
     "the default group", "gloo"),
    ("sum-group", "dist.all_reduce(sent, group=self._group)", "dist.all_reduce(sent)", "the default group", "gloo"),
]  # fmt: skip

BUGS = [
    Bug(f"cp-{name}", _HERE, right, wrong, why, rest[0] if rest else "ranks")
    for name, right, wrong, why, *rest in _BUGS
]
