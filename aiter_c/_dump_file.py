"""A call in two files: NAME.safetensors has the bytes that its tensors lie in, NAME.json what is a view of which bytes,
and everything else. Nothing is pickled: reading a file runs nothing.

Tensors whose bytes overlap share a block, so strides, views of one buffer and misaligned tensors are what they were.
A block N of the arguments is "N" before the call and "N.after" where the call changed it; what the call returned in
memory of its own is in blocks of "after" alone.

    {"format": 1, "op": "mla_decode_fwd", "call": 17, "arguments": {"q": {"tensor": 0}, "page_size": 1, ...},
     "tensors": [{"framework": "torch", "device": "cpu", "dtype": "bfloat16", "shape": [..], "strides": [bytes, ..],
                  "block": "0", "offset": bytes, ...}], "blocks": {"0": {"bytes": n, "alignment": address % 256}},
     "result": {"returned": .., "error": {"type": .., "text": ..} or null} or null,
     "parts": [[function of aiter_c._C, its plan], ..], "environment": {..}}
"""

from __future__ import annotations

import ctypes
import json
import math
import os

from aiter_c import _C
from aiter_c._modules import home_of

TYPE_CHECKING = False  # of typing, which takes longer to import than all of this package
if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path
    from typing import Any

    import numpy as np

FORMAT = 1
ALIGNMENT = 256
NEEDS = "pip install 'aiter_c[dump]'"  # safetensors
_DEVICES = {2: "cuda", 10: "hip"}  # DLPack's numbers; any other is the host's memory


class View:
    """A tensor as its memory has it. read(low, high) gives the bytes between two addresses; None: nobody can, `why`."""

    def __init__(
        self, framework: str, device: str, dtype: str, shape: tuple[int, ...], strides: tuple[int, ...], itemsize: int,
        address: int, read: Callable[[int, int], np.ndarray] | None, why: str = "", **more: Any,
    ) -> None:  # fmt: skip
        self.device, self.address, self.read = device, address, read
        self.facts = {"framework": framework, "device": device, "dtype": dtype, "shape": list(shape)}
        self.facts |= {"strides": list(strides), **more} | ({"why": why} if why else {})
        reach = [(n - 1) * stride for n, stride in zip(shape, strides, strict=True)] if math.prod(shape) else []
        self.low = address + sum(min(step, 0) for step in reach)
        self.high = address + sum(max(step, 0) for step in reach) + (itemsize if math.prod(shape) else 0)


class Block:
    """Bytes [low, high) of a device, and one of the tensors that lie in them."""

    def __init__(self, view: View) -> None:
        self.view, self.device, self.low, self.high = view, view.device, view.low, view.high
        self.before: np.ndarray | None = None
        self.after: np.ndarray | None = None  # where it is not as before

    def holds(self, view: View) -> bool:
        """Whether the view lies in the block; an empty one in none but its own."""
        return view.device == self.device and self.low <= view.low and view.high <= self.high and view.low < view.high

    def now(self) -> np.ndarray:
        """Its bytes, copied."""
        import numpy as np

        if self.low == self.high:
            return np.empty(0, np.uint8)
        return self.view.read(self.low, self.high)  # type: ignore[misc]


def _host_bytes(keep: object) -> Callable[[int, int], np.ndarray]:
    def read(low: int, high: int) -> np.ndarray:
        import numpy as np

        _ = keep  # the memory lives as long as its owner
        memory = (ctypes.c_uint8 * (high - low)).from_address(low)
        return np.frombuffer(memoryview(memory).cast("B"), np.uint8).copy()

    return read


def _numpy_view(array: Any) -> View:
    shape, strides = array.shape, array.strides
    return View(
        "numpy", "cpu", array.dtype.name, shape, strides, array.itemsize, array.ctypes.data, _host_bytes(array),
        writable=bool(array.flags.writeable),
    )  # fmt: skip


def _torch_view(torch: Any, tensor: Any) -> View:
    dtype, size, shape = str(tensor.dtype).removeprefix("torch."), tensor.dtype.itemsize, ()
    facts: dict[str, Any] = {"requires_grad": True} if tensor.requires_grad else {}
    try:
        shape = tuple(tensor.shape)
        strides = tuple(stride * size for stride in tensor.stride())
        if tensor.device.type not in ("cpu", "cuda"):
            raise RuntimeError(f"of the device {tensor.device}")
        storage = tensor.untyped_storage()
        start, address = storage.data_ptr(), tensor.data_ptr()
        if tensor.numel() and not address:
            raise RuntimeError("without memory")
    except (RuntimeError, NotImplementedError) as error:  # meta, fake, sparse, ...
        dense = tuple(math.prod(shape[i + 1 :]) * size for i in range(len(shape)))
        return View("torch", str(tensor.device), dtype, shape, dense, size, 0, None, str(error).split("\n")[0], **facts)

    def read(low: int, high: int) -> np.ndarray:
        memory = torch.empty(0, dtype=torch.uint8, device=tensor.device)
        return memory.set_(storage, low - start, (high - low,), (1,)).cpu().numpy()

    on_host = tensor.device.type == "cpu"
    reader = _host_bytes(tensor) if on_host else read
    return View("torch", str(tensor.device), dtype, shape, strides, size, address, reader, **facts)


def _dlpack_view(value: Any) -> View:
    """An Array of the package, or what only speaks DLPack."""
    from aiter_c.testing.dlpack import DTYPES, tensor_in

    device_type, index = value.__dlpack_device__()
    device = f"{_DEVICES[device_type]}:{index}" if device_type in _DEVICES else "cpu"
    capsule = value.__dlpack__(max_version=(1, 0), **({} if device == "cpu" else {"stream": -1}))
    tensor = tensor_in(capsule)
    names = {code: name for name, code in DTYPES.items()}
    dtype = names.get((tensor.code, tensor.bits), f"code {tensor.code}, {tensor.bits} bits")
    shape, size = tuple(tensor.shape[i] for i in range(tensor.ndim)), tensor.bits // 8
    dense = [math.prod(shape[i + 1 :]) for i in range(len(shape))]
    strides = tuple(size * (tensor.strides[i] if tensor.strides else dense[i]) for i in range(len(shape)))
    address, keep = (tensor.data or 0) + tensor.byte_offset, (value, capsule)
    framework, why = "dlpack", ""
    read: Callable[[int, int], np.ndarray] | None = _host_bytes(keep)
    if isinstance(value, _C.Array):
        framework = "aiter_c"
    if device != "cpu":
        read, why = None, f"{type(value).__name__} on {device}: only tensors of torch and of aiter_c can be read there"
        if isinstance(value, _C.Array):
            import numpy as np

            read, why = lambda low, high: value.numpy().reshape(-1).view(np.uint8)[low - address : high - address], ""
    return View(framework, device, dtype, shape, strides, size, address, read, why)


def view_of(value: Any) -> View | None:
    """The memory of a tensor; None: the value is none."""
    kind = type(value)
    if home_of(kind, "numpy.ndarray"):
        return _numpy_view(value)
    if torch := home_of(kind, "torch.Tensor"):
        return _torch_view(torch, value)
    if hasattr(kind, "__dlpack__") and hasattr(kind, "__dlpack_device__"):
        return _dlpack_view(value)
    return None


def _dtype_name(value: Any) -> str | None:
    """Of a dtype of torch or NumPy, or of a class of NumPy's scalars."""
    kind = type(value)
    if kind.__module__ == "torch" and kind.__name__ == "dtype":
        return str(value).removeprefix("torch.")
    if home_of(kind, "numpy.dtype"):
        return str(value.name)
    if isinstance(value, type) and home_of(value, "numpy.generic"):
        return value.__name__
    return None


class Call:
    """What a call gets, and later what came of it. `views` are the tensors, in the order of JSON's "tensors"."""

    def __init__(self, op: str, number: int, arguments: dict[str, Any]) -> None:
        self.views: list[View] = []
        self.blocks: list[Block] = []
        self.record: dict[str, Any] = {"format": FORMAT, "op": op, "call": number}
        self.record["arguments"] = {name: self._encoded(value) for name, value in arguments.items()}
        self._add_blocks(0)
        self._of_arguments = len(self.blocks)
        self.record |= {"result": None, "parts": [], "environment": {}}

    def _encoded(self, value: Any) -> Any:
        if value is None or isinstance(value, (bool, str)) or type(value) is int:
            return value
        if type(value) is float:
            return value if math.isfinite(value) else {"float": repr(value)}
        if isinstance(value, list):
            return [self._encoded(item) for item in value]
        if isinstance(value, tuple):
            return {"tuple": [self._encoded(item) for item in value]}
        if name := _dtype_name(value):
            return {"dtype": name}
        if type(value).__module__ == "aiter_c" and hasattr(value, "workspace_bytes"):
            kind, version, inputs = value.__reduce__()[1]
            return {"plan": [kind, version, list(inputs)]}
        if home_of(type(value), "numpy.generic"):
            return {"number": type(value).__name__, "value": self._encoded(value.item())}
        if (view := view_of(value)) is not None:
            self.views.append(view)
            return {"tensor": len(self.views) - 1}
        return {"other": f"{type(value).__module__}.{type(value).__qualname__}", "shown": repr(value)[:200]}

    def _add_blocks(self, first: int) -> None:
        """Blocks for the views from `first` on that lie in none."""
        fresh = [v for v in self.views[first:] if v.read and not any(block.holds(v) for block in self.blocks)]
        last: Block | None = None
        for view in sorted(fresh, key=lambda view: (view.device, view.low)):
            if last and view.device == last.device and view.low < last.high and view.high > view.low:
                last.high = max(last.high, view.high)
            else:
                last = Block(view)
                self.blocks.append(last)

    @property
    def num_bytes(self) -> int:
        """Of all blocks."""
        return sum(block.high - block.low for block in self.blocks)

    @property
    def devices(self) -> set[str]:
        """Of the tensors; without those of the host's memory."""
        return {view.device for view in self.views} - {"cpu"}

    def read_before(self) -> None:
        """Copies the memory of all arguments."""
        for block in self.blocks:
            block.before = block.now()

    def read_after(self, returned: Any) -> None:
        """What the call changed and returned."""
        first = len(self.views)
        encoded = self._encoded(returned)
        self._add_blocks(first)
        for block in self.blocks:
            now = block.now()
            if block.before is None or now.tobytes() != block.before.tobytes():
                block.after = now
        self.record["result"] = {"returned": encoded, "error": None}

    def failed(self, error: BaseException) -> None:
        """The call raised."""
        self.record["result"] = {"returned": None, "error": {"type": type(error).__name__, "text": str(error)}}

    def _tensor(self, view: View) -> dict[str, Any]:
        for number, block in enumerate(self.blocks):
            if block.holds(view) or block.view is view:
                return view.facts | {"block": str(number), "offset": view.address - block.low}
        return view.facts | {"block": None}

    def write(self, stem: Path) -> None:
        """The two files, each complete or not there."""
        from safetensors.numpy import save_file

        record = self.record | {"tensors": [self._tensor(view) for view in self.views]}
        record["blocks"] = {
            str(i): {"bytes": block.high - block.low, "alignment": block.low % ALIGNMENT}
            for i, block in enumerate(self.blocks)
        }
        bytes_of = {str(i): block.before for i, block in enumerate(self.blocks) if block.before is not None}
        bytes_of |= {f"{i}.after": block.after for i, block in enumerate(self.blocks) if block.after is not None}
        for suffix in (".safetensors", ".json"):
            part = stem.with_name(f"{stem.name}{suffix}.part")
            if suffix == ".json":
                part.write_text(json.dumps(record, indent=1, allow_nan=False) + "\n", encoding="utf-8")
            else:
                save_file(bytes_of, part)
            os.replace(part, stem.with_name(stem.name + suffix))


class Unreadable(Exception):
    """What a file does not have, or cannot be made of it."""


class Loaded:
    """A dumped call, from either of its files. Arguments come as NumPy arrays over fresh copies of the blocks, on the
    host, or, where `torch` is the module, as what they were."""

    def __init__(self, path: Path) -> None:
        from safetensors.numpy import load_file

        stem = path.with_suffix("") if path.suffix in (".json", ".safetensors") else path
        self.record = json.loads(stem.with_name(f"{stem.name}.json").read_text(encoding="utf-8"))
        if self.record.get("format") != FORMAT:
            raise Unreadable(f"expected a call in format {FORMAT}, got {self.record.get('format')!r}")
        self._bytes = load_file(stem.with_name(f"{stem.name}.safetensors"))

    @property
    def error(self) -> dict[str, str] | None:
        """What the call raised: type and text."""
        return self.record["result"] and self.record["result"]["error"]

    @property
    def ended(self) -> bool:
        """Whether it came to an end: not so where it took the process with it."""
        return self.record["result"] is not None

    def arguments(self, torch: Any = None, *, after: bool = False) -> dict[str, Any]:
        """By name, as they were before the call; after=True: as the call left them."""
        return self._values(self.record["arguments"], torch, after)

    def returned(self) -> Any:
        """What the call returned. A tensor of its arguments is a view like theirs, not the same object."""
        return self._values({"": self.record["result"]["returned"]}, None, True)[""]

    def _values(self, encoded: dict[str, Any], torch: Any, after: bool) -> dict[str, Any]:
        memory: dict[str, np.ndarray] = {}
        return {name: self._value(name, value, torch, after, memory) for name, value in encoded.items()}

    def _value(self, name: str, value: Any, torch: Any, after: bool, memory: dict[str, np.ndarray]) -> Any:
        if isinstance(value, list):
            return [self._value(name, item, torch, after, memory) for item in value]
        if not isinstance(value, dict):
            return value
        (kind, content), *more = value.items()
        if kind == "tuple":
            return tuple(self._value(name, item, torch, after, memory) for item in content)
        if kind == "float":
            return float(content)
        if kind == "dtype":
            return content
        if kind == "plan":
            plan, version, inputs = content
            return _C.load_plan(plan, version, tuple(inputs))
        if kind == "number":
            return self._value(name, more[0][1], torch, after, memory)
        if kind == "tensor":
            return self._tensor(name, self.record["tensors"][content], torch, after, memory)
        raise Unreadable(f"{name}: was {value['shown']} of {content}, which no file can hold")

    def _tensor(self, name: str, facts: dict[str, Any], torch: Any, after: bool, memory: dict[str, np.ndarray]) -> Any:
        import numpy as np

        from aiter_c.testing.memory import dtype_of

        if (block := facts["block"]) is None:
            raise Unreadable(f"{name}: its memory could not be read when the call was written: {facts['why']}")
        if block not in memory:
            memory[block] = self._memory(block, after)
        shape, strides = tuple(facts["shape"]), tuple(facts["strides"])
        offset = self.record["blocks"][block]["alignment"] + facts["offset"]
        if torch is not None and facts["framework"] == "torch":
            dtype, buffer = getattr(torch, facts["dtype"]), torch.from_numpy(memory[block]).untyped_storage()
            steps = tuple(stride // dtype.itemsize for stride in strides)
            tensor = torch.empty(0, dtype=dtype).set_(buffer, offset // dtype.itemsize, shape, steps)
            return tensor.requires_grad_() if facts.get("requires_grad") else tensor
        try:
            dtype = dtype_of(facts["dtype"])
        except TypeError:
            raise Unreadable(f"{name}: NumPy has no dtype {facts['dtype']}") from None
        array = np.ndarray(shape, dtype, memory[block], offset, strides)
        array.flags.writeable = facts.get("writable", True)
        return array

    def _memory(self, block: str, after: bool) -> np.ndarray:
        """The block's bytes at an address as even, or as odd, as theirs was."""
        import numpy as np

        content = self._bytes.get(f"{block}.after") if after else None
        if content is None:
            content = self._bytes[block]
        shift, buffer = self.record["blocks"][block]["alignment"], np.zeros(len(content) + 2 * ALIGNMENT, np.uint8)
        begin = -buffer.ctypes.data % ALIGNMENT
        memory = buffer[begin : begin + shift + len(content)]
        memory[shift:] = content
        return memory
