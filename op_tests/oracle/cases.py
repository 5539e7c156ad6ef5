"""The calls that every kernel is driven with."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from oracle.kernels import KERNELS, Kernel
from oracle.launch import Lists, Written, run

import aiter_c
from aiter_c.testing import Block, Device, MlaCase, MlaInputs
from aiter_c.testing.memory import packed

#: What a plan is asked for: as many pieces as AITER cuts, as many as we choose, borders by a list's own length.
PLANS = {"aiter": {}, "automatic": {"max_split_per_batch": None}, "deterministic": {"deterministic": True}}

#: KV lengths of the requests, workers, plan: some tiles split and some not, one request over many workers, none split.
BATCHES = (((300, 40, 97, 264), 5, "aiter"), ((700, 30), 20, "aiter"), ((5, 33, 128, 16), 1, "aiter"))
RAGGED = (300, 40, 97, 264), 5, "automatic"
LONG = (1100, 20), 4, "deterministic"
SPARSE_WORKERS = 6
PAGE_SIZES = (2, 16, 32)


@dataclass(frozen=True)
class Sparse:
    """Every query row has a list of its own, min(topk, keys of its request) entries from row * topk on."""

    topk: int = 96
    rows: int = 2  # of every request
    kv_lens: tuple[int, ...] = (500, 40, 97)

    @property
    def lists(self) -> tuple[int, ...]:
        """The entries of every row's list."""
        return tuple(min(self.topk, length) for length in self.kv_lens for _ in range(self.rows))

    @property
    def indptrs(self) -> list[np.ndarray]:
        """Of the requests: query rows, keys."""
        counts = ((self.rows,) * len(self.kv_lens), self.kv_lens)
        return [np.concatenate([[0], np.cumsum(count)]).astype(np.int32) for count in counts]


@dataclass(frozen=True)
class OracleCase:
    """A kernel of AITER, a decode call, how many workers share it, and how: one of PLANS.

    sparse: what the lists are planned for; then the requests of `call` are its rows, with their lists.
    """

    kernel: Kernel
    call: MlaCase
    workers: int
    plan: str = "aiter"
    sparse: Sparse | None = None

    @property
    def arch(self) -> str:
        return self.kernel.arch

    @property
    def id(self) -> str:
        said = [word for word in self.call.words if word[0] in "qkp" or word == "rising"]
        plan = [f"topk{self.sparse.topk}"] if self.sparse else [self.plan] if self.plan != "aiter" else []
        return "-".join((self.kernel.id, *said, f"w{self.workers}", *plan))

    @property
    def repro(self) -> str:
        return f"{self.kernel.name} with {self.call!r} on {self.workers} workers"

    def inputs(self) -> MlaInputs:
        """The kernels read slots that no row sees (and multiply them by 0): those are 0 instead of NaN."""
        inputs = self.call.inputs()
        pool = inputs.array("kv_buffer")
        pool[np.isnan(pool.astype(np.float32))] = 0
        if self.call.page_size == 1:
            inputs.array("kv_last_page_lens")[...] = 1
        return inputs

    def lists(self, inputs: MlaInputs, device: Device) -> Lists:
        """By our metadata op on that device, in buffers full of something else."""
        call, sparse = self.call, self.sparse
        indptrs, q_len = [inputs.array(name) for name in ("qo_indptr", "kv_indptr")], call.served_q_len
        of_lists = {"max_seqlen_qo": q_len}
        if sparse:
            indptrs, q_len = sparse.indptrs, sparse.rows
            of_lists = {"max_seqlen_qo": 1, "uni_seqlen_qo": 1, "topk": sparse.topk}
        plan = {"max_split_per_batch": self.workers} | PLANS[self.plan]
        out = self._buffers(len(indptrs[0]) - 1, q_len, plan)
        device.call(
            "get_mla_metadata_v1",
            *indptrs,
            inputs.array("kv_last_page_lens"),
            call.heads,
            1,
            call.causal,
            **out,
            page_size=call.page_size,
            **of_lists,
            dtype_q=call.q_dtype,
            dtype_kv=call.kv_dtype,
            **plan,
        )
        del out["work_metadata_ptrs"]
        return Lists(**out)

    def _buffers(self, batch: int, q_len: int, plan: dict[str, object]) -> dict[str, np.ndarray]:
        """As large as get_mla_metadata_info_v1 says."""
        call, names = self.call, ("work_metadata_ptrs", "work_indptr", "work_info_set")
        names += ("reduce_indptr", "reduce_final_map", "reduce_partial_map")
        what = (batch, q_len, call.heads, call.q_dtype, call.kv_dtype, self.sparse is not None)
        info = aiter_c.get_mla_metadata_info_v1(*what, num_workers=self.workers, **plan)
        sizes = dict(zip(names, (size for size, _ in info), strict=True))
        out = {name: np.full(size, -7, np.int32) for name, size in sizes.items()}
        return out | {"work_metadata_ptrs": np.zeros(2, np.uint64)}

    def place_of(self, inputs: MlaInputs, item: list[int]) -> tuple[int, int]:
        """The request of `inputs` that an item is of, and where its list begins among the page indices."""
        if self.sparse:
            return item[2], item[2] * self.sparse.topk
        return item[0], int(inputs.array("kv_indptr")[item[0]])

    def placed(self, inputs: MlaInputs) -> MlaInputs:
        """With the page indices where the lists look for them."""
        if self.sparse is None:
            return inputs
        return replace(inputs, blocks=inputs.blocks | {"kv_indices": table_of(inputs, self.sparse.topk)})

    def run(self, inputs: MlaInputs, lists: Lists) -> Written:
        """One launch; kv_scale is put into the output where the kernel has left it out (it is a power of two)."""
        if self.kernel.counts_tokens:
            lists = replace(lists, work_info_set=in_tokens(inputs, lists.items))
        written = run(self.arch, self.kernel.code, self.placed(inputs), lists, self.kernel.later)
        if self.kernel.scales_values or self.call.kv_scale is None:
            return written
        scaled = {name: getattr(written, name) for name in ("o", "partials")}
        for rows in scaled.values():
            rows *= rows.dtype.type(self.call.kv_scale)
        return replace(written, **scaled)


def in_tokens(inputs: MlaInputs, items: np.ndarray) -> np.ndarray:
    """Items that count tokens, as if every page but the last of a list were full."""
    page, out = inputs.case.page_size, items.copy()
    indptr, lengths = inputs.array("kv_indptr"), np.array(inputs.case.kv_lens)
    ends = indptr[items[:, 0]] * page + lengths[items[:, 0]]
    out[:, 4] *= page
    out[:, 5] = np.minimum(items[:, 5] * page, ends) if page > 1 else items[:, 5]
    return out


def table_of(inputs: MlaInputs, topk: int) -> Block:
    """The lists one after the other, `topk` entries apart; between them the last page."""
    out = np.full((inputs.case.batch, topk), len(inputs.pool) - 1, np.int32)
    for row, kv in zip(out, inputs.kv_lists, strict=True):
        row[: len(kv.slots)] = kv.slots
    return packed(out.reshape(-1))


def call_of(kernel: Kernel, q_lens: tuple[int, ...], kv_lens: tuple[int, ...], **more: object) -> MlaCase:
    q_dtype, kv_dtype = kernel.dtypes
    scales = {"q_scale": 0.5, "kv_scale": 0.25}
    return MlaCase(
        heads=kernel.heads, q_lens=q_lens, kv_lens=kv_lens, q_dtype=q_dtype, kv_dtype=kv_dtype, **scales, **more
    )


def _of(kernel: Kernel) -> list[OracleCase]:
    out = [
        OracleCase(kernel, call_of(kernel, (q_len,) * len(kv_lens), kv_lens), workers, plan)
        for kv_lens, workers, plan in BATCHES
        for q_len in kernel.q_lens
    ]
    longest = max(kernel.q_lens)
    if not kernel.whole_tiles:
        ragged = tuple(max(1, longest - i) for i in range(4))
        out.append(OracleCase(kernel, call_of(kernel, ragged, RAGGED[0], trend=6.0), *RAGGED[1:]))
    if kernel.heads == 16:
        out.append(OracleCase(kernel, call_of(kernel, (longest,) * 2, LONG[0]), *LONG[1:]))
    if min(kernel.q_lens) == 1:
        sparse = Sparse()
        call = call_of(kernel, (1,) * len(sparse.lists), sparse.lists)
        out.append(OracleCase(kernel, call, SPARSE_WORKERS, sparse=sparse))
    if kernel.counts_tokens:
        lens = (1100, 40, 113)
        out += [OracleCase(kernel, call_of(kernel, (longest,) * 3, lens, page_size=size), 5) for size in PAGE_SIZES]
    return out


CASES = {kernel: _of(kernel) for kernel in KERNELS}
ALL = [case for cases in CASES.values() for case in cases]

#: KV lengths with which a kernel takes every way through its loop: whole and broken tiles, an even and an odd number.
EVERY_WAY = (4, 16, 20, 32, 36, 48, 64, 65, 96, 97, 128, 129, 160, 170)


def every_way(kernel: Kernel) -> OracleCase:
    """All hazards of a kernel in one call; `split_every_second` makes its lists."""
    q_len = max(kernel.q_lens) if kernel.heads < 128 else 1
    return OracleCase(kernel, call_of(kernel, (q_len,) * len(EVERY_WAY), EVERY_WAY), len(EVERY_WAY))


def split_every_second(inputs: MlaInputs) -> Lists:
    """A worker per item: a request is one item, or two. Nothing to reduce it with."""
    items, partial, starts = [], 0, inputs.array("kv_indptr").tolist()
    for request, rows in enumerate(inputs.q_rows):
        begin, end = starts[request : request + 2]
        cut = begin + (end - begin) // 32 * 16
        if request % 2 and cut > begin:
            for low, high in ((begin, cut), (cut, end)):
                items.append((request, partial, rows.start, rows.stop, low, high, end - high, 0))
                partial += len(rows)
        else:
            items.append((request, -1, rows.start, rows.stop, begin, end, 0, 0))
    array = lambda values, *shape: np.array(values, np.int32).reshape(-1, *shape)  # noqa: E731
    return Lists(array(range(len(items) + 1)), array(items, 8), array([0]), array([], 2), array([]))
