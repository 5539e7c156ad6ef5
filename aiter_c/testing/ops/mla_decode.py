"""One MLA decode call as a value, and what it must give."""

from __future__ import annotations

import itertools
import zlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from aiter_c import _C, MlaPlan, mla_plan

from ..case import Case, short_id
from ..compare import Expected
from ..device import CPU, Device
from ..tolerance import LSE, OUTPUT, OUTPUT_FP8_P
from .attention import Reference, Shard

if TYPE_CHECKING:
    from ..run import Outcome
    from .mla_decode_inputs import MlaInputs

DTYPES_16 = ("bfloat16", "float16")
DTYPES_FP8 = ("float8_e4m3fn", "float8_e4m3fnuz")
Q_DTYPES = (*DTYPES_16, "float32", *DTYPES_FP8)
KV_DTYPES = (*DTYPES_16, *DTYPES_FP8)
O_DTYPES = DTYPES_16
RECORD_FORMATS = ("3buffer", "fp8_ds_mla")  # 656-byte records: fp8 latent, 4 fp32 scales, bf16 rope

#: Which entries of a request's index list are replaced by one that lies outside the pool.
MASK_PATTERNS = ("none", "minus_one", "capacity", "extremes", "sparse", "head", "tail", "all")


@dataclass(frozen=True, repr=False)
class MlaCase(Case):
    """Symbols: B = len(q_lens) requests, T = sum(q_lens) + unowned rows, H = heads, D = 512 + rope.

    Everything that the call gets follows from these fields, the seed included. Defaults are the plainest call.
    """

    op: ClassVar[str] = "mla_decode_fwd"
    small: ClassVar = (
        *({"heads": 2, "q_lens": (2, 1), "kv_lens": (9, 5), "splits": splits} for splits in (1, 3)),
        {"heads": 2, "q_lens": (2, 1), "kv_lens": (180, 5), "workers": 3, "granule": 1, "ranks": (2, 1, 1)},
    )

    heads: int = 16
    q_lens: tuple[int, ...] = (1,)
    kv_lens: tuple[int, ...] = (64,)  # in tokens
    page_size: int = 1
    q_dtype: str = "bfloat16"
    kv_dtype: str = "bfloat16"  # of a plain cache; the records are e4m3fn inside
    o_dtype: str = "bfloat16"
    kv_format: str = "plain"
    rope: int = 64
    splits: int | tuple[int, ...] | None = 1  # None and -1: automatic; a tuple: per request, ragged
    causal: bool = True
    return_lse: bool = True
    q_scale: float | None = None
    kv_scale: float | None = None
    scales_as: str = "float"  # "float", "scalar" (0-d array), "one" ([1] array)
    sm_scale: float | None = None
    score_std: float = 1.0  # standard deviation of the scaled scores
    trend: float = 0.0  # how far the scaled scores rise from a list's first key to its last: the maximum moves
    max_seqlen_q: int | None = None  # None: max(q_lens); less: later rows are not served
    q_strided: bool = False  # rows of 576 inside 768, with a gap between tokens
    o_strided: bool = False
    kv_strided: bool = False  # pages of other layers lie between the pages
    as_bytes: bool = False  # fp8 q and cache come as uint8 with q_dtype= and kv_dtype=
    extra_indices: int = 0  # stale entries after the last list
    indptr_offset: int = 0  # kv_indptr[0]
    stale_tails: bool = False  # kv_indptr and kv_last_page_lens are longer than the batch
    unowned_rows: tuple[int, int] = (0, 0)  # query rows before and after those of the requests
    masked: str = "none"  # one of MASK_PATTERNS
    deterministic: bool = False
    workers: int = 0  # of the lists that the work items come from; 0: no lists
    split_cap: int = 64  # of the lists: max_split_per_batch
    granule: int = 16  # of the lists: kv_granularity
    ranks: tuple[int, int, int] = (1, 0, 1)  # context parallelism: ranks, this one, interleave; kv_lens are of all
    seed: int = 0

    def __post_init__(self) -> None:
        """Refuses a case that means nothing, so that a typing error in a list cannot pass as a test."""
        records = self.kv_format in RECORD_FORMATS
        meaningful = (
            len(self.q_lens) == len(self.kv_lens)
            and self.q_dtype in Q_DTYPES
            and self.kv_dtype in KV_DTYPES
            and self.o_dtype in O_DTYPES
            and (self.kv_format == "plain" or (records and self.kv_dtype == "float8_e4m3fn" and self.rope == 64))
            and self.rope in (0, 64)
            and self.masked in MASK_PATTERNS
            and self.heads >= 1
            and self.page_size >= 1
            and not (isinstance(self.splits, tuple) and len(self.splits) != len(self.q_lens))
            and self.scales_as in ("float", "scalar", "one")
            and not (self.workers and isinstance(self.splits, tuple))
            and 0 <= self.ranks[1] < self.ranks[0]
        )
        if not meaningful:
            raise ValueError(f"a case that means nothing: {self!r}")

    @property
    def batch(self) -> int:
        """B."""
        return len(self.q_lens)

    @property
    def num_rows(self) -> int:
        """T, rows that no request owns included."""
        return sum(self.q_lens) + sum(self.unowned_rows)

    @property
    def head_dim(self) -> int:
        """D."""
        return 512 + self.rope

    @property
    def served_q_len(self) -> int:
        """The max_seqlen_q argument."""
        return self.max_seqlen_q if self.max_seqlen_q is not None else max((1, *self.q_lens))

    @property
    def shard(self) -> Shard | None:
        """None: no context parallelism."""
        return None if self.ranks == (1, 0, 1) else Shard(*self.ranks)

    @property
    def held_lens(self) -> tuple[int, ...]:
        """Keys of the requests in this rank's cache."""
        return tuple(len(self.shard.places(n)) for n in self.kv_lens) if self.shard else self.kv_lens

    @property
    def softmax_scale(self) -> float:
        """sm_scale, resolved: None is 1/sqrt(D)."""
        return self.sm_scale if self.sm_scale is not None else self.head_dim**-0.5

    @property
    def q_is_fp8(self) -> bool:
        """Whether q_scale counts."""
        return self.q_dtype in DTYPES_FP8

    @property
    def kv_is_fp8(self) -> bool:
        """Whether kv_scale counts: a plain fp8 cache. The records carry their own scales."""
        return self.kv_format == "plain" and self.kv_dtype in DTYPES_FP8

    @property
    def words(self) -> list[str]:
        """Sizes, dtypes and what is not as usual."""
        words = [f"h{self.heads}", f"q{_runs(self.q_lens)}", f"kv{_runs(self.kv_lens)}"]
        if self.page_size != 1:
            words.append(f"ps{self.page_size}")
        kv = self.kv_format if self.kv_format != "plain" else _SHORT[self.kv_dtype]
        words.append(f"{_SHORT[self.q_dtype]}_{kv}_{_SHORT[self.o_dtype]}")
        if self.rope == 0:
            words.append("norope")
        splits = _runs(self.splits) if isinstance(self.splits, tuple) else self.splits
        words.append("sauto" if splits in (None, -1) else f"s{splits}")
        if self.workers:
            words[-1] = f"w{self.workers}"
        if self.shard:
            words.append(f"r{'.'.join(map(str, self.ranks))}")
        if not self.causal:
            words.append("full")
        if self.masked != "none":
            words.append(self.masked)
        if self.trend:
            words.append("rising" if self.trend > 0 else "falling")
        return words + [word for name, word in _FLAGS.items() if getattr(self, name)]

    @property
    def id(self) -> str:
        """The words, and a digest where they do not tell everything."""
        told = MlaCase(**{name: value for name, value in self._changed().items() if name in _TOLD})
        text = "-".join(self.words)
        return short_id(text if told == self else f"{text}-{zlib.crc32(repr(self).encode()):08x}", repr(self))

    def inputs(self) -> MlaInputs:
        """See mla_decode_inputs."""
        from .mla_decode_inputs import build_inputs

        return build_inputs(self)

    def outputs(self, inputs: MlaInputs, returned: tuple) -> dict[str, np.ndarray | None]:
        """o and the LSE."""
        return {"o": inputs.array("o"), "lse": returned[1]}

    def expected(self, inputs: MlaInputs, device: Device) -> dict[str, Expected]:
        """By the fp64 reference, with the tolerance of the kernel that serves the case there."""
        p_dtype = p_dtype_of(self, device)
        return expected_outputs(self, inputs.reference(p_dtype=p_dtype), p_dtype)

    def check(self, outcome: Outcome) -> None:
        """logits is `o` itself after the early return, else float32 [T, S, H, 512]; S as asked for."""
        logits, o = outcome.returned[0], outcome.outputs["o"]
        if self.workers:
            shape = (len(outcome.inputs.array("reduce_partial_map")) * self.served_q_len, 1, self.heads, 512)
            if logits.dtype != np.float32 or logits.shape != shape:
                raise AssertionError(f"logits: expected float32 {shape}, got {logits.shape}\n  {self.repro}")
            return
        asked = max((1, *self.splits)) if isinstance(self.splits, tuple) else self.splits
        if logits is o:
            if asked not in (None, -1, 0, 1):
                raise AssertionError(f"logits: expected partials of {asked} splits, got o\n  {self.repro}")
            return
        count = logits.shape[1] if asked in (None, -1) else asked
        shape = (self.num_rows, max(count, 2), self.heads, 512)
        if logits.dtype != np.float32 or logits.shape != shape:
            raise AssertionError(f"logits: expected float32 {shape}, got {logits.dtype} {logits.shape}\n  {self.repro}")


_SHORT = {
    "bfloat16": "bf16",
    "float16": "f16",
    "float32": "f32",
    "float8_e4m3fn": "fn",
    "float8_e4m3fnuz": "fnuz",
}
_FLAGS = {
    "q_strided": "qgap",
    "o_strided": "ogap",
    "kv_strided": "kvgap",
    "as_bytes": "bytes",
    "stale_tails": "stale",
    "deterministic": "det",
}
#: The fields that `words` tells in full, where the lists are short.
_TOLD = {
    *("heads", "q_lens", "kv_lens", "page_size", "q_dtype", "kv_dtype", "o_dtype", "kv_format", "rope", "splits"),
    *("causal", "masked", "workers", "ranks"),
    *_FLAGS,
}


def _runs(values: tuple[int, ...]) -> str:
    """(1, 1, 1, 7) -> "1x3.7"."""
    runs = [(value, len(list(group))) for value, group in itertools.groupby(values)]
    return ".".join(f"{value}x{count}" if count > 1 else str(value) for value, count in runs)


def plan_of(case: MlaCase, device: Device = CPU) -> MlaPlan:
    """The plan of the case's call with one split."""
    kv_dtype = case.kv_dtype if case.kv_format == "plain" else case.kv_format
    shape = (case.batch, case.heads, case.served_q_len, case.page_size)
    options = {"num_kv_splits": 1, "qk_rope_head_dim": case.rope, "device": device.place}
    options |= {"deterministic": case.deterministic, "num_workers": case.workers or None}
    return mla_plan(*shape, case.q_dtype, kv_dtype, **options)


def p_dtype_of(case: MlaCase, device: Device = CPU) -> str:
    """The type of p in the stage 1 kernel that serves the case there, from the kernel table."""
    plan = plan_of(case, device)
    found = [
        row["p_dtype"]
        for row in _C.kernel_table()
        if row["name"] == plan.stage1 and (device.place == "cpu" or row["arch"] == plan.arch)
    ]
    if len(found) != 1:
        raise AssertionError(f"{plan.stage1} on {plan.arch}: {len(found)} rows of the kernel table")
    return found[0]


def expected_outputs(case: MlaCase, reference: Reference, p_dtype: str) -> dict[str, Expected]:
    """o of the rows that a request owns, exactly 0 where a row sees no key; the LSE of every row, when asked for."""
    tolerance = OUTPUT_FP8_P if p_dtype in DTYPES_FP8 else OUTPUT
    allowance = reference.rounding if p_dtype != "float32" else 0.0
    empty = np.isneginf(reference.lse)
    out = {"o": Expected(reference.o, tolerance, written=reference.written, exact=empty, allowance=allowance)}
    if case.return_lse:
        out["lse"] = Expected(reference.lse, LSE, allowance=reference.lse_rounding, dtype="float32")
    return out
