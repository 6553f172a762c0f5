"""Activations of a frozen trunk, computed once per image, before training."""

import dataclasses
import functools
import hashlib
import math
import os
import pathlib
import sys
from collections.abc import Callable

import keras
import numpy as np
import tensorflow as tf
import tqdm

from jtln_tf.batches import count_passes
from jtln_tf.config import DataConfig, InputError
from jtln_tf.data.cache.array_file import cached_array
from jtln_tf.data.domain import Domain, default_cache_folder
from jtln_tf.data.reading.split import Split
from jtln_tf.features.fingerprints import fingerprint_model
from jtln_tf.features.views import ViewAugmentation, choose_augmentation


def cache_trunk(
    trunk: keras.Model,
    domains: dict[str, Domain],
    data: DataConfig,
    steps: dict[str, int],
    *,
    most_views: int,
    seed: int,
) -> dict[str, Domain]:
    """Replaces the training and validation images of domains with a trunk's activations, as at inference.

    A domain that trains for 0 steps is returned unchanged. A training image has up to `most_views` views: itself, and
    augmented ones.

    Raises:
        InputError: If activations are not finite, or there is no room for them.
    """
    folder = (data.cache_dir or default_cache_folder(data.data_root)) if data.cache == "disk" else ""
    replaced = {}
    for side, domain in domains.items():
        if not steps[side]:
            replaced[side] = domain
            continue
        augment = choose_augmentation(domain.train, data.augmentation[side], seed)
        # Passes over the images would not see more views.
        passes = math.ceil(count_passes(domain, getattr(data, f"{side}_batch"), steps[side]))
        views = min(most_views, passes) if augment else 1
        total = views * len(domain.train) + len(domain.validation)
        interval = 0.2 if sys.stderr.isatty() else 10.0
        with tqdm.tqdm(total=total, desc=f"{side} trunk", unit="image", mininterval=interval) as bar:
            extract = functools.partial(extract_activations, trunk, folder=folder, progress=bar.update)
            validation = extract(domain.validation)
            train = extract(domain.train, views=views, augment=augment)
        replaced[side] = dataclasses.replace(domain, train=train, validation=validation)
    return replaced


def extract_activations(
    trunk: keras.Model,
    split: Split,
    *,
    views: int = 1,
    augment: ViewAugmentation | None = None,
    batch_size: int = 64,
    folder: str = "",
    progress: Callable[[int], None] | None = None,
) -> Split:
    """Returns a split of a trunk's activations, float32 [views * N, ...], with the same labels.

    Args:
        trunk: Model from images [B, H, W, C] in 0..255 to activations [B, ...].
        split: Images.
        views: Activations of each image: of the image itself, and of augmented views.
        augment: Augments the further views; its step counts all batches, also those of the images themselves.
        batch_size: Images in a forward pass.
        folder: Folder that keeps activations of decoded images, so that they are found again; empty keeps none.
        progress: Called with the number of images of each finished batch, or None.

    Raises:
        InputError: If activations are not finite, or there is no room for them.
    """
    shape = (len(split) * views, *trunk.output.shape[1:])

    def fill(write):
        step = 0
        for view in range(views):
            first = 0
            for images, _ in split.dataset(batch_size):
                images = tf.cast(augment(images, step=step) if view else images, tf.float32)
                activations = np.asarray(trunk.predict_on_batch(images), np.float32)
                if not np.isfinite(activations).all():
                    raise InputError("`backbone` must give finite features. Received: NaN or infinite ones.")
                write(view * len(split) + first, activations)
                first, step = first + len(activations), step + 1
                if progress:
                    progress(len(activations))

    if folder and split.is_decoded:
        parts = (_identify(split), augment.key if views > 1 else "", fingerprint_model(trunk), shape, batch_size)
        digest = hashlib.sha256(" ".join(map(str, parts)).encode()).hexdigest()[:24]
        activations = cached_array(folder, f"activations_{digest}", shape, np.float32, fill)
    else:
        activations = _fill_memory(shape, fill)
    return dataclasses.replace(split, images=activations, views=views)


def _identify(split):
    """Returns a text that differs for other images."""
    if isinstance(split.images.values, np.memmap):
        # The name of a kept array depends on its content.
        return os.path.basename(split.images.values.filename)
    return hashlib.sha256(np.ascontiguousarray(split.images.values).data).hexdigest()


def _fill_memory(shape, fill):
    needed, available = 4 * math.prod(shape), available_memory()
    if needed > available:
        raise InputError(
            f"`cache_features` must have {needed >> 20} MiB of memory for activations {list(shape)}. Received: "
            f"{available >> 20} MiB. Hint: --cache=disk, fewer --cached_views, or a later --freeze_until."
        )
    activations = np.empty(shape, np.float32)

    def write(row, values):
        activations[row : row + len(values)] = values

    fill(write)
    return activations


def available_memory() -> int:
    """Returns the bytes that may still be taken, including pages that hold copies of files."""
    try:
        lines = pathlib.Path("/proc/meminfo").read_text().splitlines()
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:"))
    except (OSError, StopIteration):
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
