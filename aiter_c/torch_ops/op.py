"""A row of the table as an op: what runs on real tensors, what on fake ones, and a call with the function's own
arguments and results."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from aiter_c._torch_table import GraphOp
from aiter_c.torch_ops import fakes
from aiter_c.torch_ops.schema import REQUIRED, parameters_of, schema_of


class Op:
    """What registering an op and calling it need to know."""

    def __init__(self, row: GraphOp) -> None:
        self.row, self.direct = row, row.direct()
        self.parameters = parameters_of(row)
        self.places = {p.name: place for place, p in enumerate(self.parameters)}
        self.results = row.result if isinstance(row.result, tuple) else (row.result,)
        always = {p.name for p in self.parameters if p.written and p.default is REQUIRED}
        fresh = {place: name for place, name in enumerate(row.instead)}
        fresh |= {place: r for place, r in enumerate(self.results) if r is not None and r not in always}
        #: Which results of the function are fresh, or fresh where they were not given: (name, place).
        self.fresh = [(name, place) for place, name in sorted(fresh.items())]
        self.schema = schema_of(row, self.parameters, len(self.fresh))

    def implementation(self) -> Callable[..., Any]:
        """What runs on real tensors: the function itself where it returns nothing."""
        direct = _of_lists(self.direct) if any(p.type == "Tensor[]" for p in self.parameters) else self.direct
        if not self.fresh:
            return direct
        (name, place), *more = self.fresh
        if not more and name not in self.places:  # an LSE: the ops of every step, without detour

            def lse_of(*args: Any, **kwargs: Any) -> Any:
                lse = direct(*args, **kwargs)[place]
                return fakes.nothing(args[0]) if lse is None else lse

            return lse_of
        places = [place for _, place in self.fresh]

        def fresh_of(*args: Any, **kwargs: Any) -> Any:
            results = direct(*args, **kwargs)
            results = results if isinstance(results, tuple) else (results,)
            passed = [*args, *kwargs.values()]
            like = args[0][0] if isinstance(args[0], list) else args[0]
            out = []
            for place in places:
                result = results[place] if place < len(results) else None
                is_given = result is None or any(result is argument for argument in passed)
                out.append(fakes.nothing(like) if is_given else result)
            return tuple(out) if more else out[0]

        return fresh_of

    def fake(self) -> Callable[..., Any]:
        """What runs on tensors without memory."""
        if not self.fresh:
            return lambda *args, **kwargs: None
        shapes = getattr(fakes, self.row.name)
        defaults = {p.name: p.default for p in self.parameters if p.default is not REQUIRED}

        def fake(*args: Any, **kwargs: Any) -> Any:
            out = shapes(**(defaults | dict(zip(self.places, args, strict=False)) | kwargs))
            return out if len(self.fresh) > 1 else out[0]

        return fake

    def _argument(self, name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """What was passed, or None."""
        place = self.places[name]
        return args[place] if place < len(args) else kwargs.get(name)

    def call(self, registered: Callable[..., Any]) -> Callable[..., Any]:
        """The op with the function's arguments and results, as torch.compile traces it."""
        convert = {p.name: converter for p in self.parameters if (converter := _converter(p.name, p.type))}
        names = list(self.places)
        name_of = self.row.name

        def call(*args: Any, **kwargs: Any) -> Any:
            for name in ("stream", "plan"):
                if kwargs.pop(name, None) is not None:
                    raise TypeError(f"{name_of}: {name}: expected None in a graph, got a value")
            positional = [convert[n](v) if n in convert else v for n, v in zip(names, args, strict=False)]
            by_name = {n: convert[n](v) if n in convert else v for n, v in kwargs.items()}
            made = registered(*positional, *args[len(positional) :], **by_name)
            return self._result(made, args, kwargs) if self.fresh else None

        return call

    def _result(self, made: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """What the function returns, of what the op made."""
        fresh = made if len(self.fresh) > 1 else (made,)
        by_name = {name: tensor for (name, _), tensor in zip(self.fresh, fresh, strict=True)}
        if self.row.instead and fresh[-1].dim() > 1:
            return tuple(fresh)
        out: list[Any] = []
        for name in self.results:
            value = self._argument(name, args, kwargs) if name in self.places else None
            if value is None and name in by_name and (name in self.places or by_name[name].dim() > 1):
                value = by_name[name]
            out.append(value)
        return tuple(out) if isinstance(self.row.result, tuple) else out[0]


def _of_lists(merge: Callable[..., Any]) -> Callable[..., Any]:
    """merge_states of lists alone: a list of one tensor with a dimension of states is that tensor."""

    def of_lists(o: list[torch.Tensor], lse: list[torch.Tensor], *args: Any, **kwargs: Any) -> Any:
        if len(o) == 1 and o[0].dim() == 4:
            return merge(o[0], lse[0] if len(lse) == 1 else lse, *args, **kwargs)
        return merge(o, lse, *args, **kwargs)

    return of_lists


def _converter(name: str, kind: str) -> Callable[[Any], Any] | None:
    """From what the function takes to what the schema takes."""
    if kind == "bool":
        return bool
    if kind.startswith("ScalarType"):
        return lambda value: getattr(torch, value) if isinstance(value, str) else value
    if kind == "Tensor[]":
        return lambda value: [value] if isinstance(value, torch.Tensor) else list(value)
    if kind == "Tensor?" and name.endswith("scale"):
        return lambda value: torch.full((), value) if isinstance(value, (int, float)) else value
    return None
