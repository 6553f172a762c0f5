"""A split and a model to feature arrays. Floor 2."""

import dataclasses
import hashlib
import io
import json
import math
import os
import pathlib

import numpy as np
import tensorflow as tf

from jtln_tf.config import InputError
from jtln_tf.data import cached_array


def choose_views(labels, views_per_class, *, fill):
    """Chooses the same number of views of every class.

    A class with more images gives its first ones, so that repeats see the same images.

    Args:
        labels: Class indices [N].
        views_per_class: Views of each class.
        fill: Whether a class with fewer images gives each of them several times, which tells more only where they are
            augmented; else it gives each once.

    Returns:
        Positions in `labels`, class after class.
    """
    rows = [np.empty(0, np.int64)]
    for label in np.unique(labels):
        own = np.flatnonzero(labels == label)
        rows.append(np.resize(own, views_per_class) if fill else own[:views_per_class])
    return np.concatenate(rows)


def layer_model(backbone, layer):
    """Returns the part of a backbone up to a layer: images [B, H, W, C] to features [B, D].

    Outputs with a height and a width are averaged over both.

    Args:
        backbone: Functional `keras.Model`.
        layer: Name of one of its layers; empty is its last, which gives the backbone itself.

    Raises:
        InputError: If there is no such layer, or its output has neither 2 nor 4 dimensions.
    """
    import keras

    if not layer:
        return backbone
    names = [each.name for each in backbone.layers]
    if layer not in names:
        raise InputError(f"`cost_layer` must name a layer of the backbone, such as {names[-1]}. Received: {layer!r}.")
    output = backbone.get_layer(layer).output
    if not isinstance(output, keras.KerasTensor):
        count = len(keras.tree.flatten(output))
        raise InputError(f"`cost_layer` must name a layer with one output. Received: {layer!r} with {count}.")
    if len(output.shape) == 4:
        output = keras.layers.GlobalAveragePooling2D()(output)
    if len(output.shape) != 2:
        raise InputError(
            f"`cost_layer` must name a layer with features or feature maps. Received: {layer!r} with the output shape "
            f"{list(output.shape)}."
        )
    try:
        return keras.Model(backbone.input, output, name=f"{backbone.name}_{layer}")
    except ValueError as error:
        raise InputError(f"`cost_layer` must not name a model inside the backbone. Received: {layer!r}.") from error


class FeatureCache:
    """Features on the disk, a file for each batch, so that an extraction that was killed goes on where it was.

    A file's name follows all that its content depends on; a batch of other images or of another model is another file.
    """

    def __init__(self, folder, **dependencies):
        """Opens a cache.

        Args:
            folder: Folder of the files; made where it does not exist.
            **dependencies: JSON values that the features follow beside the model: fingerprint, image size, ...
        """
        self._folder = pathlib.Path(folder)
        self._dependencies = json.dumps(dependencies, sort_keys=True)

    def path(self, model_fingerprint, rows):
        """Returns the file of a batch of the images at `rows`."""
        digest = hashlib.sha256(f"{self._dependencies} {model_fingerprint}".encode())
        digest.update(np.ascontiguousarray(rows, np.int64).tobytes())
        return self._folder / f"features_{digest.hexdigest()[:24]}.npy"

    def read(self, path, length):
        """Returns a view of the features [length, D] in a file, or None where there are none or it is damaged."""
        try:
            features = np.load(path, mmap_mode="r", allow_pickle=False)
        except (OSError, ValueError, EOFError):
            return None
        return features if features.ndim == 2 and len(features) == length else None

    def write(self, path, features):
        """Writes the features of a batch, whole or not at all."""
        path.parent.mkdir(parents=True, exist_ok=True)
        unfinished = path.with_name(f"{path.name}.{os.getpid()}.unfinished")
        # Not np.save into the file: where the disk is full it says only how many bytes it wrote.
        content = io.BytesIO()
        np.save(content, features, allow_pickle=False)
        try:
            unfinished.write_bytes(content.getbuffer())
            os.replace(unfinished, path)
        finally:
            unfinished.unlink(missing_ok=True)


def stream_class_features(model, split, views_per_class, augment=None, batch_size=256, cache=None, progress=None):
    """Yields the features of views of every class, batch by batch: memory holds some batches of images.

    Args:
        model: Maps images [B, H, W, C] in 0..255 to features [B, D], or None for the pixels themselves.
        split: `Split`.
        views_per_class: Views of each class; without `augment`, at most as many as the class has images.
        augment: Called as `augment(images, step=n)` with the n-th batch of uint8 images, returns images; or None.
        batch_size: Images in a forward pass.
        cache: `FeatureCache` that batches are read from and written to, or None.
        progress: Called with the number of images of each batch that is done, or None.

    Yields:
        `(features, labels)`: float32 [b, D], and the class indices [b] they belong to.
    """
    rows = choose_views(split.labels, views_per_class, fill=augment is not None)
    batches = [rows[start : start + batch_size] for start in range(0, len(rows), batch_size)]
    # Pixels are read as fast as a file of them would be.
    cache = cache if model is not None else None
    model_fingerprint = fingerprint_model(model) if cache else ""
    # The number of a batch is the step of its augmentation.
    paths = [cache.path(model_fingerprint, [number, *batch]) if cache else None for number, batch in enumerate(batches)]
    is_cached = [
        path is not None and cache.read(path, len(batch)) is not None
        for path, batch in zip(paths, batches, strict=True)
    ]

    def read_images():
        numbers = np.flatnonzero(~np.array(is_cached, bool))
        # Repeated images are read once.
        used, positions = zip(*(np.unique(batches[number], return_inverse=True) for number in numbers), strict=True)
        # One stream for all: to build one takes longer than to read a batch.
        read = split.read(_dataset_of(used)).as_numpy_iterator()
        for number, places, images in zip(numbers, positions, read, strict=True):
            images = images[places]
            yield np.asarray(images if augment is None else augment(images, step=int(number)), np.float32)

    shape = (None, *split.item_shape)
    # The next batch is decoded while the model looks at this one.
    images = iter(tf.data.Dataset.from_generator(read_images, output_signature=tf.TensorSpec(shape)).prefetch(1))
    for number, batch in enumerate(batches):
        if is_cached[number]:
            features = np.array(cache.read(paths[number], len(batch)))
        else:
            features = _look_at(model, next(images))
            if not np.isfinite(features).all():
                raise InputError("`backbone` must give finite features. Received: NaN or infinite ones.")
            if cache:
                cache.write(paths[number], features)
        if progress:
            progress(len(batch))
        yield features, split.labels[batch]


def extract_class_features(model, split, views_per_class, augment=None, batch_size=256, cache=None, progress=None):
    """Returns all that `stream_class_features` yields: float32 features [M, D] and their class indices [M]."""
    parts = list(stream_class_features(model, split, views_per_class, augment, batch_size, cache, progress))
    return np.concatenate([features for features, _ in parts]), np.concatenate([labels for _, labels in parts])


def extract_activations(trunk, split, *, views=1, augment=None, batch_size=64, folder="", key="", progress=None):
    """Puts what a trunk makes of the images of a split in their place.

    Args:
        trunk: Model from images [B, H, W, C] in 0..255 to activations [B, ...].
        split: `Split` of images.
        views: Activations of each image: the image itself, and augmented views of it.
        augment: Called as `augment(images, step=n)` with the batches of further views; needed for them. n counts all
            batches, also those of the images themselves.
        batch_size: Images in a forward pass.
        folder: Cache folder in which the activations are kept, and found again; empty keeps them in memory.
        key: Text that follows all that the views depend on beside the trunk: the images, the augmentation.
        progress: Called with the number of images of each batch that is done, or None.

    Returns:
        A `Split` of activations, float32 [views * N, ...], with the same labels.

    Raises:
        InputError: If activations are not finite, or there is no room for them.
    """
    shape = (len(split) * views, *trunk.output.shape[1:])

    def fill(write):
        step = 0
        for view in range(views):
            first = 0
            for images, _ in split.dataset(batch_size):
                looked_at = tf.cast(augment(images, step=step) if view else images, tf.float32)
                activations = np.asarray(trunk.predict_on_batch(looked_at), np.float32)
                if not np.isfinite(activations).all():
                    raise InputError("`backbone` must give finite features. Received: NaN or infinite ones.")
                write(view * len(split) + first, activations)
                first, step = first + len(activations), step + 1
                if progress:
                    progress(len(activations))

    if folder:
        digest = hashlib.sha256(f"{key} {fingerprint_model(trunk)} {shape} {batch_size}".encode()).hexdigest()[:24]
        activations = cached_array(folder, f"activations_{digest}", shape, np.float32, fill)
    else:
        _check_memory(shape)
        activations = np.empty(shape, np.float32)

        def write(row, values):
            activations[row : row + len(values)] = values

        fill(write)
    return dataclasses.replace(split, images=activations, reader=None, views=views)


def _check_memory(shape):
    needed, available = 4 * math.prod(shape), _available_memory()
    if needed > available:
        raise InputError(
            f"`cache_features` must have {needed >> 20} MiB of memory for activations {list(shape)}. Received: "
            f"{available >> 20} MiB. Hint: --cache=disk, fewer --cached_views, or a later --freeze_until."
        )


def _available_memory():
    """Returns the bytes that may still be taken, pages that hold copies of files included."""
    try:
        lines = pathlib.Path("/proc/meminfo").read_text().splitlines()
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:"))
    except (OSError, StopIteration):
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def fingerprint_model(model):
    """Tells whether a model is the same as at another time, by its layers and its weights: hex digits."""
    digest = hashlib.sha256(_describe(model).encode())
    for variable in model.variables:
        digest.update(np.ascontiguousarray(variable.numpy()).tobytes())
    return digest.hexdigest()[:16]


def _describe(model):
    try:
        return model.to_json()
    except (AttributeError, TypeError, NotImplementedError):
        # Some layers of KerasHub cannot tell their configuration. A view of a network tells its side by its name.
        return " ".join([model.name, *map(_describe_layer, model.layers)])


def _describe_layer(layer):
    shapes = [list(variable.shape) for variable in layer.variables]
    try:
        config = json.dumps(layer.get_config(), sort_keys=True, default=lambda value: type(value).__name__)
    except (AttributeError, TypeError, NotImplementedError):
        config = " ".join(map(_describe_layer, getattr(layer, "layers", [])))
    return f"{type(layer).__name__} {layer.name} {shapes} {config}"


def _dataset_of(arrays):
    """Returns a `tf.data.Dataset` of int64 arrays of different lengths."""
    values, ends = tf.constant(np.concatenate(arrays), tf.int64), np.cumsum([len(array) for array in arrays])
    bounds = tf.constant([0, *ends], tf.int64)
    return tf.data.Dataset.range(len(arrays)).map(lambda index: values[bounds[index] : bounds[index + 1]])


def _look_at(model, images):
    if model is None:
        return images.numpy().reshape(len(images), -1) / np.float32(255)
    # Not `predict`: it would start a thread pool and a progress bar for each batch.
    return np.asarray(model.predict_on_batch(images), np.float32)
