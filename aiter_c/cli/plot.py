"""Pictures of the commands, by matplotlib (the extra `plot`)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

#: Ends of the names of a row's times, and how many of them are a second.
UNITS = {"us": 1e6, "ms": 1e3, "ns": 1e9}
_OURS, _PEERS = "#1f6feb", ("#d29922", "#8250df", "#1a7f37", "#cf222e", "#57606a")


def why_no_plot(path: str) -> str | None:
    """What --plot lacks, or None."""
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        return f"needs matplotlib, pip install 'aiter_c[plot]' ({error})"
    kinds = Figure().canvas.get_supported_filetypes()
    if path.rpartition(".")[2].lower() in kinds:
        return None
    return f"expected a name that ends in one of {', '.join(f'.{kind}' for kind in sorted(kinds))}, got {path!r}"


def unit_of(row: Mapping[str, Any]) -> str:
    """The name of its time."""
    return next(unit for unit in UNITS if unit in row)


def times_of(row: Mapping[str, Any]) -> dict[str, float]:
    """Ours and the peers', by name, in the row's unit."""
    unit = unit_of(row)
    peers = [name.removesuffix(" error") for name in row if name.endswith(" error")]
    return {"aiter_c": row[unit]} | {name: row[f"{name} {unit}"] for name in peers}


def _label(row: Mapping[str, Any], columns: Sequence[str]) -> str:
    told = (f"{name} {row[name]}" for name in columns if row.get(name) is not None and name != "MB")
    return ", ".join(told)


def _roofline(axis: Any, rows: Sequence[Mapping[str, Any]], ceilings: Mapping[str, Sequence[float]]) -> None:
    """FLOP/s over FLOP per byte, under the ceilings of the whole run; the points have the numbers of the bars."""
    bandwidth = next(high for name, (_, high) in ceilings.items() if name.endswith("bytes_per_s"))
    peaks = {name.split("_")[0]: high for name, (_, high) in ceilings.items() if name.endswith("flop_per_s") and high}
    points = {
        number: (row["flop"] / row["bytes"], row["flop"] * UNITS[unit_of(row)] / row[unit_of(row)])
        for number, row in enumerate(rows, 1)
        if row["flop"]
    }
    places = [x for x, _ in points.values()]
    least, most = min(places) / 4, max(*places, max(peaks.values()) / bandwidth) * 4
    for name, peak in peaks.items():
        knee = peak / bandwidth
        axis.plot([least, min(knee, most), most], [least * bandwidth, peak, peak], linewidth=1, label=f"{name} peak")
    for number, (x, y) in points.items():
        axis.plot(x, y, "o", color=_OURS, markersize=4)
        axis.annotate(str(number), (x, y), fontsize=6, xytext=(3, 3), textcoords="offset points")
    axis.set(xscale="log", yscale="log", xlabel="FLOP / byte", ylabel="FLOP / s")
    axis.set_title(f"roofline, memory {bandwidth / 1e9:.0f} GB/s", fontsize=9)
    axis.grid(True, which="major", alpha=0.3)
    axis.legend(fontsize=7, loc="lower right")


def _bandwidth(axis: Any, rows: Sequence[Mapping[str, Any]], ceilings: Mapping[str, Sequence[float]]) -> None:
    """Of ops that move and compare: bytes per second of each row, and the memory's."""
    bandwidth = next(high for name, (_, high) in ceilings.items() if name.endswith("bytes_per_s"))
    axis.barh(range(1, len(rows) + 1), [row["GB/s"] for row in rows], color=_OURS)
    axis.axvline(bandwidth / 1e9, color="black", linewidth=1, linestyle="--")
    axis.set(xlabel="GB/s", ylabel="row", ylim=(len(rows) + 0.6, 0.4))
    axis.set_title(f"bytes moved, memory {bandwidth / 1e9:.0f} GB/s (dashed)", fontsize=9)


def _bars(axis: Any, rows: Sequence[Mapping[str, Any]], columns: Sequence[str]) -> None:
    """The times of every row."""
    names = list(dict.fromkeys(name for row in rows for name in times_of(row)))
    colours = {name: _OURS if name == "aiter_c" else _PEERS[i % len(_PEERS)] for i, name in enumerate(names)}
    thickness = 0.8 / len(names)
    for i, name in enumerate(names):
        at = [(number, times_of(row)[name]) for number, row in enumerate(rows, 1) if name in times_of(row)]
        places = [number + (i - (len(names) - 1) / 2) * thickness for number, _ in at]
        axis.barh(places, [time for _, time in at], thickness, color=colours[name], label=name)
    axis.set_yticks(range(1, len(rows) + 1), [f"{i}: {_label(row, columns)}" for i, row in enumerate(rows, 1)])
    axis.tick_params(axis="y", labelsize=6)
    axis.set(xscale="log", xlabel=unit_of(rows[0]), ylim=(len(rows) + 0.6, 0.4))
    axis.set_title("time of a call", fontsize=9)
    axis.grid(True, axis="x", which="both", alpha=0.3)
    axis.legend(fontsize=7)


def draw_bench(path: str, what: str, report: Mapping[str, Any], columns: Sequence[str]) -> None:
    """A roofline, or bytes per second where nothing is computed, and bars beside the peers. columns: what tells the
    rows apart."""
    from matplotlib.figure import Figure

    rows = [row for row in report[what] if row["bytes"]]
    height = max(5, 0.28 * len(rows) * (1 + 0.4 * len(times_of(rows[0]))))
    figure = Figure(figsize=(15, height), layout="constrained")
    left, right = figure.subplots(1, 2)
    side = _roofline if any(row["flop"] for row in rows) else _bandwidth
    side(left, rows, report["ceilings"])
    _bars(right, rows, columns)
    figure.suptitle(f"{what} on {report['device']['name']}", fontsize=11)
    figure.savefig(path, dpi=130)
