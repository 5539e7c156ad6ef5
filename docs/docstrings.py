"""The house's docstrings as reStructuredText, for docs/conf.py.

Paragraphs are prose, indented blocks are formulas or code, and a block whose lines are "name: meaning", or names and
meanings in two columns, is a list of parameters; what is indented below a line goes on with it.
"""

from __future__ import annotations

import re

_NAMES = r"[A-Za-z_]\w*(?:, [A-Za-z_]\w*)*"
_ITEM = re.compile(rf"({_NAMES})(?:: |  +|$)(.*)")


def _blocks(lines: list[str]) -> list[list[str]]:
    """What stands between empty lines."""
    blocks: list[list[str]] = [[]]
    for line in lines:
        if line.strip():
            blocks[-1].append(line)
        elif blocks[-1]:
            blocks.append([])
    return [block for block in blocks if block]


def _escaped(text: str) -> str:
    """Prose, with what stands in single backquotes as code."""
    code = re.split(r"`([^`]+)`", text)  # every other one
    code[1::2] = [f"``{name}``" for name in code[1::2]]
    code[::2] = [re.sub(r"([\\*`|_])", r"\\\1", prose) for prose in code[::2]]
    return "".join(code)


def _items(block: list[str]) -> list[tuple[str, str]] | None:
    """(names, meaning) of a list of parameters; None: it is none."""
    items: list[tuple[str, str]] = []
    for line in block:
        if line[0] == " ":
            if not items:
                return None
            items[-1] = items[-1][0], f"{items[-1][1]} {line.strip()}".strip()
        elif match := _ITEM.fullmatch(line):
            items.append((match[1], match[2]))
        else:
            return None
    return items if all(meaning for _, meaning in items) else None


def to_rst(lines: list[str]) -> list[str]:
    out: list[str] = []
    for block in _blocks(lines):
        if all(line[0] == " " for line in block):
            out += ["::", "", *(f"    {line}" for line in block), ""]
        elif items := _items(block):
            for names, meaning in items:
                shown = ", ".join(f"``{name}``" for name in names.split(", "))
                out += [shown, f"    {_escaped(meaning)}"]
            out.append("")
        else:
            prose = [line for line in block if line[0] != " "]
            indented = block[len(prose) :] if block[: len(prose)] == prose else []
            out += [*map(_escaped, prose if indented else [line.strip() for line in block]), ""]
            if indented:
                out += ["::", "", *(f"    {line}" for line in indented), ""]
    return out
