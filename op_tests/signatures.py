"""Signatures as callers see them: names, order and defaults, without the annotations."""

from __future__ import annotations

import inspect
from collections.abc import Callable


def plain(function: Callable) -> str:
    signature = inspect.signature(function)
    bare = [parameter.replace(annotation=inspect.Parameter.empty) for parameter in signature.parameters.values()]
    return str(signature.replace(parameters=bare, return_annotation=inspect.Signature.empty))
