"""What engines hold (a pool of latent rows, lists of slots, buffers for work lists), and by fp64 what a step gives."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from aiter_c import compat
from aiter_c.testing import LSE, OUTPUT, OUTPUT_FP8_P, Tolerance, attend, check_close

SCALE = 1 / 16
FP8 = (torch.float8_e4m3fn, torch.float8_e4m3fnuz)
PLAN = ("work_meta_data", "work_indptr", "work_info_set", "reduce_indptr", "reduce_final_map", "reduce_partial_map")


def generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def values(*shape: int, dtype: torch.dtype = torch.bfloat16, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=generator(seed)).to(dtype)


def i32(*numbers: int) -> torch.Tensor:
    return torch.tensor(numbers, dtype=torch.int32)


def indptr(lens: Sequence[int], *, size: int | None = None) -> torch.Tensor:
    """Cumulative lengths, with a flat tail up to `size` entries."""
    ends = [0, *np.cumsum(lens).tolist()]
    return i32(*ends, *[ends[-1]] * ((size or len(ends)) - len(ends)))


class Pool:
    """Rows of a cache, and lists of them for requests of these lengths. A row that no list has is NaN where the dtype
    has one, slot 0 included: masked positions must not read it."""

    def __init__(self, kv_lens: Sequence[int], dtype: torch.dtype = torch.bfloat16, *, spare: int = 8) -> None:
        total = sum(kv_lens)
        self.rows = values(total + spare, 576, dtype=dtype, seed=total)
        order = torch.randperm(total + spare - 1, generator=generator(total))[:total] + 1
        self.lists = [part.tolist() for part in torch.split(order, list(kv_lens))]
        self.indptr, self.indices = indptr(kv_lens), order.to(torch.int32)
        used = torch.zeros(total + spare, dtype=torch.bool)
        used[order] = True
        self.exact = self.rows.double().numpy().copy()
        self.rows.view(torch.uint8)[~used] = 0x80 if dtype is torch.float8_e4m3fnuz else 0xFF

    @property
    def kv(self) -> torch.Tensor:
        """As engines pass it: a view of pages of one row."""
        return self.rows.view(-1, 1, 1, 576)

    def visible(self, q_lens: Sequence[int], *, causal: bool = True) -> list[list[int]]:
        """The slots that each query row sees."""
        out = []
        for slots, rows in zip(self.lists, q_lens, strict=True):
            out += [slots[: max(len(slots) - rows + i + 1, 0)] if causal else slots for i in range(rows)]
        return out


def check(
    q: torch.Tensor, exact: np.ndarray, visible: Sequence[Sequence[int]], o: torch.Tensor,
    lse: torch.Tensor | None = None, *, q_scale: float = 1.0, kv_scale: float = 1.0, both_fp8: bool = False,
    sm_scale: float = SCALE, tolerance: Tolerance | None = None,
) -> None:  # fmt: skip
    """Every element of o [T, H, 512] and of the LSE [T, H], for the rows that `visible` has."""
    q_exact = q.double().numpy()
    for row, slots in enumerate(visible):
        p_dtype = "float8_e4m3fn" if both_fp8 else "bfloat16"
        want = attend(q_exact[row], exact[list(slots)], sm_scale * q_scale * kv_scale, kv_scale, p_dtype=p_dtype)
        got = o[row].double().numpy()
        usual = OUTPUT_FP8_P if both_fp8 else OUTPUT
        check_close(f"o[{row}]", got, want.o, tolerance or usual, "", allowance=want.rounding)
        if lse is not None:
            check_close(f"lse[{row}]", lse[row].numpy(), want.lse, LSE, "", allowance=want.lse_rounding)


def buffers(info: Sequence[tuple]) -> dict[str, torch.Tensor]:
    """Six tensors of what the sizing returned, full of garbage, as torch.empty may be."""
    made = [torch.empty(size, dtype=dtype) for size, dtype in info]
    for tensor in made:
        tensor.view(torch.uint8).fill_(0x5A)
    return dict(zip(PLAN, made, strict=True))


def poisoned(*shape: int, dtype: torch.dtype = torch.bfloat16) -> torch.Tensor:
    return torch.full(shape, float("nan")).to(dtype)


def names() -> object:
    """AITER's names, from this package."""
    import aiter_c.compat.aiter as aiter

    assert compat.names.served("aiter.mla")["mla_decode_fwd"] is aiter.mla.mla_decode_fwd
    return aiter
