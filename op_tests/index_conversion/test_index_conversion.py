"""Every case in every element, and what the cases cannot say."""

from __future__ import annotations

import numpy as np
import pytest
from index_conversion.cases import ALL, SMOKE, on_device
from signatures import plain

import aiter_c
from aiter_c.testing import Device, run_case
from aiter_c.testing.ops.index_conversion import INT32_MAX, INT32_MIN, IndexConversionCase

CONVERT = "convert_req_index_to_global_index"


def ints(*values: object) -> np.ndarray:
    return np.array(values, np.int32)


@pytest.mark.cases(ALL, on_device=on_device, smoke=SMOKE)
def test_case(case: IndexConversionCase, device: Device) -> None:
    run_case(case, device=device)


def test_ids_tell_the_cases_apart() -> None:
    assert len({case.id for case in ALL}) == len(ALL)


def test_names_and_signatures_are_those_of_the_engines() -> None:
    text = (
        "(sparse_kv_indptr, token_to_seq_idxs, topk_indices, kv_indices, kv_indptr, NUM_TOPK_TOKENS=2048, out=None, *, "
        "BLOCK_N=1024, stream=None)"
    )
    assert plain(aiter_c.gather_kv_indices_sparse) == text
    text = (
        "(dsa_qo_indptr, dsa_kv_indptr, token_to_seq_idxs, topk_indices, block_table, cu_seqlens_q, PAGE_SIZE=1, "
        "NUM_TOPK_TOKENS=2048, BLOCK_N=1024, out=None, *, stream=None)"
    )
    prefill = aiter_c.convert_req_index_to_global_index_dsa_prefill
    assert plain(prefill) == text and aiter_c.triton_convert_req_index_to_global_index_dsa_prefill is prefill
    assert plain(aiter_c.get_valid_kv_indices) == "(page_table, kv_indptr, kv_indices, bs, *, stream=None)"
    assert aiter_c.triton_convert_req_index_to_global_index is aiter_c.convert_req_index_to_global_index
    assert aiter_c.triton_gather_kv_indices_sparse is aiter_c.gather_kv_indices_sparse
    for name in (CONVERT, f"{CONVERT}_dsa_prefill", "gather_kv_indices_sparse", "get_valid_kv_indices"):
        assert getattr(aiter_c, name) is getattr(aiter_c.dsa, name)


#: Of a person's making: request 0 has the slots 50, 51, 52, 53, request 1 the slots 60 and -1.
KV_INDPTR, KV_INDICES = ints(0, 4, 6), ints(50, 51, 52, 53, 60, -1)
TOKENS = np.array([[3, 0, -1], [0, 1, 2]], np.int32)
TABLE = np.array([[7, -1], [0, 9]], np.int32)  # blocks of 2 rows, 10 rows apart


def test_forms_are_told_apart_by_position_and_by_name(device: Device) -> None:
    """As ATOM, vLLM and SGLang call them."""
    call = device.op(CONVERT)
    by_lists = [53, 50, -1, 60, -1, -1]
    lists = (ints(0, 1, 2), KV_INDPTR, ints(0, 3, 6), KV_INDICES, TOKENS)
    names = ("qo_indptr", "kv_indptr", "page_kv_indptr", "kv_indices", "token_indices")
    out = np.full(6, 99, np.int32)
    assert call(*lists, NUM_TOPK_TOKENS=3, out=out) is out and out.tolist() == by_lists
    assert call(*lists, 3).tolist() == by_lists
    assert call(**dict(zip(names, lists, strict=True)), NUM_TOPK_TOKENS=3, BLOCK_SIZE=1, BLOCK_N=3).tolist() == by_lists
    by_table = [[-1, 70, -1], [0, 1, 90]]
    table = {"req_id": ints(0, 1), "block_table": TABLE, "token_indices": TOKENS}
    sizes = {"BLOCK_SIZE": 2, "BLOCK_STRIDE_ROWS": 10, "NUM_TOPK_TOKENS": 3}
    assert call(*table.values(), **sizes).tolist() == by_table == call(**table, **sizes, BLOCK_N=1).tolist()
    assert call(*table.values(), 2, 3).tolist() == [[-1, 14, -1], [0, 1, 18]]
    rows = np.full((2, 3), 99, np.int32)
    assert call(*table.values(), **sizes, out=rows) is rows and rows.tolist() == by_table
    for by_name in (False, True):
        packed = np.full(7, 99, np.int32)
        ragged = {"cu_seqlens": ints(0, 2, 5), "paged_kv_indices": packed}
        if by_name:
            assert call(**table, **ragged, **sizes) is None
        else:
            assert call(*table.values(), *ragged.values(), **sizes) is None
        assert packed.tolist() == [-1, 70, 0, 1, 90, 99, 99]


def test_several_rows_of_a_request(device: Device) -> None:
    """MTP: rows 0 and 1 are of request 0; row 3 of none, row 4 of one that does not exist."""
    tokens = np.array([[3, 0], [2, 1], [0, 1], [0, 0], [0, 0]], np.int32)
    out = device.call(
        "gather_kv_indices_sparse", ints(0, 2, 4, 6, 8, 10), ints(0, 0, 1, -1, 2), tokens, KV_INDICES, KV_INDPTR, 2
    )
    assert out.tolist() == [53, 50, 52, 51, 60, -1, -1, -1, -1, -1]


def test_valid_indices_are_packed(device: Device) -> None:
    table = np.array([[-1, 4, -1, 7], [-1, -1, -1, -1], [1, -5, 0, -1]], np.int32)
    out = np.full(8, 99, np.int32)
    device.call("get_valid_kv_indices", table, ints(0, 2, 2, 6), out, 3)
    assert out.tolist() == [4, 7, 1, -1, 0, -1, 99, 99]
    device.call("get_valid_kv_indices", table, ints(0, 1, 2, 3), out, 2)
    assert out.tolist() == [4, -1, 1, -1, 0, -1, 99, 99], "a range that is too short takes the first, one too long -1"


@pytest.mark.parametrize("stale", [INT32_MIN, -1, 0, 1, 2, 10**6, INT32_MAX])
@pytest.mark.parametrize("longer", [0, 5])
def test_nothing_in_qo_indptr_moves_anything(longer: int, stale: int, device: Device) -> None:
    """ATOM #1391: a replay met an indptr of another step, took a row from it, and read before the tensors."""
    qo_indptr = np.full(3 + longer, stale, np.int32)
    out = np.full(6, 99, np.int32)
    device.call(CONVERT, qo_indptr, KV_INDPTR, ints(0, 3, 6), KV_INDICES, TOKENS, 3, out, exact=device.copies)
    assert out.tolist() == [53, 50, -1, 60, -1, -1]


@pytest.mark.parametrize("short", range(4))
def test_rows_are_those_that_every_tensor_has(short: int, device: Device) -> None:
    """Metadata of another number of rows than the step's is normal with data parallelism, and in padded graphs."""
    tensors = [ints(0, 1, 2), KV_INDPTR, ints(0, 3, 6), TOKENS]
    tensors[short] = tensors[short][:-1]
    qo_indptr, kv_indptr, page_kv_indptr, tokens = tensors
    out = np.full(6, 99, np.int32)
    device.call(CONVERT, qo_indptr, kv_indptr, page_kv_indptr, KV_INDICES, tokens, 3, out)
    assert out.tolist() == [53, 50, -1, 99, 99, 99]


@pytest.mark.parametrize("short", range(6))
def test_rows_and_requests_of_prefill_likewise(short: int, device: Device) -> None:
    """A tensor of fewer rows serves fewer; a request that the table or cu_seqlens_q lacks has no keys."""
    topk = np.array([[1, 0, -1], [1, 2, -1]], np.int32)
    tensors = [ints(0, 1, 2), ints(0, 3, 6), ints(0, 1), topk, np.array([[7, 8], [4, 9]], np.int32), ints(0, 1, 2)]
    call, out = device.op(f"{CONVERT}_dsa_prefill"), np.full(6, 99, np.int32)
    call(*tensors, 2, 3, 1024, out)
    assert out.tolist() == [15, 14, -1, 8, 9, -1]
    tensors[short] = tensors[short][:-1]
    out[:] = 99
    call(*tensors, 2, 3, 1024, out)
    assert out.tolist() == [15, 14, -1, *([99] * 3 if short < 4 else [-1] * 3)]


@pytest.mark.parametrize("short", range(3))
def test_rows_of_a_gather_likewise(short: int, device: Device) -> None:
    tensors = [ints(0, 3, 6), ints(0, 1), TOKENS]
    tensors[short] = tensors[short][:-1]
    out = np.full(6, 99, np.int32)
    device.call("gather_kv_indices_sparse", *tensors, KV_INDICES, KV_INDPTR, 3, out)
    assert out.tolist() == [53, 50, -1, 99, 99, 99]


def test_slots_up_to_the_largest_int32(device: Device) -> None:
    """One that int32 cannot count is no slot."""
    table = np.array([[INT32_MAX // 64, INT32_MAX // 64 + 1, INT32_MAX]], np.int32)
    tokens = np.array([[63, 0, 64, 128, 191]], np.int32)
    got = device.call(CONVERT, ints(0), table, tokens, 64, 5)
    assert got.tolist() == [[INT32_MAX, INT32_MAX - 63, -1, -1, -1]]


def test_page_sizes_up_to_the_largest_int32(device: Device) -> None:
    tokens = np.array([[0, INT32_MAX - 1, INT32_MAX, INT32_MIN]], np.int32)
    got = device.call(CONVERT, ints(0), np.zeros((1, 2), np.int32), tokens, INT32_MAX, 4)
    assert got.tolist() == [[0, INT32_MAX - 1, 0, -1]]


def test_rows_from_the_last_to_the_first() -> None:
    """Strides are signed, and of what is only read may be 0."""
    out = np.zeros((2, 3), np.int32)
    got = aiter_c.convert_req_index_to_global_index(ints(0, 1), TABLE, TOKENS[::-1], 2, 3, out[::-1])
    assert got.base is out and out.tolist() == [[19, 0, -1], [14, 15, -1]]
    same = np.broadcast_to(TOKENS[:1], (2, 3))
    assert aiter_c.convert_req_index_to_global_index(ints(0, 0), TABLE, same, 2, 3).tolist() == [[-1, 14, -1]] * 2


@pytest.mark.torch
def test_torch_tensors() -> None:
    """Fresh outputs are torch's; what is written in place counts in torch's version counter."""
    import torch

    lists = [torch.from_numpy(one.copy()) for one in (ints(0, 1, 2), KV_INDPTR, ints(0, 3, 6), KV_INDICES, TOKENS)]
    out = aiter_c.convert_req_index_to_global_index(*lists, NUM_TOPK_TOKENS=3)
    assert isinstance(out, torch.Tensor) and out.dtype == torch.int32 and out.tolist() == [53, 50, -1, 60, -1, -1]
    version = out._version
    assert aiter_c.triton_convert_req_index_to_global_index(*lists, NUM_TOPK_TOKENS=3, out=out) is out
    assert out._version > version
    table = torch.from_numpy(TABLE.copy())
    rows = aiter_c.convert_req_index_to_global_index(torch.arange(2, dtype=torch.int32), table, lists[-1], 2, 3)
    assert rows.tolist() == [[-1, 14, -1], [0, 1, 18]]
