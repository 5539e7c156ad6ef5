from typing import Any

# A tensor is anything that speaks DLPack, or a NumPy array.
_Tensor = Any

__all__ = ["top_k_per_row_decode", "top_k_per_row_prefill"]

def top_k_per_row_prefill(
    logits: _Tensor,
    rowStarts: _Tensor,
    rowEnds: _Tensor,
    indices: _Tensor,
    values: _Tensor | None,
    numRows: int,
    stride0: int,
    stride1: int,
    k: int = 2048,
    stable: bool = False,
    *,
    stream: int | None = None,
) -> None: ...
def top_k_per_row_decode(
    logits: _Tensor,
    next_n: int,
    seqLens: _Tensor,
    indices: _Tensor,
    numRows: int,
    stride0: int,
    stride1: int,
    k: int = 2048,
    stable: bool = False,
    *,
    stream: int | None = None,
) -> None: ...
