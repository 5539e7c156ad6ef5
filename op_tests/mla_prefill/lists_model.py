"""The lists of get_ps_metadata_v1 by a model that does it step by step: each worker takes units of keys from the next
tile until its quota is used up. Written from the contract, apart from the C code, which counts in closed form."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Plan:
    """What a call of get_ps_metadata_v1 gets, as numbers."""

    q_lens: tuple[int, ...]
    kv_lens: tuple[int, ...]
    workers: int
    kv_heads: int = 1
    group: int = 1
    tile: int = 256
    unit: int = 128
    page: int = 1
    causal: bool = True
    need_lse: bool = True
    offset: int = 0  # of both indptrs

    @property
    def id(self) -> str:
        """For pytest."""
        return repr(self)


@dataclass
class _Tile:
    request: int
    begin: int  # query rows, over all requests
    end: int
    keys: int
    units: int
    taken: int = 0  # units
    pieces: list[list[int]] | None = None


def _tiles(plan: Plan) -> tuple[list[_Tile], list[_Tile]]:
    """In the order of visits, and in that of their rows."""
    visited, in_order, first = [], [], plan.offset
    for request, (rows, keys) in enumerate(zip(plan.q_lens, plan.kv_lens, strict=True)):
        own = []
        for begin in range(0, rows, plan.tile):
            end = min(begin + plan.tile, rows)
            seen = max(keys - rows + end, 0) if plan.causal else keys
            own.append(_Tile(request, first + begin, first + end, keys, -(-seen // plan.unit), pieces=[]))
        in_order += own
        while own:
            visited.append(own.pop(0))
            if own:
                visited.append(own.pop())
        first += rows
    return visited, in_order


def lists(plan: Plan) -> dict[str, np.ndarray]:
    """work_indptr, work_info, reduce_indptr, reduce_final_map, reduce_partial_map: what the plan defines of them."""
    visited, in_order = _tiles(plan)
    clusters = math.gcd(plan.kv_heads, plan.workers)
    per_cluster = plan.workers // clusters
    pages = plan.offset + np.concatenate([[0], np.cumsum([-(-keys // plan.page) for keys in plan.kv_lens])]).astype(int)
    no_keys = sum(tile.units for tile in visited) == 0
    total = len(visited) if no_keys else sum(tile.units for tile in visited)
    work: list[list[tuple[_Tile, int, int]]] = []
    queue = list(visited)
    for worker in range(per_cluster):
        quota, mine = total // per_cluster + (worker < total % per_cluster), []
        while queue and quota > 0:
            tile = queue[0]
            left = (1 if no_keys else tile.units) - tile.taken
            take = min(left, quota)
            mine.append((tile, tile.taken, tile.taken + take))
            tile.taken += take
            quota -= take
            if take == left:
                queue.pop(0)
        work.append(mine)
    if queue:  # tiles without keys behind the last that has some
        last = max(i for i, mine in enumerate(work) if mine)
        work[last] += [(tile, 0, 0) for tile in queue]
    return _write(plan, work, in_order, pages, clusters, no_keys)


def _write(plan, work, in_order, pages, clusters, no_keys) -> dict[str, np.ndarray]:
    partials, whole = 0, []
    items: list[list[list[int]]] = [[] for _ in work]
    for worker, mine in enumerate(work):
        for tile, begin, end in mine:
            count = sum(piece[0] is tile for other in work for piece in other)
            step, first, last = plan.unit // plan.page, pages[tile.request], pages[tile.request + 1]
            final = end == (1 if no_keys else tile.units)
            kv = [min(first + (0 if no_keys else units) * step, last) for units in (begin, end)]
            after = 0 if final else max(tile.keys - (kv[1] - first) * plan.page, 0)
            item = [tile.request, -1, tile.begin, tile.end, *kv, after]
            if count > 1:
                item[1] = partials * plan.tile
                tile.pieces.append(item[1])
                partials += 1
            elif plan.need_lse:
                whole.append((tile, item))
            items[worker].append(item)
    for number, (tile, item) in enumerate(whole):
        item[1] = (partials + number) * plan.tile
        tile.pieces.append(item[1])
    heads = plan.kv_heads // clusters
    work_info, work_indptr = [], [0]
    for cluster in range(clusters):
        for mine in items:
            for head in range(cluster * heads, (cluster + 1) * heads):
                range16 = head * plan.group | (head + 1) * plan.group << 16
                work_info += [[*item, range16] for item in mine]
            work_indptr.append(len(work_info))
    groups = [tile for tile in in_order if tile.pieces]
    indptr = np.concatenate([[0], np.cumsum([len(tile.pieces) for tile in groups])]).astype(int)
    return {
        "work_indptr": np.array(work_indptr, np.int32),
        "work_info": np.array(work_info, np.int64).astype(np.int32).reshape(-1, 8),
        "reduce_indptr": indptr.astype(np.int32),
        "reduce_final_map": np.array([(t.begin, t.end) for t in groups], np.int32).reshape(-1, 2),
        "reduce_partial_map": np.array([at for tile in groups for at in sorted(tile.pieces)], np.int32),
    }
