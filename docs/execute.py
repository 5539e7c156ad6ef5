"""Runs the notebooks of docs/notebooks, each in a fresh kernel; started by scripts/run_notebooks.

A cell that raises is an error, and so is a notebook whose committed outputs are not those of the run: the text of every
output and the number of pictures are compared, so that whoever changes a notebook saves it (--save). So what is printed
has to be the same on every machine; times and last digits belong into pictures.
"""

from __future__ import annotations

import argparse
import base64
import io
import os
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import nbformat
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError
from PIL import Image

ROOT = Path(__file__).resolve().parents[1]
FOLDER = ROOT / "docs/notebooks"
SECONDS = 120  # of a cell


def outputs(notebook: nbformat.NotebookNode) -> list[list[str]]:
    """Of every code cell what it shows: text as it is, "image" for a picture."""
    shown: list[list[str]] = []
    for cell in notebook.cells:
        if cell.cell_type == "code":
            shown.append([])
            for output in cell.outputs:
                data = output.get("data", {})
                text = output["text"] if output.output_type == "stream" else data.get("text/plain", "")
                shown[-1].append("image" if "image/png" in data else text)
    return shown


def without_traces(notebook: nbformat.NotebookNode) -> nbformat.NotebookNode:
    """Leaves out what differs from machine to machine, and from run to run."""
    notebook.metadata = {key: notebook.metadata[key] for key in ("kernelspec", "language_info")}
    notebook.metadata.language_info = {"name": "python"}
    for cell in notebook.cells:
        cell.metadata = {}
        for output in cell.get("outputs", []):
            output.pop("metadata", None) if output.output_type == "stream" else output.update(metadata={})
            if "image/png" in output.get("data", {}):
                output.data = {"image/png": with_fewer_colors(output.data["image/png"])}
    return notebook


def with_fewer_colors(png: str) -> str:
    """A third of the bytes."""
    out = io.BytesIO()
    Image.open(io.BytesIO(base64.b64decode(png))).convert("RGB").quantize(96).save(out, "PNG", optimize=True)
    return base64.b64encode(out.getvalue()).decode()


def run(path: Path, save: bool) -> str | None:
    """What is wrong with it, or None."""
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    committed, start = outputs(notebook), time.monotonic()
    client = NotebookClient(
        notebook,
        timeout=SECONDS,
        resources={"metadata": {"path": str(path.parent)}},
        coalesce_streams=True,
        extra_arguments=["--log-level=ERROR"],
    )
    try:
        client.execute()
    except CellExecutionError as error:
        return f"{path.name}: {error}"
    seconds = time.monotonic() - start
    if save:
        nbformat.write(without_traces(notebook), path)
    elif (now := outputs(notebook)) != committed:
        number = next(n for n, pair in enumerate(zip(now, committed, strict=True)) if pair[0] != pair[1])
        return (
            f"{path.name}: code cell {number} shows other things than are committed (scripts/run_notebooks --save)\n"
            f"committed: {committed[number]}\nnow:       {now[number]}"
        )
    print(f"{path.name}: {seconds:.1f} s, {path.stat().st_size // 1024} KiB")
    return None


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--save", action="store_true", help="write the outputs into the notebooks")
    parser.add_argument("names", nargs="*", help="of notebooks, without .ipynb (default: all)")
    options = parser.parse_args()
    paths = [FOLDER / f"{name}.ipynb" for name in options.names] or sorted(FOLDER.glob("*.ipynb"))
    with ThreadPoolExecutor(min(len(paths), os.cpu_count() or 1)) as pool:
        wrong = [text for text in pool.map(lambda path: run(path, options.save), paths) if text]
    print(*wrong, sep="\n", file=sys.stderr)
    return bool(wrong)


if __name__ == "__main__":
    sys.exit(main())
