"""Tensors from the caller's own framework, so that a graph pool or a caching allocator sees them: what the C core calls
back into Python for where it cannot ask the framework itself (csrc/module/allocate.c)."""

from functools import lru_cache

from aiter_c._C import empty, set_allocator
from aiter_c._modules import home_of

__all__ = ["allocate", "set_allocator"]


def _numpy_allocator(numpy, dtype):
    empty, dtype = numpy.empty, numpy.dtype(dtype)
    return lambda like, shape, stream: empty(shape, dtype)


def _torch_allocator(torch, dtype):
    """Of the pool of the stream that the op runs on. Another stream's next allocation may take the memory as soon as
    the tensor is dropped, and would not wait for the op."""
    dtype = getattr(torch, dtype)

    def allocate(like, shape, stream):
        if stream is not None and like.is_cuda and (chosen := _other_stream(torch, like.device, stream)):
            with torch.cuda.stream(chosen):
                return like.new_empty(shape, dtype=dtype)
        return like.new_empty(shape, dtype=dtype)

    return allocate


def _other_stream(torch, device, stream):
    """torch's form of a handle, or None: it is the current stream anyway, or no handle (the op will say so)."""
    if not hasattr(stream, "__index__") or (handle := int(stream)) < 0:
        return None
    if handle == torch.cuda.current_stream(device).cuda_stream:
        return None
    return torch.cuda.ExternalStream(handle, device=device) if handle else torch.cuda.default_stream(device)


_DEVICES = {2: "cuda", 10: "hip"}  # DLPack's numbers; pinned memory is host memory


def _own_allocator(dtype):
    """For our own arrays, and for frameworks that only speak DLPack. Freeing one waits for its device."""

    def allocate(like, shape, stream):
        kind, index = like.__dlpack_device__()
        return empty(shape, dtype, f"{_DEVICES[kind]}:{index}" if kind in _DEVICES else "cpu")

    return allocate


@lru_cache(maxsize=64)
def _allocator_for(kind, dtype):
    if numpy := home_of(kind, "numpy.ndarray"):
        return _numpy_allocator(numpy, dtype)
    if torch := home_of(kind, "torch.Tensor"):
        return _torch_allocator(torch, dtype)
    return _own_allocator(dtype)


def allocate(name, like, shape, dtype, stream):
    """An uninitialised tensor for the buffer `name` of an op: of `shape` and `dtype` (a name), from the framework of
    the tensor `like` and on its device, for an op on `stream` (a handle; None: the current one)."""
    return _allocator_for(type(like), dtype)(like, shape, stream)
