"""One call of an op as a value: what a test or a bench runs, and what a failure prints to be run again."""

from __future__ import annotations

import ast
import importlib
import pkgutil
import re
import zlib
from dataclasses import MISSING, fields
from typing import TYPE_CHECKING, ClassVar

import numpy as np

if TYPE_CHECKING:
    from .compare import Expected
    from .device import Device
    from .inputs import Inputs
    from .run import Outcome

LONGEST_ID = 50


class Case:
    """A frozen dataclass (repr=False) derives from this, in a module of `aiter_c.testing.ops`. Its fields decide every
    byte that the call gets; each has a default, the plainest call.

    op: the function of aiter_c that is called.
    small: fields of a few small cases, which together take every way through the op: tests of all ops call them.
    """

    op: ClassVar[str]
    small: ClassVar[tuple[dict[str, object], ...]] = ({},)
    takes_twice: ClassVar[bool] = False  # the call runs an op twice, which takes its scratch each time
    kinds: ClassVar[dict[str, type[Case]]] = {}  # by name of the class

    def __init_subclass__(cls, **keywords: object) -> None:
        super().__init_subclass__(**keywords)
        Case.kinds[cls.__name__] = cls

    def inputs(self) -> Inputs:
        """Everything that the call gets; the same in every run."""
        raise NotImplementedError

    def outputs(self, inputs: Inputs, returned: object) -> dict[str, np.ndarray | None]:
        """What the call gave, by name: the arguments that it wrote, and what it returned."""
        return {name: inputs.array(name) for name in inputs.written}

    def expected(self, inputs: Inputs, device: Device) -> dict[str, Expected]:
        """What every output must hold; outputs that are missing here must be None."""
        raise NotImplementedError

    def check(self, outcome: Outcome) -> None:
        """What else the call promises. Raises AssertionError."""

    @property
    def words(self) -> list[str]:
        """What tells this case from the others in a few words."""
        return [f"{name}={value}" for name, value in self._changed().items()]

    @property
    def id(self) -> str:
        """Letters, digits, "-", "_" and ".", at most LONGEST_ID of them; what is cut is told apart by a digest."""
        return short_id("-".join(self.words) or "defaults", repr(self))

    def _changed(self) -> dict[str, object]:
        """The fields that differ from their defaults."""
        out = {}
        for field in fields(self):
            default = field.default_factory() if field.default is MISSING else field.default
            if getattr(self, field.name) != default:
                out[field.name] = getattr(self, field.name)
        return out

    def __repr__(self) -> str:
        """A constructor call with the fields that differ from the defaults; `parse_case` reads it back."""
        return f"{type(self).__name__}({', '.join(f'{name}={value!r}' for name, value in self._changed().items())})"

    @property
    def repro(self) -> str:
        """One line for a shell."""
        return f'python -m aiter_c.testing "{self!r}"'


def short_id(text: str, whole: str) -> str:
    """`text` as a part of a test's id that can be typed into -k; where it is too long, a digest of `whole` ends it."""
    text = re.sub(r"[^A-Za-z0-9_.-]+", "_", text)
    if len(text) <= LONGEST_ID:
        return text
    return f"{text[: LONGEST_ID - 9].rpartition('-')[0]}-{zlib.crc32(whole.encode()):08x}"


def case_kinds() -> dict[str, type[Case]]:
    """Every kind of case, by the name of its class."""
    from . import ops

    for module in pkgutil.iter_modules(ops.__path__):
        importlib.import_module(f"{ops.__name__}.{module.name}")
    return Case.kinds


def parse_case(text: str) -> Case:
    """The inverse of repr(case). Literals only: nothing is evaluated."""
    call = ast.parse(text.strip(), mode="eval").body
    name = getattr(call.func, "id", "") if isinstance(call, ast.Call) else ""
    kinds = case_kinds()
    if name not in kinds or call.args:
        raise ValueError(f"expected {' or '.join(sorted(kinds))}(field=value, ...), got {text!r}")
    return kinds[name](**{word.arg: ast.literal_eval(word.value) for word in call.keywords if word.arg})
