"""Reads the weights of a Caffe model from a `.npy` or `.npz` file of arrays."""

import os
import pathlib
import warnings
import zipfile

import numpy as np

from jtln_tf.backbones.importers.array_pickle import PickledArray, UnplainPickleError, read_array_pickle
from jtln_tf.config import InputError, MissingInputError
from jtln_tf.files import first_line

# AlexNet, the largest of interest, has 0.25 GB as float32.
_MOST_BYTES = 2**30
_PARTS = ("weights", "biases")


def read_caffe_dump(path: str | os.PathLike) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Reads the arrays of a Caffe model, `(weights, biases)` by layer. Nothing that the file says is run.

    The file is a `.npy` of a pickled dict `{"conv1": [weights, biases], ...}`, written by Python 2 or 3, or a `.npz` of
    arrays `conv1_weights`, `conv1_biases`, ... If it is cut off, or holds anything but arrays of float32 or float64, it
    is an `InputError`.
    """
    path = pathlib.Path(path)
    if not path.is_file():
        raise MissingInputError(f"`input` must name an existing file. Received: {str(path)!r}.")
    num_bytes = path.stat().st_size
    if num_bytes > _MOST_BYTES:
        raise InputError(
            f"`input` must have at most {_MOST_BYTES >> 20} MiB. Received: {str(path)!r} of {num_bytes >> 20} MiB."
        )
    try:
        layers = _read_npz(path) if zipfile.is_zipfile(path) else _read_npy(path)
    except UnplainPickleError as error:
        raise InputError(
            f"`input` must hold plain arrays, and nothing else. Received: {str(path)!r}, a pickle {error}."
        ) from error
    except Exception as error:  # A foreign file can fail anywhere in the readers, with any exception.
        reason = first_line(error, 120)
        raise InputError(f"`input` must be a whole .npy or .npz file. Received: {str(path)!r} ({reason}).") from error
    _check_layers(path, layers)
    return {name: tuple(parts) for name, parts in layers.items()}


def _read_npz(path):
    with zipfile.ZipFile(path) as archive:
        # A small file may unpack to a large one.
        if sum(member.file_size for member in archive.infolist()) > _MOST_BYTES:
            raise ValueError(f"it unpacks to more than {_MOST_BYTES >> 20} MiB")
    layers = {}
    with np.load(path, allow_pickle=False) as arrays:
        for name in arrays.files:
            layer, _, part = name.rpartition("_")
            if part not in _PARTS:
                raise ValueError(f"arrays must be named LAYER_weights and LAYER_biases, not {name[:80]!r}")
            layers.setdefault(layer, {})[part] = arrays[name]
    return {layer: [parts.get(part) for part in _PARTS] for layer, parts in layers.items()}


def _read_npy(path):
    with path.open("rb") as file:
        if np.lib.format.read_magic(file) != (1, 0):
            raise ValueError("not of version 1.0 of the format")
        with warnings.catch_warnings():
            # Python 2 may have written sizes as 1L.
            warnings.simplefilter("ignore", UserWarning)
            shape, _, dtype = np.lib.format.read_array_header_1_0(file)
        if shape != () or not dtype.hasobject:
            return np.empty(0)
        layers = _unwrap(read_array_pickle(file.read()))
    return {name: _unwrap_pair(parts) for name, parts in layers.items()} if isinstance(layers, dict) else layers


def _unwrap(value):
    return value.content if isinstance(value, PickledArray) else value


def _unwrap_pair(parts):
    parts = _unwrap(parts)
    return [_unwrap(part) for part in parts] if isinstance(parts, list | tuple) else parts


def _check_layers(path, layers):
    # Names the type and not the value: the text of a list of lists of lists may have no end.
    if not isinstance(layers, dict):
        raise InputError(f"`input` must hold a dict of layers. Received: {str(path)!r} with a {type(layers).__name__}.")
    for name, parts in layers.items():
        parts = parts if isinstance(parts, list) else []
        types = [part.dtype.type if isinstance(part, np.ndarray) else None for part in parts]
        if len(types) != 2 or not set(types) <= {np.float32, np.float64}:
            raise InputError(
                "`input` must hold weights and biases, arrays of float32 or float64, for each layer. "
                f"Received: {str(path)!r}, other values for {name[:80]!r}."
            )
