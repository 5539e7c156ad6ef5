"""Every case against the planner in Python, lists that a person can follow, and what the cases cannot say."""

from __future__ import annotations

import random
from itertools import product

import numpy as np
import pytest
from mla_metadata.cases import ALL, SMOKE, random_case
from signatures import plain

import aiter_c
from aiter_c.testing import CPU, Device, run_case
from aiter_c.testing.ops.mla_metadata import OUTPUTS, TAG, MlaMetadataCase


@pytest.mark.cases(ALL, smoke=SMOKE)
def test_case(case: MlaMetadataCase, device: Device) -> None:
    run_case(case, device=device)


def test_random_calls(device: Device) -> None:
    """A case that fails prints itself."""
    rng = random.Random(0)
    for seed in range(200 if device.simulated else 1000):
        run_case(random_case(rng, seed), device=device)


def test_no_cut_shortly_before_the_end(device: Device) -> None:
    """Two workers meet in the second list: where fewer than q_len keys would be left, the first takes all of it."""
    counts = {True: 0, False: 0}
    for q_len, keys, (granule, heads) in product(range(1, 10), range(4, 14), ((1, 12), (2, 12), (3, 128))):
        case = MlaMetadataCase((q_len,) * 2, (0, keys), heads, 2, granule=granule, cap=2, uniform=True)
        items = run_case(case, device=device).outputs["work_info_set"]
        rest = [int(item[5] - item[4]) for item in items if item[0] == 1 and item[4] > 0]
        counts[bool(rest)] += 1
        assert heads == 128 or all(left >= q_len for left in rest), case
    assert min(counts.values()) > 40, counts


def test_ids_tell_the_cases_apart() -> None:
    assert len({case.id for case in ALL}) == len(ALL) == len(set(ALL))


#: The arguments, and what they give: work_indptr, items without the last field, reduce_indptr, final rows of the tiles
#: with partials, reduce_partial_map. Worked out from AITER's scheduler by hand, for 4 workers and blocks of 16.
GOLDEN = {
    "one list is cut": (
        MlaMetadataCase(q_lens=(1, 1), kv_lens=(300, 40), uniform=True, cap=4),
        [0, 1, 2, 3, 3],
        [(0, 0, 0, 1, 0, 224, 76), (0, 1, 0, 1, 224, 300, 0), (1, -1, 1, 2, 300, 340, 0)],
        [0, 2, 2],
        {0: (0, 1)},
        [0, 1],
    ),
    "partials of two rows": (
        MlaMetadataCase(q_lens=(2, 2), kv_lens=(300, 40), uniform=True, cap=4),
        [0, 1, 2, 3, 3],
        [(0, 0, 0, 2, 0, 224, 76), (0, 2, 0, 2, 224, 300, 0), (1, -1, 2, 4, 300, 340, 0)],
        [0, 2, 2],
        {0: (0, 2)},
        [0, 2],
    ),
    "a tile per row": (
        MlaMetadataCase(q_lens=(2,), kv_lens=(200,), heads=128, uniform=True, cap=4),
        [0, 1, 2, 2, 2],
        [(0, -1, 0, 1, 0, 199, 1), (0, -1, 1, 2, 0, 200, 0)],
        [0, 0, 0],
        {},
        [],
    ),
    "48 heads, not folded": (
        MlaMetadataCase(q_lens=(1, 1), kv_lens=(200, 60), heads=48, uniform=True, cap=4),
        [0, 1, 2, 2, 2],
        [(0, -1, 0, 1, 0, 200, 0), (1, -1, 1, 2, 200, 260, 0)],
        [0, 0, 0],
        {},
        [],
    ),
    "lists of query rows": (
        MlaMetadataCase(q_lens=(2, 2), kv_lens=(200, 40), topk=64, uniform=True, cap=4),
        [0, 1, 2, 4, 5],
        [
            *[(0, -1, 0, 1, 0, 64, 1), (0, -1, 1, 2, 64, 128, 0), (1, -1, 2, 3, 128, 168, 1)],
            *[(1, 0, 3, 4, 192, 208, 24), (1, 1, 3, 4, 208, 232, 0)],
        ],
        [0, 0, 0, 0, 2],
        {3: (3, 4)},
        [0, 1],
    ),
    "pages of 64": (
        MlaMetadataCase(q_lens=(1, 1), kv_lens=(273, 192), page_size=64, granule=64, uniform=True, cap=4),
        [0, 1, 2, 2, 2],
        [(0, -1, 0, 1, 0, 5, 0), (1, -1, 1, 2, 5, 8, 0)],
        [0, 0, 0],
        {},
        [],
    ),
}


@pytest.mark.parametrize("name", GOLDEN)
def test_golden_lists(name: str, device: Device) -> None:
    case, indptr, items, groups, final, partial = GOLDEN[name]
    outputs = run_case(case, device=device).outputs
    assert outputs["work_indptr"].tolist() == indptr
    assert outputs["work_info_set"][: len(items)].tolist() == [[*item, 0] for item in items]
    assert outputs["reduce_indptr"][: len(groups)].tolist() == groups
    assert {tile: tuple(outputs["reduce_final_map"][tile].tolist()) for tile in final} == final
    assert outputs["reduce_partial_map"][: len(partial)].tolist() == partial
    assert outputs["work_metadata_ptrs"].tolist() == [TAG, 0]


def test_signatures_are_aiters() -> None:
    """Names, order and defaults; ours are keyword-only."""
    lists = "work_metadata_ptrs, work_info_set, work_indptr, reduce_indptr, reduce_final_map, reduce_partial_map"
    batch = "seqlens_qo_indptr, seqlens_kv_indptr, kv_last_page_lens, num_heads_per_head_k, num_heads_k, is_causal"
    assert plain(aiter_c.get_mla_metadata_v1) == (
        f"({batch}, {lists}, page_size=1, kv_granularity=16, max_seqlen_qo=-1, uni_seqlen_qo=-1, fast_mode=True, "
        "topk=-1, max_split_per_batch=-1, intra_batch_mode=False, is_cp_round_robin=False, mla_version=0, "
        "dtype_q_nope=None, dtype_q_rope=None, dtype_kv_nope=None, dtype_kv_rope=None, dtype_q=None, dtype_kv=None, *, "
        "deterministic=False, stream=None)"
    )
    assert plain(aiter_c.get_mla_metadata_info_v1) == (
        "(batch_size, max_seqlen_qo, num_head_qo, q_dtype, kv_dtype, is_sparse, fast_mode=True, num_kv_splits=32, "
        "intra_batch_mode=False, max_split_per_batch=-1, *, num_workers=None, deterministic=False, device=None)"
    )
    assert plain(aiter_c.get_mla_decode_fwd_max_splits) == (
        "(num_head_qo, max_seqlen_qo, q_dtype, kv_dtype, *, device=None)"
    )
    assert plain(aiter_c.decode_update_mla_metadata_v1) == (
        f"({batch}, {lists}, page_size=1, kv_granularity=16, max_seqlen_qo=1, dtype_q='bfloat16', dtype_kv='bfloat16', "
        "num_reject_tokens=None, *, deterministic=False, stream=None)"
    )


@pytest.mark.parametrize("deterministic", [False, True])
def test_a_refill_in_place_leaves_nothing_of_before(deterministic: bool, device: Device) -> None:
    """Other lengths, fewer requests with rows: the defined parts are those of a fresh plan."""
    first = MlaMetadataCase(q_lens=(1,) * 6, kv_lens=(9000, 5, 700, 1, 0, 64), cap=8, deterministic=deterministic)
    inputs = first.inputs()
    inputs.freeze()
    device.call(first.op, **inputs.arguments())
    for lengths in ((1, 1, 1, 0, 0, 0), (0,) * 6, (1,) * 6):
        kv = np.cumsum([0, *(3000 * n + 7 for n in lengths)]).astype(np.int32)
        inputs.array("seqlens_qo_indptr")[:] = np.cumsum([0, *lengths])
        inputs.array("seqlens_kv_indptr")[:] = kv
        stale = {name: inputs.array(name).copy() for name in OUTPUTS}
        device.call(first.op, **inputs.arguments())
        for name, want in first.expected(inputs, device).items():
            got, written = inputs.array(name), want.written
            kept = np.zeros(len(got), bool) if written is None else ~written
            assert np.array_equal(got[~kept], want.values[~kept]), (name, lengths)
            assert np.array_equal(got[kept], stale[name][kept]), (name, lengths)


def test_what_decides_nothing() -> None:
    """Arguments that AITER has and that change no plan here."""
    case = MlaMetadataCase(q_lens=(1, 1, 1), kv_lens=(3000, 40, 9), cap=4)
    for extra in (
        {"fast_mode": False},
        {"fast_mode": False, "intra_batch_mode": True},
        {"fast_mode": 1, "mla_version": 6},
        {"mla_version": None},
        {"dtype_q": "float16"},
        {"dtype_q_rope": "bfloat16", "dtype_kv_rope": "bfloat16"},
    ):
        run_case(case, **extra)


def test_none_is_automatic() -> None:
    case = MlaMetadataCase(q_lens=(1, 1, 1), kv_lens=(3000, 40, 9), max_q=-1)
    run_case(case, max_split_per_batch=None, max_seqlen_qo=None, uni_seqlen_qo=None, topk=None)


def test_heads_are_the_product() -> None:
    run_case(MlaMetadataCase(q_lens=(4,), kv_lens=(300,), heads=64), num_heads_per_head_k=32, num_heads_k=2)


@pytest.mark.parametrize(("keys", "splits"), [(1024, 16), (8192, 128), (65536, 256), (8, 1)])
def test_automatic_splits_of_one_list(keys: int, splits: int) -> None:
    """A piece has 64 keys or more, a tile of the kernels (for AITER #4899 see the contract)."""
    case = MlaMetadataCase(q_lens=(1,), kv_lens=(keys,), workers=256, granule=1)
    assert run_case(case).outputs["work_indptr"][-1] == splits


def test_deterministic_cuts_depend_on_the_list_alone() -> None:
    """The pieces of a list of 9000 keys, in any batch, with any number of workers and any cap."""
    seen = set()
    for others in ((), (1, 1), (100_000,), (5,) * 40):
        for workers, cap in ((1, None), (7, 4), (132, None)):
            kv_lens = (*others, 9000)
            case = MlaMetadataCase((1,) * len(kv_lens), kv_lens, workers=workers, cap=cap, deterministic=True)
            items = run_case(case).outputs["work_info_set"]
            mine = items[items[:, 0] == len(others)]
            seen.add(tuple((mine[:, 4] - sum(others)).tolist()))
    assert seen == {tuple(range(0, 9000, 576))}


@pytest.mark.parametrize("rejected", [None, [0, 1, 0]])
def test_the_update_to_the_next_decode_step(rejected: list[int] | None, device: Device) -> None:
    """What a fresh plan of one row per request gives, whatever the step before had."""
    case = MlaMetadataCase(q_lens=(1, 1, 1), kv_lens=(3001, 41, 9), uniform=True)
    inputs = case.inputs()
    inputs.freeze()
    inputs.array("seqlens_qo_indptr")[:] = [0, 2, 4, 6]
    names = [*inputs.blocks, "num_heads_per_head_k", "num_heads_k", "is_causal", "kv_last_page_lens"]
    arguments = {name: inputs.arguments()[name] for name in names}
    reject = None if rejected is None else np.array(rejected, np.int32)
    device.call("decode_update_mla_metadata_v1", **arguments, max_seqlen_qo=2, num_reject_tokens=reject)
    for name, want in case.expected(inputs, device).items():
        got = inputs.array(name)
        written = np.ones(len(got), bool) if want.written is None else want.written
        assert np.array_equal(got[written], want.values[written]), name


def test_a_copy_is_the_same_plan() -> None:
    """No addresses: two calls in other memory give the same bytes."""
    case = MlaMetadataCase(q_lens=(1, 1, 1), kv_lens=(3000, 40, 9), cap=4)
    first, second = (run_case(case, device=CPU).outputs for _ in range(2))
    assert all(first[name].tobytes() == second[name].tobytes() for name in OUTPUTS)
