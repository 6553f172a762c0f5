"""What settings are tried on: the validation images of the target, or transfers made of source classes alone."""

import dataclasses
from collections.abc import Sequence

import numpy as np

from jtln_tf.config import InputError
from jtln_tf.data.domain import divide_domain
from jtln_tf.experiment.config import ExperimentConfig

# An accuracy on fewer images has a standard error of over 7 points.
_LEAST_VALIDATION = 50
_LEAST_CLASSES = 4


def choose_trial_data(config: ExperimentConfig) -> str:
    """Returns `validation` if the target has 50 validation images or more, else `episodes`."""
    _, target = _divide(config)
    return "validation" if len(target.splits["validation"]) >= _LEAST_VALIDATION else "episodes"


def make_trial_configs(config: ExperimentConfig, trial_data: str, seeds: Sequence[int]) -> list[ExperimentConfig]:
    """Returns the configurations of the runs by which one choice of settings is judged, one for each seed.

    An episode is a transfer between classes of the source: half of them at most, drawn by the seed, play the target,
    with as many labels a class as the real one has, and the others the source. No image of the target is looked at.

    Args:
        config: Configuration whose settings are judged.
        trial_data: `validation` trains on the domains themselves, `episodes` on such transfers.
        seeds: Seeds of the runs.

    Raises:
        InputError: If there are no validation images, or too few source classes.
    """
    source, target = _divide(config)
    if trial_data == "validation":
        _require_validation(target)
        return [_with(config, seed) for seed in seeds]
    names = source.listing.class_names
    if len(names) < _LEAST_CLASSES:
        raise InputError(
            f"`tuned_on`=episodes needs at least {_LEAST_CLASSES} source classes. Received: {len(names)}. Hint: "
            "--tuned_on=validation, with validation images of the target."
        )
    _require_validation(source)
    num_targets = min(len(target.listing.class_names), len(names) // 2)
    labels = config.data.labels_per_class or config.data.target.per_class
    labels = labels or max(1, len(target.splits["train"]) // len(target.listing.class_names))
    configs = []
    for seed in seeds:
        order = np.random.default_rng(seed).permutation(len(names))
        few, many = ([names[place] for place in sorted(part)] for part in np.split(order, [num_targets]))
        spec = config.data.source
        data = {"source": spec.with_classes(many), "target": spec.with_classes(few, keeps_per_class=False)}
        configs.append(_with(config, seed, labels_per_class=labels, **data))
    return configs


def _with(config, seed, **data):
    training = dataclasses.replace(config.training, seed=seed, early_stopping_epochs=0)
    return dataclasses.replace(config, data=dataclasses.replace(config.data, **data), training=training)


def _divide(config):
    data, places = config.data, {"data_root": config.data.data_root, "cache_dir": config.data.cache_dir}
    return [divide_domain(spec, **places) for spec in (data.source, data.target.with_labels(data.labels_per_class))]


def _require_validation(domain):
    if not len(domain.splits["validation"]):
        raise InputError(
            f"Settings are judged by validation images. Received: {domain.spec.text!r} without any. Hint: "
            "?validation_fraction=0.3 behind the domain."
        )
