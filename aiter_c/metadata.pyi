from typing import Any

def get_meta_param(
    num_kv_splits: int | None,
    bs: int,
    total_kv: int,
    nhead: int,
    max_seqlen_q: int,
    dtype: Any,
    tg_factor: int = 1,
    ignore_total_kv: int | bool = 0,
    *,
    cu_num: int | None = None,
    device: Any = None,
) -> tuple[int, Any]: ...
