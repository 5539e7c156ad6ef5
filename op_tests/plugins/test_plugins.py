"""The plugins without their engines: entry points, what is registered where, what stands in the files that are named,
and the calls that all backends share. With the engines: scripts/test_vllm, scripts/test_sglang."""

from __future__ import annotations

import ast
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from enum import Enum
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

import aiter_c
import aiter_c.plugins.sglang
import aiter_c.plugins.vllm

ROOT = Path(__file__).resolve().parents[2]
PLUGINS = Path(aiter_c.plugins.__path__[0])


def _entry_points() -> dict[str, str]:
    pyproject = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    return {group: names["aiter_c"] for group, names in pyproject["entry-points"].items()}


def test_entry_points_name_functions() -> None:
    """One of this package's name in every group that an engine looks into."""
    found = _entry_points()
    assert set(found) == {"vllm.general_plugins", "vllm.platform_plugins", "sglang.srt.plugins"}
    for value in found.values():
        module, _, name = value.partition(":")
        assert callable(getattr(sys.modules[module], name))


def test_nothing_is_imported() -> None:
    """Neither an engine nor torch, until an engine calls."""
    code = (
        "import sys, aiter_c.plugins.vllm, aiter_c.plugins.sglang\n"
        "print(*{name.partition('.')[0] for name in sys.modules} & {'torch', 'vllm', 'sglang', 'numpy'})"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []


@pytest.mark.parametrize(
    ("function", "text"),
    [
        (aiter_c.plugins.vllm.register, r"plugins\.vllm: vLLM is not installed: pip install 'aiter_c\[vllm\]'"),
        (aiter_c.plugins.vllm.platform, r"aiter_c\.plugins\.vllm: vLLM is not installed"),
        (aiter_c.plugins.sglang.register, r"plugins\.sglang: SGLang is not installed: pip install 'aiter_c\[sg"),
    ],
)
def test_without_the_engine(monkeypatch: pytest.MonkeyPatch, function: object, text: str) -> None:
    """It says what to install, also where an empty folder of that name is in the path."""
    for name in ("vllm", "sglang"):
        monkeypatch.setitem(sys.modules, name, ModuleType(name))  # a stub without a spec
    with pytest.raises(ModuleNotFoundError, match=text):
        function()  # type: ignore[operator]


class _Backend(Enum):
    CUSTOM = None
    ROCM_AITER_MLA = "a"
    ROCM_AITER_MLA_SPARSE = "b"
    CPU_MLA = "c"
    FLASHMLA = "d"


class _Prefill(Enum):
    CUSTOM = None


@pytest.fixture
def registered(monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """What is registered with a vLLM of names alone, one that is too old to know AMX_MLA, on a machine with a GPU."""
    paths: dict[str, str] = {}
    registry, prefill, platforms = (ModuleType(name) for name in ("registry", "prefill", "platforms"))
    registry.AttentionBackendEnum, prefill.MLAPrefillBackendEnum = _Backend, _Prefill  # type: ignore[attr-defined]
    registry.register_backend = lambda member, path: paths.update({member.name: path})  # type: ignore[attr-defined]
    prefill.register_mla_prefill_backend = (  # type: ignore[attr-defined]
        lambda member, path: paths.update({f"prefill {member.name}": path})
    )
    platforms.cpu_platform_plugin = lambda: None  # type: ignore[attr-defined]
    for name, module in (
        ("vllm.v1.attention.backends.registry", registry),
        ("vllm.v1.attention.backends.mla.prefill.registry", prefill),
        ("vllm.platforms", platforms),
    ):
        monkeypatch.setitem(sys.modules, name, module)
    monkeypatch.setattr(aiter_c.plugins.vllm, "is_installed", lambda name: True)
    return paths


CUSTOM = {"CUSTOM", "prefill CUSTOM"}
REPLACED = {"ROCM_AITER_MLA", "ROCM_AITER_MLA_SPARSE", "CPU_MLA"}


@pytest.mark.parametrize(("mode", "names"), [("0", set()), ("custom", CUSTOM), ("1", CUSTOM | REPLACED)])
def test_what_vllm_is_given(
    monkeypatch: pytest.MonkeyPatch, registered: dict[str, str], mode: str, names: set[str]
) -> None:
    """Members of its registries, as often as it asks; every path leads to a class, or to custom.py, which chooses."""
    monkeypatch.setenv("AITER_C_VLLM", mode)
    aiter_c.plugins.vllm.register()
    aiter_c.plugins.vllm.register()
    assert set(registered) == names
    assert aiter_c.plugins.vllm.platform() is None
    for path in registered.values():
        module, _, name = path.rpartition(".")
        tree = ast.parse((PLUGINS.parents[1] / (module.replace(".", "/") + ".py")).read_text())
        classes = {node.name for node in tree.body if isinstance(node, ast.ClassDef)}
        assert name in classes or path == "aiter_c.plugins.vllm.custom.Backend"


def test_an_unknown_mode(monkeypatch: pytest.MonkeyPatch, registered: dict[str, str]) -> None:
    """As with every switch of this package: ignored, with a warning."""
    monkeypatch.setenv("AITER_C_VLLM", "on")
    with pytest.warns(RuntimeWarning, match=r"AITER_C_VLLM: expected 0, 1, custom or all, got 'on'; it is ignored"):
        aiter_c.plugins.vllm.register()
    assert set(registered) == CUSTOM | REPLACED


# The calls that the backends share, over torch tensors.


@pytest.fixture
def torch() -> ModuleType:
    import torch

    return torch


@pytest.fixture
def threads() -> Iterator[None]:
    """So many that one row's keys are worth cutting up, on any machine."""
    aiter_c.set_num_threads(8)
    yield
    aiter_c.set_num_threads(0)


def _expected(q: np.ndarray, keys: np.ndarray, scale: float, seen: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """o [n, H, 512] and LSE [n, H] in fp64: row i sees seen[i] of the keys."""
    scores = np.einsum("nhd,kd->nhk", q, keys) * scale
    scores[:, :, :] = np.where(np.arange(len(keys))[None, None] < seen[:, None, None], scores, -np.inf)
    with np.errstate(divide="ignore", invalid="ignore"):
        top = np.where(np.isfinite(top := scores.max(-1, initial=-np.inf)), top, 0.0)
        weights = np.exp(scores - top[..., None])
        total = weights.sum(-1)
        o = np.einsum("nhk,kd->nhd", weights, keys[:, :512]) / np.where(total, total, 1)[..., None]
        return o, np.log(total) + top


@pytest.mark.torch
@pytest.mark.parametrize("causal", [True, False])
@pytest.mark.parametrize("cache_dtype", ["bfloat16", "float8_e4m3fn"])
def test_decode_over_a_block_table(torch: ModuleType, cache_dtype: str, causal: bool) -> None:
    """Ragged query rows, a request without keys, blocks of another layer between the blocks, everything else NaN."""
    from aiter_c.plugins.attend import decode, joined

    torch.manual_seed(0)
    rows, lens, block, heads = (2, 1, 3, 1), (37, 16, 5, 0), 16, 6
    pool = torch.full((12, 2, block, 576), float("nan")).to(getattr(torch, cache_dtype))
    cache = pool[:, 1]
    table = torch.full((len(rows), 4), 2**30, dtype=torch.int32)
    blocks = torch.randperm(12).tolist()
    keys = []
    for request, length in enumerate(lens):
        own = torch.randn(length, 576).to(cache.dtype)
        keys.append(own.double().numpy() * (0.5 if "float8" in cache_dtype else 1.0))
        for first in range(0, length, block):
            table[request, first // block] = page = blocks.pop()
            part = own[first : first + block]
            cache[page, : len(part)] = part
    q = (torch.randn(sum(rows), heads, 512).bfloat16(), torch.randn(sum(rows), heads, 64).bfloat16())
    indptr = torch.tensor([0, *np.cumsum(rows)], dtype=torch.int32)
    o, lse = decode(
        joined(q), cache, torch.bfloat16, indptr, table, torch.tensor(lens, dtype=torch.int32), max(rows), 512,
        scale=0.07, q_scale=None, kv_scale=torch.tensor(0.5), causal=causal, lse=True,
    )  # fmt: skip
    whole, first = torch.cat(q, -1).double().numpy(), 0
    for request, count in enumerate(rows):
        seen = lens[request] - count + 1 + np.arange(count) if causal else np.full(count, lens[request])
        wanted, wanted_lse = _expected(whole[first : first + count], keys[request], 0.07, seen)
        np.testing.assert_allclose(o[first : first + count].double().numpy(), wanted, atol=0.03, rtol=0.02)
        np.testing.assert_allclose(lse[first : first + count].numpy(), wanted_lse, atol=0.02)
        first += count


@pytest.mark.torch
@pytest.mark.parametrize("with_sink", [False, True])
def test_decode_over_slots(torch: ModuleType, with_sink: bool) -> None:
    """What the sparse backend does: positions of the indexer, -1 among them, to slots, and attention over those; a sink
    is in the denominator of o, and not in the LSE."""
    from aiter_c.plugins.attend import decode

    torch.manual_seed(1)
    heads, block, width = 4, 8, 12
    cache = torch.randn(6, block, 576).bfloat16()
    table = torch.tensor([[4, 1, 0], [2, 5, 3]], dtype=torch.int32)
    of = torch.tensor([0, 0, 1, -1], dtype=torch.int32)  # the last one is padding
    positions = torch.randint(0, 24, (4, width), dtype=torch.int32)
    positions[1, 3:] = -1
    positions[2] = -1
    slots = aiter_c.convert_req_index_to_global_index(of, table, positions, BLOCK_SIZE=block, NUM_TOPK_TOKENS=width)
    q, sink = torch.randn(4, heads, 576).bfloat16(), torch.randn(heads)
    o, lse = decode(
        q, cache, q.dtype, None, slots, None, 1, width, scale=0.05, q_scale=None, kv_scale=None, slots=True,
        lse=not with_sink, sink=sink if with_sink else None,
    )  # fmt: skip
    for row, request in enumerate(of.tolist()):
        chosen = positions[row][positions[row] >= 0].long() if request >= 0 else torch.zeros(0, dtype=torch.long)
        keys = cache[table[request][chosen // block].long(), chosen % block].double().numpy()
        wanted, wanted_lse = _expected(q[row : row + 1].double().numpy(), keys, 0.05, np.array([len(keys)]))
        if with_sink:
            wanted *= 1 / (1 + np.exp(sink.double().numpy() - wanted_lse))[..., None]
        np.testing.assert_allclose(o[row].double().numpy(), wanted[0], atol=0.03, rtol=0.02)
        np.testing.assert_allclose(lse.reshape(4, heads)[row].numpy(), wanted_lse[0], atol=0.02)


@pytest.mark.torch
def test_a_sink_where_runs_are_merged(torch: ModuleType, threads: None) -> None:
    """One row whose list is cut into runs: the merge ends the row."""
    from aiter_c.plugins.attend import decode

    torch.manual_seed(3)
    q, cache, sink = torch.randn(1, 2, 576).bfloat16(), torch.randn(2000, 1, 576).bfloat16(), torch.randn(2) + 7
    slots = torch.randperm(2000, dtype=torch.int32)[None]
    (o, lse), (without, _) = (
        decode(
            q, cache, q.dtype, None, slots, None, 1, 2000, scale=0.05, q_scale=None, kv_scale=None, slots=True,
            lse=True, sink=one,
        )
        for one in (sink, None)
    )  # fmt: skip
    wanted, wanted_lse = _expected(q.double().numpy(), cache[:, 0].double().numpy(), 0.05, np.array([2000]))
    share = 1 / (1 + np.exp(sink.double().numpy() - wanted_lse))
    assert (share < 0.95).all()
    np.testing.assert_allclose(o.double().numpy(), wanted * share[..., None], atol=0.003, rtol=0.02)
    np.testing.assert_allclose(without.double().numpy(), wanted, atol=0.003, rtol=0.02)
    np.testing.assert_allclose(lse.reshape(1, 2).numpy(), wanted_lse, atol=0.02)


@pytest.mark.torch
@pytest.mark.parametrize("rows", [1, 3])
@pytest.mark.parametrize("length", [41, 3000])
def test_decode_of_one_rank(torch: ModuleType, rows: int, length: int) -> None:
    """Verification where two ranks share the keys, four at a time: a row sees those before it in the whole request,
    which may be none of this rank's."""
    from aiter_c.plugins.attend import Shard, decode

    torch.manual_seed(2)
    heads, block, interleave, totals = 4, 16, 4, (length, rows)
    for rank in (0, 1):
        places = [[p for p in range(total) if p // interleave % 2 == rank] for total in totals]
        cache = torch.full((1 + len(places[0]) // block + 1, block, 576), float("nan")).bfloat16()
        table = torch.full((2, len(cache)), -1, dtype=torch.int32)
        table[0, : len(cache) - 1], table[1, 0] = torch.arange(1, len(cache)), 0
        for request, held in enumerate(places):
            for j in range(len(held)):
                cache[table[request, j // block], j % block] = torch.randn(576).bfloat16()
        q = torch.randn(2 * rows, heads, 576).bfloat16()
        indptr, sums = (torch.tensor([0, *np.cumsum(n)], dtype=torch.int32) for n in ((rows, rows), totals))
        lens = torch.tensor([len(held) for held in places], dtype=torch.int32)
        o, lse = decode(
            q, cache, q.dtype, indptr, table, lens, rows, length, scale=0.07, q_scale=None, kv_scale=None, lse=True,
            shard=Shard(sums, 2, rank, interleave),
        )  # fmt: skip
        for request, held in enumerate(places):
            keys = cache[table[request].long()].flatten(0, 1)[: len(held)].double().numpy()
            seen = np.array([sum(p <= totals[request] - rows + i for p in held) for i in range(rows)])
            mine = slice(request * rows, (request + 1) * rows)
            wanted, wanted_lse = _expected(q[mine].double().numpy(), keys, 0.07, seen)
            np.testing.assert_allclose(o[mine].double().numpy(), wanted, atol=0.03, rtol=0.02)
            np.testing.assert_allclose(lse[mine].numpy(), wanted_lse, atol=0.02)
