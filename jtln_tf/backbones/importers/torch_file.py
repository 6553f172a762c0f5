"""Reads the tensors of a `.pth` file of PyTorch, without PyTorch and without running what the file says."""

import dataclasses
import io
import math
import os
import pathlib

import numpy as np

from jtln_tf.backbones.importers.array_pickle import MOST_DIMENSIONS, PlainUnpickler, UnplainPickleError

# Before PyTorch 1.6 a file was a row of pickles, the first of which is this number, and the raw numbers behind them.
_MAGIC, _PROTOCOL = 0x1950A86A20F9469CFC6C, 1001
_MOST_BYTES = 2**28
_TYPES = {"FloatStorage": np.dtype("<f4"), "LongStorage": np.dtype("<i8")}


def read_torch_tensors(path: str | os.PathLike) -> dict[str, np.ndarray]:
    """Reads a `state_dict` that PyTorch wrote in its older format: arrays of float32 or int64 by name.

    Raises:
        UnplainPickleError: If the file holds anything but tensors by name.
        ValueError: If its sizes do not fit.
        Exception: Any other exception if it is damaged.
    """
    path = pathlib.Path(path)
    if path.stat().st_size > _MOST_BYTES:
        raise ValueError(f"more than {_MOST_BYTES >> 20} MiB")
    content = path.read_bytes()
    file = io.BytesIO(content)
    if PlainUnpickler(file).load() != _MAGIC or PlainUnpickler(file).load() != _PROTOCOL:
        raise ValueError("not of the older format of PyTorch")
    PlainUnpickler(file).load()  # Sizes of types on the machine that wrote it.
    tensors, keys = _TensorUnpickler(file).load(), PlainUnpickler(file).load()
    if type(tensors) is not dict or not all(type(tensor) is _Tensor for tensor in tensors.values()):
        raise UnplainPickleError("of something else than tensors by name")
    needed = {tensor.storage.key: tensor.storage for tensor in tensors.values()}
    if type(keys) is not list or not all(type(key) is str for key in keys) or sorted(keys) != sorted(needed):
        raise ValueError("its list of storages is not that of its tensors")
    position, storages = file.tell(), {}
    for key in keys:
        storages[key], position = _read_storage(content, position, needed[key])
    if position != len(content):
        raise ValueError(f"{len(content) - position} bytes too many")
    return {name: _view(tensor, storages[tensor.storage.key]) for name, tensor in tensors.items()}


@dataclasses.dataclass(frozen=True)
class _Storage:
    kind: str
    key: str
    size: int


@dataclasses.dataclass(frozen=True)
class _Tensor:
    storage: _Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]


class _TensorUnpickler(PlainUnpickler):
    """Makes the two calls of a `state_dict`, and notes which numbers each tensor takes from which storage."""

    names = frozenset(
        {("collections", "OrderedDict"), ("torch._utils", "_rebuild_tensor_v2"), *(("torch", name) for name in _TYPES)}
    )
    # An EfficientNet-Lite0 has 10,700.
    most_opcodes = 50_000

    def call(self, name, arguments):
        """Makes a dict or a `_Tensor`."""
        match name, arguments:
            case "OrderedDict", ():
                return {}
            case "_rebuild_tensor_v2", (_Storage() as storage, int(offset), tuple(shape), tuple(strides), *_):
                return _Tensor(storage, _whole((offset,))[0], _whole(shape), _whole(strides))
        raise UnplainPickleError("that makes a call which is not PyTorch's")

    def set_state(self, target, state):
        """Leaves out the versions of the layers, an attribute of the dict of tensors."""
        if type(target) is not dict or type(state) is not dict or set(state) != {"_metadata"}:
            raise UnplainPickleError("that sets a state which is not PyTorch's")

    def persistent_load(self, reference):
        """Notes a storage, whose numbers stand behind the pickles."""
        match reference:
            case "storage", str(kind), str(key), "cpu", int(size), None if kind in _TYPES:
                return _Storage(kind, key, _whole((size,))[0])
        raise UnplainPickleError("that refers to something else than a storage")


def _whole(numbers):
    # Sizes are limited too: the product of many long numbers takes long.
    if len(numbers) > MOST_DIMENSIONS or not all(type(number) is int and 0 <= number < 2**40 for number in numbers):
        raise UnplainPickleError("of a tensor without a proper shape")
    return numbers


def _read_storage(content, position, storage):
    """Returns the numbers of a storage, which stand behind their count, and the position behind them."""
    count, dtype = int.from_bytes(content[position : position + 8], "little"), _TYPES[storage.kind]
    start = position + 8
    end = start + storage.size * dtype.itemsize
    if count != storage.size or end > len(content):
        raise ValueError(f"cut off, or a storage of {count} numbers where {storage.size} are announced")
    return np.frombuffer(content, dtype, storage.size, start), end


def _view(tensor, numbers):
    """Returns the array of a tensor, whose axes may stand in any order in the file."""
    last = tensor.offset + sum((size - 1) * stride for size, stride in zip(tensor.shape, tensor.strides, strict=True))
    if not 0 < math.prod(tensor.shape) <= len(numbers) or last >= len(numbers):
        raise ValueError("a tensor is larger than its storage, or empty")
    strides = [stride * numbers.itemsize for stride in tensor.strides]
    return np.lib.stride_tricks.as_strided(numbers[tensor.offset :], tensor.shape, strides, writeable=False)
