"""The bench of prefill (mla_prefill_ps_fwd): new tokens over their own keys, causal, with the LSE; then by work lists,
and lengths that differ. The last query row of every head is checked against fp64. FLOP count what a row sees. Peers:
torch's scaled_dot_product_attention, on a GPU with cuDNN's forward where it takes the shape."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

import aiter_c
from aiter_c.cli.backend import Cpu, Gpu, random_values, torch_or_none
from aiter_c.testing import Device
from aiter_c.testing.ops.mla_prefill import LISTS, PrefillCase, kernel_of

COLUMNS = {
    "rows": "6d", "keys": "6d", "heads": "5d", "dims": "7s", "dtype": "13s", "work": "5s", "causal": "6s",
}  # fmt: skip


@dataclass(frozen=True)
class Shape:
    """A case, and whether its tiles come from lists."""

    case: PrefillCase
    lists: bool = False


def _shape(rows: int, heads: int, *, lists: bool = False, **more: Any) -> Shape:
    fields = {"q_lens": (rows,), "kv_lens": (rows,), "order": "none"} | more
    return Shape(PrefillCase(heads=heads, **fields), lists)


_CPU = [_shape(4096, 4), _shape(4096, 4, dims="256/256"), _shape(4096, 4, dtype="float16")]
_CPU += [_shape(1024, 16), _shape(4096, 4, lists=True), _shape(4096, 4, dtype="float8_e4m3fn")]
_GPU = [_shape(8192, 16), _shape(8192, 128), _shape(8192, 16, dims="256/256")]
_GPU += [_shape(8192, 16, dtype="float8_e4m3fn"), _shape(8192, 16, lists=True)]
_MORE = [
    _shape(1024, 128),
    _shape(2048, 16, kv_lens=(16384,)),
    _shape(8192, 16, causal=False),
    _shape(8192, 16, dtype="float16"),
    _shape(8192, 128, lists=True),
    _shape(0, 16, q_lens=(7000, 300, 60, 1000), kv_lens=(7000, 9000, 60, 1000)),
    _shape(0, 16, q_lens=(7000, 300, 60, 1000), kv_lens=(7000, 9000, 60, 1000), lists=True),
]


def cases(kind: str, quick: bool) -> list[Shape]:
    """Few of them, or all."""
    if kind == "cpu":
        return _CPU[:3] if quick else _CPU
    return _GPU if quick else _GPU + _MORE


def growth(kind: str) -> list[Shape]:
    """A long prompt fills the device by itself."""
    return []


class Problem:
    """q [T, H, D], k [N, H, D], v [N, H, Dv], qo_indptr, kv_indptr, o: on the backend. The peers use them, too."""

    tolerance = 0.03

    def __init__(self, shape: Shape, backend: Cpu | Gpu) -> None:
        case = self.case = shape.case
        self.backend, rows, keys = backend, sum(case.q_lens), sum(case.kv_lens)
        rng = np.random.default_rng(rows + case.heads)
        fp8 = case.dtype.startswith("float8")
        item = 1 if fp8 else 2
        self.fp8_product = fp8
        seen = sum(
            min(max(n - q + i + 1, 0), n) if case.causal else n
            for q, n in zip(case.q_lens, case.kv_lens, strict=True)
            for i in range(q)
        )
        width = case.head_dim + case.value_dim
        self.flop = 2 * seen * case.heads * width
        self.num_bytes = case.heads * ((rows * case.head_dim + keys * width) * item + rows * (case.value_dim * 2 + 4))
        q, k = (random_values(rng, (n, case.heads, case.head_dim), case.dtype) for n in (rows, keys))
        v = random_values(rng, (keys, case.heads, case.value_dim), case.dtype)
        self._host = (q[-1].astype(np.float64), k[-case.kv_lens[-1] :], v[-case.kv_lens[-1] :])
        self.q, self.k, self.v = backend.put(q), backend.put(k), backend.put(v)
        o = np.zeros((rows, case.heads, case.value_dim), random_values(rng, (1,), "bfloat16").dtype)
        self.o = backend.put(o)
        indptrs = [np.cumsum([0, *lens]).astype(np.int32) for lens in (case.q_lens, case.kv_lens)]
        self.qo_indptr, self.kv_indptr = map(backend.put, indptrs)
        lists = self._lists() if shape.lists else dict.fromkeys(LISTS)
        indices = backend.put(np.arange(keys, dtype=np.int32)) if shape.lists else None
        self.calls = [self._call(indices, lists)]
        served = PrefillCase(**case._changed() | ({"workers": 1} if shape.lists else {}))
        kernel = kernel_of(served, Device(place=backend.place))
        self.kernel = str(kernel["name"]) if kernel else "none"
        self.facts = {
            "rows": rows, "keys": keys, "heads": case.heads, "dims": case.dims, "dtype": case.dtype,
            "work": "lists" if shape.lists else "grid", "causal": str(case.causal),
        }  # fmt: skip

    def _lists(self) -> dict[str, Any]:
        """Planned where the tensors are, final after stage 1 where a tile is in one piece."""
        case, backend = self.case, self.backend
        info = aiter_c.get_ps_metadata_info_v1(
            len(case.q_lens), case.heads, max(case.q_lens), device=backend.device if backend.kind == "gpu" else "cpu"
        )
        lists = {name: backend.put(np.zeros(size, np.int32)) for name, (size, _) in zip(LISTS, info[1:], strict=True)}
        lens = backend.put(np.array(case.kv_lens, np.int32))
        aiter_c.get_ps_metadata_v1(
            self.qo_indptr, self.kv_indptr, lens, 1, case.heads, None, *lists.values(), 1, 256, 128, 1, case.causal,
            False,
        )  # fmt: skip
        return lists

    def _call(self, indices: Any, lists: dict[str, Any]) -> Callable[[], Any]:
        case = self.case

        def call() -> Any:
            aiter_c.mla_prefill_ps_fwd(
                self.q, self.k, self.v, self.o, self.qo_indptr, self.kv_indptr, indices,
                max_seqlen_q=max(case.q_lens), is_causal=case.causal, return_lse=True, **lists,
            )  # fmt: skip
            return self.o

        return call

    def error(self, output: Any) -> float:
        """Of the last query row of all heads, which sees all keys of its request."""
        q, k, v = self._host
        worst, row = 0.0, self.backend.get(output[-1:])[0]
        for head in range(self.case.heads):
            scores = k[:, head].astype(np.float64) @ q[head] * self.case.sm_scale
            weights = np.exp(scores - scores.max())
            expected = weights @ v[:, head].astype(np.float64) / weights.sum()
            worst = max(worst, float(np.abs(row[head] - expected).max()))
        return worst


def peers(backend: Cpu | Gpu) -> dict[str, Callable[[Problem], Any]]:
    """torch's attention, and on a GPU the same by cuDNN."""
    torch = torch_or_none()
    if torch is None:
        return {}
    if backend.kind == "cpu":
        torch.set_num_threads(aiter_c.get_num_threads())
        return {"torch sdpa": _sdpa(torch, None)}
    kinds = torch.nn.attention.SDPBackend
    return {"torch sdpa": _sdpa(torch, kinds.FLASH_ATTENTION), "cuDNN": _sdpa(torch, kinds.CUDNN_ATTENTION)}


def _sdpa(torch: Any, kind: Any) -> Callable[[Problem], Any]:
    """One request of bf16 or fp16, with as many rows as keys where it is causal; by one of torch's backends."""

    def calls(problem: Problem) -> list[Callable[[], Any]] | None:
        case = problem.case
        if problem.fp8_product or len(case.q_lens) > 1 or (case.causal and case.q_lens != case.kv_lens):
            return None
        as_heads = lambda tensor: _as_torch(torch, tensor).transpose(0, 1)[None]  # noqa: E731
        q, k, v = (as_heads(tensor) for tensor in (problem.q, problem.k, problem.v))
        attention = torch.nn.functional.scaled_dot_product_attention

        def call() -> Any:
            return attention(q, k, v, is_causal=case.causal)[0].transpose(0, 1)

        def chosen() -> Any:
            with torch.nn.attention.sdpa_kernel(kind):
                return call()

        one = call if kind is None else chosen
        try:
            one()
        except Exception as error:  # a backend that refuses a shape is no reason not to time the rest
            print(f"{problem.facts}: {kind}: {type(error).__name__}: {str(error)[:120]}", file=sys.stderr)
            return None
        return [one]

    return calls


def _as_torch(torch: Any, tensor: Any) -> Any:
    if isinstance(tensor, torch.Tensor):
        return tensor
    bits = torch.from_numpy(tensor.view(f"i{tensor.itemsize}"))
    return bits.view(getattr(torch, tensor.dtype.name))
