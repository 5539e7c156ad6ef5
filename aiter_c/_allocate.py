"""Fresh tensors from the caller's own framework, so that a graph pool or a caching allocator sees them."""

from functools import lru_cache, partial

from aiter_c._C import Array, empty
from aiter_c._modules import home_of


def _numpy_float32(numpy, like, shape, stream):
    return numpy.empty(shape, "float32")


def _torch_float32(torch, like, shape, stream):
    """Of the pool of the stream that the op runs on. Another stream's next allocation may take the memory as soon as
    the tensor is dropped, and would not wait for the op."""
    if stream is not None and like.is_cuda and (chosen := _other_stream(torch, like.device, stream)):
        with torch.cuda.stream(chosen):
            return like.new_empty(shape, dtype=torch.float32)
    return like.new_empty(shape, dtype=torch.float32)


def _other_stream(torch, device, stream):
    """torch's form of a handle, or None: it is the current stream anyway, or no handle (the op will say so)."""
    if not hasattr(stream, "__index__") or (handle := int(stream)) < 0:
        return None
    if handle == torch.cuda.current_stream(device).cuda_stream:
        return None
    return torch.cuda.ExternalStream(handle, device=device) if handle else torch.cuda.default_stream(device)


_DEVICES = {2: "cuda", 10: "hip"}  # DLPack's numbers; pinned memory is host memory


def _own_float32(like, shape, stream):
    """For our own arrays, and for frameworks that only speak DLPack. Freeing one waits for its device."""
    kind, index = like.__dlpack_device__()
    return empty(shape, "float32", f"{_DEVICES[kind]}:{index}" if kind in _DEVICES else "cpu")


@lru_cache(maxsize=16)
def _allocator_for(kind):
    if kind is Array:
        return _own_float32
    if numpy := home_of(kind, "numpy.ndarray"):
        return partial(_numpy_float32, numpy)
    if torch := home_of(kind, "torch.Tensor"):
        return partial(_torch_float32, torch)
    return _own_float32


def empty_float32(like, shape, stream):
    """An uninitialised float32 tensor of `shape` from the framework of `like`, on its device, for an op on `stream`."""
    return _allocator_for(type(like))(like, shape, stream)
