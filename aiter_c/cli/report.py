"""Tables on a terminal and as JSON, a progress bar, and the machine's ceilings: what the commands share."""

import json
import sys

from aiter_c import _C


def print_table(columns, rows, file=None):
    """columns: name -> format spec; rows: dicts. Numbers to the right, text to the left, None as a dash."""
    file = file or sys.stdout
    cells = [
        [format(row[name], spec) if row.get(name) is not None else "-" for name, spec in columns.items()]
        for row in rows
    ]
    widths = [max(len(name), *(len(line[i]) for line in cells)) for i, name in enumerate(columns)]
    right = [bool(spec) for spec in columns.values()]

    def line(words):
        pairs = zip(words, widths, right, strict=True)
        return "  ".join(
            word.rjust(width) if to_right else word.ljust(width) for word, width, to_right in pairs
        ).rstrip()

    print(line(columns), file=file)
    for words in cells:
        print(line(words), file=file)


def write_json(path, value):
    """Writes `value` to the file, indented."""
    with open(path, "w", encoding="utf-8") as file:
        json.dump(value, file, indent=1)
        file.write("\n")


def progress(items, label):
    """A bar on a terminal, if tqdm is there; nothing elsewhere."""
    if sys.stderr.isatty():
        try:
            from tqdm import tqdm
        except ModuleNotFoundError:
            return items
        return tqdm(items, desc=label, leave=False)
    return items


def measure_ceilings():
    """Memory read [byte/s], fp32 multiply-add [FLOP/s], bf16 dot [FLOP/s or 0] on the pool's threads, measured now."""
    return _C.cpu_ceilings()


def ceilings_text(ceilings):
    """One line for a person."""
    read = ceilings["read_bytes_per_s"] / 1e9
    kinds = {"fp32 multiply-add": "f32_flop_per_s", "bf16 dot": "bf16_flop_per_s", "AMX": "amx_flop_per_s"}
    compute = [f"{name} {ceilings[key] / 1e9:.0f} GFLOP/s" for name, key in kinds.items() if ceilings[key]]
    return (
        f"{_C.cpu_arch()}, {_C.get_num_threads()} threads; ceilings measured now: memory read {read:.1f} GB/s, "
        + ", ".join(compute)
    )


def roofline_seconds(ceilings, compute, num_bytes, flop):
    """The least time for a call: every byte once at the memory ceiling, or every operation at the `compute` ceiling
    ("f32_flop_per_s", "bf16_flop_per_s" or "amx_flop_per_s"), whichever is longer."""
    return max(num_bytes / ceilings["read_bytes_per_s"], flop / ceilings[compute])


def arithmetic_of(kernel):
    """Which ceiling limits a kernel of the kernel table: its name says the engine."""
    return "bf16_flop_per_s" if "_dot_" in kernel else "amx_flop_per_s" if "_amx" in kernel else "f32_flop_per_s"
