"""One MLA decode call as a value: what a test or a bench runs, and what a failure prints to be run again."""

from __future__ import annotations

import ast
from dataclasses import dataclass, fields

DTYPES_16 = ("bfloat16", "float16")
DTYPES_FP8 = ("float8_e4m3fn", "float8_e4m3fnuz")
Q_DTYPES = (*DTYPES_16, "float32", *DTYPES_FP8)
KV_DTYPES = (*DTYPES_16, *DTYPES_FP8)
O_DTYPES = DTYPES_16
RECORD_FORMATS = ("3buffer", "fp8_ds_mla")  # 656-byte records: fp8 latent, 4 fp32 scales, bf16 rope

#: Which entries of a request's index list are replaced by one that lies outside the pool.
MASK_PATTERNS = ("none", "minus_one", "capacity", "extremes", "sparse", "head", "tail", "all")

_SHORT = {
    "bfloat16": "bf16",
    "float16": "f16",
    "float32": "f32",
    "float8_e4m3fn": "fn",
    "float8_e4m3fnuz": "fnuz",
}


@dataclass(frozen=True)
class MlaCase:
    """Symbols: B = len(q_lens) requests, T = sum(q_lens) + unowned rows, H = heads, D = 512 + rope.

    Everything that the call gets follows from these fields, the seed included. Defaults are the plainest call.
    """

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
    max_seqlen_q: int | None = None  # None: max(q_lens); less: later rows are not served
    q_strided: bool = False  # rows of 576 inside 768, with a gap between tokens
    o_strided: bool = False
    kv_strided: bool = False  # pages of other layers lie between the pages
    as_bytes: bool = False  # fp8 q and cache come as uint8 with q_dtype= and kv_dtype=
    extra_indices: int = 0  # stale entries behind the last list
    indptr_offset: int = 0  # kv_indptr[0]
    stale_tails: bool = False  # kv_indptr and kv_last_page_lens are longer than the batch
    unowned_rows: tuple[int, int] = (0, 0)  # query rows before and after those of the requests
    masked: str = "none"  # one of MASK_PATTERNS
    deterministic: bool = False
    seed: int = 0

    def __post_init__(self) -> None:
        """Refuses a case that means nothing, so that a typing error in a list cannot pass as a test."""
        assert len(self.q_lens) == len(self.kv_lens), "q_lens and kv_lens name the same requests"
        assert self.q_dtype in Q_DTYPES and self.kv_dtype in KV_DTYPES and self.o_dtype in O_DTYPES
        assert self.kv_format == "plain" or self.kv_format in RECORD_FORMATS
        assert self.kv_format == "plain" or (self.kv_dtype == "float8_e4m3fn" and self.rope == 64)
        assert self.rope in (0, 64) and self.masked in MASK_PATTERNS and self.heads >= 1 and self.page_size >= 1
        assert not isinstance(self.splits, tuple) or len(self.splits) == len(self.q_lens)
        assert self.scales_as in ("float", "scalar", "one")

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
    def softmax_scale(self) -> float:
        """sm_scale, resolved: SPEC 2.2, 1/sqrt(D)."""
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
    def id(self) -> str:
        """Short and readable; unique within a list only together with the seed at its end."""
        ragged = ",".join
        words = [
            f"h{self.heads}",
            f"q{ragged(map(str, _runs(self.q_lens)))}",
            f"kv{ragged(map(str, _runs(self.kv_lens)))}",
            f"ps{self.page_size}",
            f"{_SHORT[self.q_dtype]}*{_SHORT[self.kv_dtype]}>{_SHORT[self.o_dtype]}",
        ]
        if self.kv_format != "plain":
            words.append(self.kv_format)
        if self.rope == 0:
            words.append("norope")
        splits = ragged(map(str, _runs(self.splits))) if isinstance(self.splits, tuple) else self.splits
        words.append("sauto" if splits is None else f"s{splits}")
        words.append("causal" if self.causal else "full")
        words += [name for name in _FLAGS if getattr(self, name)]
        words += [f"{name}={getattr(self, name)}" for name in _VALUES if getattr(self, name) != _DEFAULTS[name]]
        return "-".join(words).replace(" ", "")

    def __repr__(self) -> str:
        """A constructor call with the fields that differ from the defaults; `parse_case` reads it back."""
        changed = [
            f"{f.name}={getattr(self, f.name)!r}" for f in fields(self) if getattr(self, f.name) != _DEFAULTS[f.name]
        ]
        return f"MlaCase({', '.join(changed)})"

    @property
    def repro(self) -> str:
        """One line for a shell."""
        return f'python -m aiter_c.testing "{self!r}"'


_DEFAULTS = {f.name: f.default for f in fields(MlaCase)}
_FLAGS = ("q_strided", "o_strided", "kv_strided", "as_bytes", "stale_tails", "deterministic")
_VALUES = (
    "return_lse",
    "q_scale",
    "kv_scale",
    "scales_as",
    "sm_scale",
    "score_std",
    "max_seqlen_q",
    "extra_indices",
    "indptr_offset",
    "unowned_rows",
    "masked",
    "seed",
)


def _runs(values: tuple[int, ...]) -> list[str]:
    """(1, 1, 1, 7) -> ["1x3", "7"]."""
    out: list[list[int]] = []
    for value in values:
        if out and out[-1][0] == value:
            out[-1][1] += 1
        else:
            out.append([value, 1])
    return [str(value) if count == 1 else f"{value}x{count}" for value, count in out]


def parse_case(text: str) -> MlaCase:
    """The inverse of repr(case). Literals only: nothing is evaluated."""
    call = ast.parse(text.strip(), mode="eval").body
    if not isinstance(call, ast.Call) or getattr(call.func, "id", "") != "MlaCase" or call.args:
        raise ValueError(f"expected MlaCase(field=value, ...), got {text!r}")
    return MlaCase(**{word.arg: ast.literal_eval(word.value) for word in call.keywords if word.arg})
