"""A frozen trunk that looks at every image once, before training."""

import dataclasses
import functools
import hashlib
import json
import math
import os
import sys

import numpy as np
import tqdm

from jtln_tf.batches import augment_images, count_passes
from jtln_tf.config import parse_augmentation
from jtln_tf.data import default_cache_folder
from jtln_tf.features import extract_activations
from jtln_tf.network import SIDES
from jtln_tf.trainer import plan_stages


def cache_trunk(config, trunk, source, target):
    """Computes what the layers up to `freeze_until` make of the images of both domains.

    The trunk is computed as at inference: its dropout layers do nothing.

    Args:
        config: `ExperimentConfig` with `cache_features`.
        trunk: The first part of the network, as `cut_network` returns it.
        source: Source `Domain`.
        target: Target `Domain`.

    Returns:
        Source and target `Domain` with the trunk's activations in place of training and validation images.
    """
    stages = plan_stages(config.training.method, config.training.steps)
    batches = {"source": config.data.source_batch, "target": config.data.target_batch}
    domains = []
    for side, domain in zip(SIDES, (source, target), strict=True):
        steps = sum(stage.steps for stage in stages if side in stage.domains)
        if steps:
            # More views than passes would not be seen.
            passes = math.ceil(count_passes(domain, batches[side], steps))
            policy = getattr(config.data, f"{side}_augmentation")
            views = min(config.network.cached_views, passes) if parse_augmentation(policy).operations else 1
            domain = _with_activations(config, side, domain, trunk, views, policy)
        domains.append(domain)
    return tuple(domains)


def _with_activations(config, side, domain, trunk, views, policy):
    data, augmentation = config.data, {"policy": policy, "seed": config.training.seed}
    folder = (data.cache_dir or default_cache_folder(data.data_root)) if data.cache == "disk" else ""
    total = views * len(domain.train) + len(domain.validation)
    interval = 0.2 if sys.stderr.isatty() else 10.0
    with tqdm.tqdm(total=total, desc=f"{side} trunk", unit="image", mininterval=interval, dynamic_ncols=True) as bar:
        extract = functools.partial(extract_activations, trunk, folder=folder, progress=bar.update)
        splits = {"validation": extract(domain.validation, key=_identify(domain.validation))}
        key = _identify(domain.train) + (json.dumps(augmentation) if views > 1 else "")
        augment = functools.partial(augment_images, **augmentation)
        splits["train"] = extract(domain.train, views=views, augment=augment, key=key)
    return dataclasses.replace(domain, **splits)


def _identify(split):
    """Returns a text that follows the images of a split that is kept on the disk."""
    if isinstance(split.images, np.memmap):
        # Its name follows its content.
        return os.path.basename(split.images.filename)
    return hashlib.sha256(np.ascontiguousarray(split.images).data).hexdigest() if split.is_decoded else ""
