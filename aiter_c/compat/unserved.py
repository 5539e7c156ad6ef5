"""Names that this package does not serve, as objects that say so when they are used, and not before."""

from __future__ import annotations

from typing import Any, NoReturn

from aiter_c import UnsupportedError


class Unserved:
    """Stands for a function, a class or a value of AITER: calling it, indexing it or going over it raises
    UnsupportedError with its name. Its attributes are of the same kind: a default argument may name one."""

    def __init__(self, name: str) -> None:
        self.__name__ = self.__qualname__ = name.rpartition(".")[2]
        self.__module__ = name.rpartition(".")[0]

    def _refuse(self, use: str) -> NoReturn:
        raise UnsupportedError(
            f"{self.__module__}.{self.__name__}: {use}: expected a name that aiter_c serves, got one that it does not; "
            "with AITER installed it is AITER's"
        )

    def __call__(self, *args: Any, **kwargs: Any) -> NoReturn:
        self._refuse("call")

    def __getitem__(self, index: Any) -> NoReturn:
        self._refuse("index")

    def __iter__(self) -> NoReturn:
        self._refuse("iteration")

    def __len__(self) -> NoReturn:
        self._refuse("length")

    def __int__(self) -> NoReturn:
        self._refuse("number")

    __index__ = __float__ = __int__

    def __bool__(self) -> bool:
        return True

    def __getattr__(self, name: str) -> Unserved:
        if name.startswith("__"):
            raise AttributeError(name)
        return Unserved(f"{self.__module__}.{self.__name__}.{name}")

    def __or__(self, other: Any) -> Unserved:
        """In an annotation, which is evaluated at import."""
        return self

    __ror__ = __or__

    def __mro_entries__(self, bases: tuple[Any, ...]) -> tuple[type, ...]:
        """As a base class."""
        return ()

    def __repr__(self) -> str:
        return f"<{self.__module__}.{self.__name__}, not served by aiter_c>"


class Factory(Unserved):
    """What engines call at import: the result raises when it is used."""

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return Unserved(f"{self.__module__}.{self.__name__}()")
