"""What else can do MLA decode on this GPU: FlashMLA, FlashAttention-3, AITER. Each is timed where it is installed.

A peer is a function of a bench_ops.mla_decode.Problem that returns its call (in a list, and it returns o), or None for
what it does not serve. Schedules are made here, outside of what is timed.
"""

from __future__ import annotations

import importlib.util
import lzma
import os
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aiter_c._modules import is_installed
from aiter_c.cli.backend import Call

if TYPE_CHECKING:
    from aiter_c.cli.bench_ops.mla_decode import Problem

Peer = Callable[["Problem"], "list[Call] | None"]


def find(torch: Any) -> dict[str, Peer]:
    """name -> peer, of those that are importable."""
    out = {}
    for name, make in (("FlashMLA", _flash_mla), ("FA3", _flash_attention_3), ("AITER", _aiter)):
        try:
            peer = make(torch)
        except Exception as error:  # a peer that does not load is no reason not to time the rest
            print(f"{name}: {type(error).__name__}: {str(error)[:200]}", file=sys.stderr)
            continue
        if peer is not None:
            out[name] = peer
    return out


def _flash_mla(torch: Any) -> Peer | None:
    """The dense decode of the wheel sgl-flash-mla, or of one that is called flash_mla."""
    if not is_installed("flash_mla"):
        return None
    from flash_mla import flash_mla_interface as interface

    legacy = {"use_legacy": True} if is_installed("flash_mla._loader") else {}

    def peer(problem: Problem) -> Call | None:
        case = problem.case
        fp8 = case.q_is_fp8 and case.kv_is_fp8
        if case.kv_format != "plain" or case.q_is_fp8 != case.kv_is_fp8:
            return None
        q_len, heads = case.q_lens[0], case.heads
        q = problem.q.view(case.batch, q_len, heads, 576)
        schedule, scales = interface.FlashMLASchedMeta(), {}
        if fp8:
            one = torch.ones(1, device="cuda")
            scales = {"descale_q": one, "descale_k": one}
            schedule.tile_scheduler_metadata, schedule.num_splits = interface.get_mla_decoding_metadata(
                problem.lengths, heads * q_len, 1, heads, True, None, **legacy
            )
        positional = (q, problem.pools[0], problem.table, problem.lengths, 512, schedule)
        options = {"causal": q_len > 1, "is_fp8_kvcache": fp8} | legacy | scales
        return lambda: interface.flash_mla_with_kvcache(*positional, **options)[0]

    return _or_none(peer)


def _flash_attention_3(torch: Any) -> Peer | None:
    """The build in vLLM, or the library that FA3_SO names (as it is or .xz)."""
    library = _fa3_library()
    if library is None:
        return None
    torch.ops.load_library(library)
    operators = torch.ops._vllm_fa3_C

    def peer(problem: Problem) -> Call | None:
        case = problem.case
        if case.kv_format != "plain" or case.q_dtype != "bfloat16" or case.kv_dtype != "bfloat16":
            return None
        batch, q_len, length, heads = case.batch, case.q_lens[0], max(case.kv_lens), case.heads
        q, kv, o = problem.q, problem.pools[0], torch.empty_like(problem.o)
        none = [None] * 4
        schedule = operators.get_scheduler_metadata(
            batch, q_len, length, heads, 1, 64, 512, torch.bfloat16, problem.lengths, problem.qo_indptr, *none, 64, 0,
            True, -1, -1, False, 0, None, 0,
        )  # fmt: skip

        def call() -> Any:
            operators.fwd(
                q[..., 512:], kv[..., 512:], kv[..., :512], None, None, q[..., :512], o, problem.qo_indptr, None, None,
                None, problem.lengths, q_len, length, problem.table, *none, None, None, None, None, 576**-0.5, True, -1,
                -1, 0.0, True, schedule, 0, None, 0, None, 1, 0, None,
            )  # fmt: skip
            return o

        return call

    return _or_none(peer)


def _aiter(torch: Any) -> Peer | None:
    """AITER's decode from the grid, for what every version of it has a kernel for: what it lacks ends the process."""
    if not is_installed("aiter") or not is_installed("aiter.mla"):
        return None
    from aiter.mla import mla_decode_fwd

    def peer(problem: Problem) -> Call | None:
        case, o = problem.case, torch.empty_like(problem.o)
        same = case.kv_format == "plain" and case.q_dtype == case.kv_dtype and case.q_dtype != "float16"
        if not same or case.heads not in (16, 128) or case.q_lens[0] != 1:
            return None
        one = torch.ones(1, dtype=torch.float32, device=problem.q.device)
        scales = {"q_scale": one, "kv_scale": one} if case.q_is_fp8 else {}
        lists = (problem.qo_indptr, problem.kv_indptr, problem.kv_indices, problem.last_page)

        def call() -> Any:
            mla_decode_fwd(problem.q, problem.pools[0], o, *lists, case.q_lens[0], sm_scale=576**-0.5, **scales)
            return o

        return call

    return _or_none(peer)


def _or_none(peer: Callable[[Problem], Call | None]) -> Peer:
    """A shape that the peer refuses is left out, and said."""

    def guarded(problem: Problem) -> list[Call] | None:
        try:
            call = peer(problem)
            if call is None:
                return None
            call()
        except Exception as error:
            print(f"{problem.case.id}: {type(error).__name__}: {str(error)[:160]}", file=sys.stderr)
            return None
        return [call]

    return guarded


def _fa3_library() -> str | None:
    path = os.environ.get("FA3_SO")
    if path is None:
        spec = importlib.util.find_spec("vllm") if is_installed("vllm") else None
        folders = spec.submodule_search_locations if spec else None
        found = [p for folder in folders or [] for p in Path(folder).glob("vllm_flash_attn/_vllm_fa3_C*.so")]
        return str(found[0]) if found else None
    if not path.endswith(".xz"):
        return path
    unpacked = Path(tempfile.gettempdir()) / Path(path).stem
    if not unpacked.exists():
        unpacked.write_bytes(lzma.decompress(Path(path).read_bytes()))
    return str(unpacked)
