"""Activations of a frozen trunk in place of images: each image passes through the trunk once, for all runs."""

import collections.abc
import dataclasses
import functools
import hashlib
import math
import os
import sys
from collections.abc import Callable, Iterator

import keras
import numpy as np
import tensorflow as tf
import tqdm
from absl import logging

from jtln_tf.batches import augment_each, count_passes
from jtln_tf.config import AugmentationSpec, DataConfig, InputError, NetworkConfig
from jtln_tf.data.decoded import DECODER
from jtln_tf.data.domain import Domain
from jtln_tf.data.reading.images import Pixels
from jtln_tf.data.reading.split import Split
from jtln_tf.distribution import predict, replicas_of
from jtln_tf.features.fingerprints import fingerprint_model
from jtln_tf.features.store import KEY_BYTES, ActivationStore
from jtln_tf.files import available_memory, check_room, default_cache_folder, nearest_existing

_BATCH = 64
# In memory, a copy as one array is worth it only if it is small.
_COPIED_BYTES = 2**28


class FrozenTrunk:
    """The frozen part of a backbone, with the activations that are known of it.

    Attributes:
        model: Model from images [B, H, W, C] in 0..255 to activations [B, ...].
    """

    def __init__(self, model: keras.Model):
        self.model, self._stores = model, {}

    def store(self, folder: str | None) -> ActivationStore:
        """Returns the activations in a cache folder, or with None those in memory; they are opened once."""
        if folder not in self._stores:
            fingerprint = fingerprint_model(self.model) if folder else ""
            self._stores[folder] = ActivationStore(folder, fingerprint, self.model.output.shape[1:])
        return self._stores[folder]

    def knows(self, split: Split, folder: str) -> bool:
        """Returns whether the activations of all images of a split are known, in a cache folder or in memory."""
        try:
            keys = image_keys(split)
        except OSError:
            # Whoever decodes it will say which file cannot be read.
            return False
        return any(self.store(place).find(keys).all() for place in (folder, None))


class CachedDomains(collections.abc.Mapping):
    """Domains whose images are replaced by a trunk's activations, each domain when it is first asked for.

    Attributes:
        store: `ActivationStore` that the activations are taken from, and put into.
    """

    def __init__(self, trunk: keras.Model, images: dict[str, "DomainImages"], store: ActivationStore):
        """Takes the trunk's model and the `DomainImages` by side."""
        self._trunk, self._images, self.store = trunk, images, store
        self._replaced = {}

    def __iter__(self) -> Iterator[str]:
        return iter(self._images)

    def __len__(self) -> int:
        return len(self._images)

    def __getitem__(self, side: str) -> Domain:
        if side not in self._replaced:
            self._replaced[side] = self._replace(side)
        return self._replaced[side]

    def _replace(self, side):
        images = self._images[side]
        keys = {name: images.keys(name) for name in images.splits}
        # The same image may stand twice.
        distinct = list(dict.fromkeys(key for own in keys.values() for key in own))
        replicas = replicas_of(self._trunk)
        if replicas.num_workers > 1 and self.store.folder:
            # Each worker passes its share, and finds the others' in the folder; if that is not shared, it passes all.
            self._fill(side, keys, {key for key in distinct if key[0] % replicas.num_workers == replicas.worker})
            replicas.wait()
            self.store.look_again()
        self._fill(side, keys, set(distinct))
        splits = {
            name: dataclasses.replace(
                split, images=Pixels(self._read(keys[name])), views=len(keys[name]) // max(1, len(split))
            )
            for name, split in images.splits.items()
            if len(split)
        }
        return dataclasses.replace(images.domain, **splits)

    def _fill(self, side, keys, wanted):
        """Passes the images of a side through the trunk whose keys are wanted and not there."""
        total = int(np.sum(~self.store.find(list(wanted))))
        if not total:
            return
        interval = 0.2 if sys.stderr.isatty() else 10.0
        # It stays on the screen when it ends, unless it stands below a bar over several runs.
        bar = {"desc": f"{side} features", "unit": "image", "mininterval": interval, "leave": None}
        if not replicas_of(self._trunk).is_chief:
            # Not False for the chief: TQDM_DISABLE holds then.
            bar["disable"] = True
        with tqdm.tqdm(total=total, **bar) as bar:
            for name, own in keys.items():
                self._pass(self._images[side], name, own, wanted, bar.update)

    def _pass(self, images, name, keys, wanted, progress):
        """Passes the images of a split through the trunk that are wanted and not there; `keys` are of all views."""
        count = len(images.splits[name])
        # View after view, so that most batches are augmented as a whole or not at all.
        missing = np.flatnonzero(~self.store.find(keys)).tolist()
        entries = list({keys[entry]: entry for entry in missing if keys[entry] in wanted}.values())
        for start, pixels in images.read(name, entries, _BATCH):
            batch = entries[start : start + _BATCH]
            views = np.array(batch) // count
            pixels = tf.cast(pixels, tf.float32)
            if views.any():
                augmented = augment_each(pixels, images.draw_keys(name, batch), images.policy)
                pixels = tf.where(tf.constant(views > 0)[:, None, None, None], augmented, pixels)
            activations = np.asarray(predict(self._trunk, pixels), np.float32)
            if not np.isfinite(activations).all():
                raise InputError("`backbone` must give finite features. Received: NaN or infinite ones.")
            for entry, values in zip(batch, activations, strict=True):
                self.store.write(keys[entry], values)
            progress(len(batch))
        self.store.flush()

    def _read(self, keys):
        """Returns the activations as one array if there is room for it, else rows that are read when needed."""
        rows = self.store.rows(keys)
        most = available_memory() // 2 if self.store.folder else _COPIED_BYTES
        return np.asarray(rows) if rows.nbytes <= most else rows


class DomainImages:
    """The images of a domain, and the augmented views of its training images, by keys that any run can find again.

    A key depends on an image's content, the policy and the number of the view. So do the draws of an augmented view,
    and therefore runs with other seeds or other labels share it.

    Attributes:
        domain: `Domain` of images.
        policy: `AugmentationSpec` of the further views.
        splits: `Split` by name.
    """

    def __init__(self, domain: Domain, policy: AugmentationSpec, views: int):
        """Takes the number of views of a training image: itself, and augmented ones."""
        self.domain, self.policy = domain, policy
        self.splits = {name: domain.split(name) for name in ("train", "validation", "test")}
        self._views = {"train": views}
        self._keys = functools.cache(lambda name: image_keys(self.splits[name]))

    def __len__(self) -> int:
        return sum(self._views.get(name, 1) * len(split) for name, split in self.splits.items())

    def keys(self, name: str) -> list[bytes]:
        """Returns the key of each image of a split, then those of the second view of each, and so on."""
        views = range(1, self._views.get(name, 1))
        further = (_digest(key, self.policy.text, view) for view in views for key in self._keys(name))
        return [*self._keys(name), *further]

    def draw_keys(self, name: str, entries: list[int]) -> np.ndarray:
        """Returns the keys of the draws of augmented views at some positions in `keys`, int64 [b, 2]."""
        keys, count = self._keys(name), len(self.splits[name])
        drawn = [_digest("draws", keys[entry % count], entry // count) for entry in entries]
        return np.frombuffer(b"".join(drawn), np.int64).reshape(-1, 2)

    def read(self, name: str, entries: list[int], batch_size: int) -> Iterator[tuple[int, tf.Tensor]]:
        """Yields the images at positions in `keys` in batches, uint8 [b, H, W, C], each with its first place."""
        rows = np.array(entries, np.int64) % max(1, len(self.splits[name]))
        starts = range(0, len(rows), batch_size)
        yield from zip(
            starts, self.splits[name].read_all([rows[one : one + batch_size] for one in starts]), strict=True
        )


def image_keys(split: Split) -> list[bytes]:
    """Returns a key of each image of a split, by the bytes that it came as and how they are decoded."""
    origin = split.origin
    decoding = () if origin.is_decoded else (DECODER, split.crop_bottom)
    shape = tuple(map(int, split.item_shape))
    return [_digest(shape, decoding, digest) for digest in origin.digest(range(len(split)))]


def cache_trunk(
    trunk: FrozenTrunk, domains: dict[str, Domain], data: DataConfig, network: NetworkConfig, steps: dict[str, int]
) -> CachedDomains | None:
    """Replaces the images of domains by a trunk's activations, as at inference, which are kept for later runs.

    Nothing passes through the trunk before a domain is asked for.

    Args:
        trunk: `FrozenTrunk`.
        domains: `Domain` by side.
        data: Names the cache folder, the augmentation and the batch sizes.
        network: Says where activations are kept, and how many views.
        steps: Steps that train on each side.

    Returns:
        Domains of activations, or None if `network` leaves the choice and there is no room for them.

    Raises:
        InputError: If there is no room where the activations are to be kept.
    """
    images, needed = {}, 0
    row_bytes = 4 * math.prod(trunk.model.output.shape[1:])
    for side, domain in domains.items():
        policy = data.augmentation[side]
        # Passes over the images would not see more views.
        passes = math.ceil(count_passes(domain, getattr(data, f"{side}_batch"), steps[side]))
        images[side] = DomainImages(
            domain, policy, min(network.cached_views, max(1, passes)) if policy.operations else 1
        )
        needed += row_bytes * len(images[side]) if steps[side] else 0
    trained = [one for side, one in images.items() if steps[side]]
    folder = data.cache_dir or default_cache_folder(data.data_root)
    store = _open_store(trunk, network, folder, needed, lambda: (key for one in trained for key in _all_keys(one)))
    return store and CachedDomains(trunk.model, images, store)


def _open_store(trunk, network, folder, needed: int, all_keys: Callable) -> ActivationStore | None:
    """Returns the store that holds `needed` bytes of activations as `cache_features` says; None if none has room."""
    place, shape = network.cache_features, trunk.model.output.shape[1:]
    fits_limit = needed <= network.cache_limit_gib * 2**30
    if place == "disk" or (place == "auto" and fits_limit):
        store = trunk.store(folder)
        missing = store.row_bytes * int(np.sum(~store.find(list(all_keys()))))
        try:
            if missing:
                _check_is_writable(folder)
                check_room(folder, missing, "cache_dir", "another folder, or --cache_features=memory")
            return store
        except InputError:
            if place == "disk":
                raise
    available = available_memory()
    if needed <= available:
        return trunk.store(None)
    received = f"{needed >> 20} MiB of activations {list(shape)}"
    if place == "memory":
        raise InputError(
            f"`cache_features`=memory must have room for the activations. Received: {received}, {available >> 20} MiB "
            "of memory. Hint: --cache_features=disk, fewer --cached_views, or a later --freeze_until."
        )
    logging.warning(
        "activations are not cached, so all steps pass the frozen layers: %s fit neither into %d MiB of memory nor, "
        "with --cache_limit_gib=%g, on the disk of %r.",
        *(received, available >> 20, network.cache_limit_gib, folder),
    )
    return None


def _all_keys(images):
    return [key for name in images.splits for key in images.keys(name)]


def _check_is_writable(folder):
    if not os.access(nearest_existing(folder), os.W_OK | os.X_OK):
        raise InputError(f"`cache_dir` must be a folder that can be written. Received: {str(folder)!r}.")


def _digest(*parts):
    return hashlib.blake2b(repr(parts).encode(), digest_size=KEY_BYTES).digest()
