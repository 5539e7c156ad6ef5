"""What CpMerge refuses before it sends anything, in a group of one rank; and what such a group gives."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Iterator
from datetime import timedelta

import pytest

if importlib.util.find_spec("torch") is None:
    pytest.skip("torch is not installed", allow_module_level=True)

import torch
import torch.distributed as dist
from signatures import plain

from aiter_c.distributed import DRIVERS, KEEP, CpMerge

pytestmark = pytest.mark.torch

BF16, F32 = torch.bfloat16, torch.float32


@pytest.fixture(autouse=True)
def _group_of_one() -> Iterator[None]:
    dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1, timeout=timedelta(seconds=20))
    yield
    dist.destroy_process_group()


def make(**changed: object) -> CpMerge:
    arguments = {"group": None, "max_rows": 3, "heads": 4, "dim": 8, "dtype": BF16, "device": "cpu"}
    return CpMerge(**arguments | changed)


def test_signatures_are_pinned() -> None:
    assert plain(CpMerge) == (
        "(group, max_rows, heads, dim=512, dtype=torch.bfloat16, device='cuda', *, driver='a2a', keep='own', "
        "cp_world_size=None, cp_rank=None, cp_interleave=None, compare=None)"
    )
    assert plain(CpMerge.__call__) == "(self, o, lse, out=None, lse_out=None)"
    assert DRIVERS == ("a2a", "ag_rs") and KEEP == ("own", "all")


REFUSED = [
    ({"max_rows": 0}, ValueError, "max_rows: expected 1 to 2147483647, got 0"),
    ({"max_rows": 1.0}, TypeError, "max_rows: expected int, got float"),
    ({"heads": 2**31}, ValueError, "heads: expected 1 to 2147483647, got 2147483648"),
    ({"dim": -1}, ValueError, "dim: expected 1 to 2147483647, got -1"),
    ({"dtype": torch.float64}, ValueError,
     "dtype: expected one of torch.bfloat16, torch.float16, torch.float32, got torch.float64"),
    ({"dtype": "float32"}, TypeError,
     "dtype: expected one of torch.bfloat16, torch.float16, torch.float32, got 'float32'"),
    ({"driver": "nccl"}, ValueError, "driver: expected one of a2a, ag_rs, got 'nccl'"),
    ({"keep": 1}, TypeError, "keep: expected one of own, all, got 1"),
    ({"cp_world_size": 2}, ValueError, "cp_world_size: expected 1, the size of the group, got 2"),
    ({"cp_rank": 1}, ValueError, "cp_rank: expected 0, the rank of the group, got 1"),
    ({"cp_interleave": 0}, ValueError, "cp_interleave: expected 1 to 2147483647, got 0"),
    ({"cp_interleave": "1"}, TypeError, "cp_interleave: expected int, got str"),
]  # fmt: skip


@pytest.mark.parametrize(("changed", "error", "text"), REFUSED, ids=[str(i) for i in range(len(REFUSED))])
def test_arguments_that_are_refused(changed: dict, error: type, text: str) -> None:
    with pytest.raises(error) as caught:
        make(**changed)
    assert str(caught.value) == f"CpMerge: {text}" and type(caught.value) is error


def o(*shape: int, dtype: torch.dtype = BF16) -> torch.Tensor:
    return torch.zeros(shape or (2, 4, 8), dtype=dtype)


def lse(*shape: int, dtype: torch.dtype = F32) -> torch.Tensor:
    return torch.zeros(shape or (2, 4), dtype=dtype)


CALLS = [
    (lambda m: m([1], lse()), TypeError, "o: expected a torch.Tensor, got list"),
    (lambda m: m(o(dtype=F32), lse()), TypeError, "o: expected torch.bfloat16, got torch.float32"),
    (lambda m: m(o(2, 4, 8).to("meta"), lse()), ValueError, "o: expected a tensor on cpu, got meta"),
    (lambda m: m(o(2, 4), lse()), ValueError, "o: expected shape [T, 4, 8], got [2, 4]"),
    (lambda m: m(o(2, 2, 8), lse()), ValueError, "o: expected shape [T, 4, 8], got [2, 2, 8]"),
    (lambda m: m(o(2, 4, 9), lse()), ValueError, "o: expected shape [T, 4, 8], got [2, 4, 9]"),
    (lambda m: m(o(4, 4, 8), lse(4, 4)), ValueError, "o.shape[0]: expected at most max_rows=3, got 4"),
    (lambda m: m(o(), lse(4, 2)), ValueError, "lse: expected shape [2, 4], got [4, 2]"),
    (lambda m: m(o(), lse(2, 4, 1)), ValueError, "lse: expected shape [2, 4], got [2, 4, 1]"),
    (lambda m: m(o(), lse(dtype=torch.float64)), TypeError, "lse: expected torch.float32, got torch.float64"),
    (lambda m: m(o(), lse(), o(3, 4, 8)), ValueError, "out: expected shape [2, 4, 8], got [3, 4, 8]"),
    (lambda m: m(o(), lse(), o(dtype=torch.int16)), TypeError,
     "out: expected torch.bfloat16 or torch.float16 or torch.float32, got torch.int16"),
    (lambda m: m(o(), lse(), o(2, 8, 4).transpose(1, 2)), ValueError,
     "out: expected dense rows, got stride 4 between their values"),
    (lambda m: m(o(), lse(), o(1, 4, 8).expand(2, 4, 8)), ValueError,
     "out: expected elements that are apart, got strides (0, 8, 1)"),
    (lambda m: m(o(), lse(), o().requires_grad_()), ValueError,
     "out: expected a tensor that does not require grad, got one that does"),
    (lambda m: m(o(), lse(), lse_out=lse(2, 3)), ValueError, "lse_out: expected shape [2, 4], got [2, 3]"),
    (lambda m: m(o(), lse(), lse_out=lse(dtype=BF16)), TypeError,
     "lse_out: expected torch.float32, got torch.bfloat16"),
]  # fmt: skip


@pytest.mark.parametrize(("call", "error", "text"), CALLS, ids=[str(i) for i in range(len(CALLS))])
@pytest.mark.parametrize("driver", DRIVERS)
def test_calls_that_are_refused(driver: str, call: Callable, error: type, text: str) -> None:
    """And the next one is served."""
    merge = make(driver=driver)
    with pytest.raises(error) as caught:
        call(merge)
    assert str(caught.value) == f"CpMerge: {text}" and type(caught.value) is error
    assert merge(o(), lse())[1].eq(0).all()


def test_a_group_of_others_is_refused() -> None:
    with pytest.raises(ValueError) as caught:
        make(group=dist.GroupMember.NON_GROUP_MEMBER)
    assert str(caught.value) == "CpMerge: group: expected one that this process is a rank of, got another"


@pytest.mark.parametrize("keep", KEEP)
@pytest.mark.parametrize("driver", DRIVERS)
def test_a_group_of_one(driver: str, keep: str) -> None:
    """The state itself; inputs that require grad give none; no rows are nothing."""
    state = torch.randn(3, 4, 8, requires_grad=True)
    values = torch.tensor([[0.5, -torch.inf, torch.nan, 2.0]]).expand(3, 4)
    merge = make(driver=driver, keep=keep, dtype=F32, heads=4, cp_world_size=1, cp_rank=0, cp_interleave=64)
    out, merged = merge(state, values)
    assert not out.requires_grad and out.shape == (3, 4, 8)
    assert torch.equal(merged, values.nan_to_num(-torch.inf, neginf=-torch.inf))
    assert (out[:, 1:3] == 0).all() and (out - state)[:, ::3].abs().max() <= (2.0**-22 * 4 if driver == "ag_rs" else 0)
    out, merged = merge(state[:0], values[:0])
    assert out.shape == (0, 4, 8) and merged.shape == (0, 4)


@pytest.mark.parametrize("driver", DRIVERS)
def test_buffers_are_allocated_once(driver: str) -> None:
    """A call keeps no tensor and makes no buffer: every one stays where it was, whatever the number of rows."""
    merge = make(driver=driver)
    places = lambda: {n: b.data_ptr() for n, b in vars(merge._exchange).items() if isinstance(b, torch.Tensor)}  # noqa: E731
    before = places()
    for rows in (3, 1, 2, 3):
        given = o(rows, 4, 8), lse(rows, 4)
        assert all(one is other for one, other in zip(merge(o(rows, 4, 8), lse(rows, 4), *given), given, strict=True))
    assert places() == before and len(before) >= 2
