"""Context parallelism: the keys of a request are dealt to several ranks, each attends over its own, and the states are
merged. Which rank has which key, and the merge, which comes from the C core as it is.

Key p of a request belongs to rank (p // interleave) % world_size: `interleave` keys at a time, rank by rank.
"""

from __future__ import annotations

import operator

from aiter_c._C import merge_attn_states, merge_states

TYPE_CHECKING = False  # of typing, which takes longer to import than all of this package
if TYPE_CHECKING:
    from aiter_c._types import Integers

__all__ = ["cp_local_len", "cp_local_to_global", "cp_owner", "merge_attn_states", "merge_states"]


def _check_layout(op: str, world_size: int, interleave: int, rank: int = 0) -> tuple[int, int, int]:
    """The three as ints; refuses what is no layout."""
    sizes = {"world_size": world_size, "interleave": interleave, "rank": rank}
    for name, value in sizes.items():
        try:
            sizes[name] = operator.index(value)
        except TypeError:
            raise TypeError(f"{op}: {name}: expected int, got {type(value).__name__}") from None
    world_size, interleave, rank = sizes.values()
    for name, value in (("world_size", world_size), ("interleave", interleave)):
        if value < 1:
            raise ValueError(f"{op}: {name}: expected 1 or more, got {value}")
    if not 0 <= rank < world_size:
        raise ValueError(f"{op}: rank: expected 0 to {world_size - 1}, got {rank}")
    return world_size, interleave, rank


def _check_integers(op: str, name: str, values: Integers, largest: int) -> Integers:
    """An int that is not negative, or a tensor of integers that hold `largest`; its values are not looked at."""
    dtype = getattr(values, "dtype", None)
    if dtype is not None and hasattr(values, "shape"):
        kind = str(dtype).removeprefix("torch.")
        bits = kind.removeprefix("u").removeprefix("int")
        if not bits.isdecimal():
            raise TypeError(f"{op}: {name}: expected int or a tensor of integers, got dtype {dtype}")
        if largest >> (int(bits) - (not kind.startswith("u"))):
            raise ValueError(f"{op}: {name}: expected a dtype that holds world_size * interleave={largest}, got {kind}")
        return values
    try:
        number = operator.index(values)
    except TypeError:
        got = type(values).__name__
        raise TypeError(f"{op}: {name}: expected int or a tensor of integers, got {got}") from None
    if number < 0:
        raise ValueError(f"{op}: {name}: expected 0 or more, got {number}")
    return number


def cp_owner(position: Integers, world_size: int, interleave: int = 1) -> Integers:
    """The rank that has the key at `position` of its request: (position // interleave) % world_size.

    position    int, or a tensor of integers of NumPy or torch (on any device): then so is the result, element by
                element, of the same dtype, which has to hold world_size * interleave. At least 0; in a tensor that is
                not checked, and what a negative position gives is not defined.
    world_size  int, at least 1.
    interleave  int, at least 1: keys that stand together on a rank.

    Raises TypeError for what is no integer, and ValueError for one out of its range.
    """
    world_size, interleave, _ = _check_layout("cp_owner", world_size, interleave)
    position = _check_integers("cp_owner", "position", position, world_size * interleave)
    return position // interleave % world_size


def cp_local_len(length: Integers, world_size: int, rank: int, interleave: int = 1) -> Integers:
    """How many of a request's first `length` keys the rank has. Over all ranks they add up to `length`.

    length      int, or a tensor of integers of NumPy or torch (on any device): then so is the result, element by
                element, of the same dtype, which has to hold world_size * interleave. At least 0; in a tensor that is
                not checked, and what a negative length gives is not defined.
    world_size  int, at least 1.
    rank        int, from 0 to world_size - 1.
    interleave  int, at least 1: keys that stand together on a rank.

    Raises TypeError for what is no integer, and ValueError for one out of its range.
    """
    world_size, interleave, rank = _check_layout("cp_local_len", world_size, interleave, rank)
    length = _check_integers("cp_local_len", "length", length, world_size * interleave)
    whole_rounds = length // (world_size * interleave)
    # Of the last round, which may be incomplete: what lies past the ranks before this one, at most a whole block.
    rest = length - whole_rounds * (world_size * interleave)
    return whole_rounds * interleave + _clamp(rest, rank * interleave, interleave)


def _clamp(rest: Integers, before: int, most: int) -> Integers:
    """min(max(rest - before, 0), most); no difference may fall below 0, which an unsigned dtype would not hold."""
    if isinstance(rest, int):
        return min(max(rest - before, 0), most)
    return _at_most(rest, before + most) - _at_most(rest, before)


def _at_most(values: Integers, most: int) -> Integers:
    """min(values, most) by arithmetic that NumPy and torch share, in the tensor's own dtype."""
    return values * (values <= most) + (values * 0 + most) * (values > most)


def cp_local_to_global(index: Integers, world_size: int, rank: int, interleave: int = 1) -> Integers:
    """The position in its request of the rank's key number `index`. With world_size 1 it is `index`.

    index       int, or a tensor of integers of NumPy or torch (on any device): then so is the result, element by
                element, of the same dtype, which has to hold the positions. At least 0; in a tensor that is not
                checked, and what a negative index gives is not defined.
    world_size  int, at least 1.
    rank        int, from 0 to world_size - 1.
    interleave  int, at least 1: keys that stand together on a rank.

    Raises TypeError for what is no integer, and ValueError for one out of its range.
    """
    world_size, interleave, rank = _check_layout("cp_local_to_global", world_size, interleave, rank)
    index = _check_integers("cp_local_to_global", "index", index, world_size * interleave)
    return (index // interleave * world_size + rank) * interleave + index % interleave
