"""Fresh tensors from the caller's own framework, so that a graph pool or a caching allocator sees them."""

import sys

from aiter_c._C import Array, empty


def _numpy_float32(like, shape):
    return sys.modules["numpy"].empty(shape, "float32")


def _torch_float32(like, shape):
    return like.new_empty(shape, dtype=sys.modules["torch"].float32)


_DEVICES = {2: "cuda", 10: "hip"}  # DLPack's numbers; pinned memory is host memory


def _own_float32(like, shape):
    """For our own arrays, and for frameworks that only speak DLPack."""
    kind, index = like.__dlpack_device__()
    return empty(shape, "float32", f"{_DEVICES[kind]}:{index}" if kind in _DEVICES else "cpu")


def _allocator_for(kind):
    for base in kind.__mro__:
        if base.__name__ == "ndarray" and base.__module__ == "numpy":
            return _numpy_float32
        if base.__name__ == "Tensor" and base.__module__ == "torch":
            return _torch_float32
    return _own_float32


_allocators = {Array: _own_float32}


def empty_float32(like, shape):
    """An uninitialised float32 tensor of `shape` from the framework of `like`, on its device."""
    kind = type(like)
    allocate = _allocators.get(kind)
    if allocate is None:
        allocate = _allocators[kind] = _allocator_for(kind)
    return allocate(like, shape)
