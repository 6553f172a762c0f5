"""Evaluates the network of a run on labelled images that it need not have seen, with the preprocessing of the run."""

import dataclasses
import difflib
import urllib.parse
from typing import NamedTuple

import numpy as np
import tensorflow as tf
from absl import logging

from jtln_tf.config import SIDES, DomainSpec, InputError, domain_of_path, parse_domain_spec
from jtln_tf.data import (
    Domain,
    Examples,
    Split,
    decode_all,
    decode_or_explain,
    divide_domain,
    find_shared,
    list_domain,
    open_split,
    to_png,
)
from jtln_tf.data.lost_images import tell_lost_images
from jtln_tf.evaluation import Evaluation, evaluate
from jtln_tf.experiment.assembly import load_network
from jtln_tf.experiment.config import ExperimentConfig
from jtln_tf.experiment.workdir import Run
from jtln_tf.files import default_cache_folder, first_line

# In a message; there may be thousands.
_NAMED_CLASSES = 5


class NewEvaluation(NamedTuple):
    """What was found on new images.

    Attributes:
        result: `Evaluation`, with all classes of the head.
        names: Name of each image that was read, in the order of the positions in `result.mistakes`.
        not_read: Why an image was left out, by its name.
        trained_on: How many of the images are also training images of the run, by side; None if that was not compared.
    """

    result: Evaluation
    names: list[str]
    not_read: dict[str, str]
    trained_on: dict[str, int | None]


def evaluate_new(run: Run, target: str, *, head: str = "target", split: str | None = None) -> NewEvaluation:
    """Evaluates a head of a run's network on the images of a domain; writes nothing into the run's folder.

    Args:
        run: A run with a checkpoint.
        target: Specification, or path, of a domain. Its classes are those of the head by name; the head may have more.
        head: `source` or `target`.
        split: `train`, `validation` or `test`, divided as for a run; None takes all images of the domain.

    Raises:
        InputError: If classes of the domain are unknown to the head, or no image can be read.
    """
    spec = parse_domain_spec(domain_of_path(target))
    examples, names = _list_examples(run.config, spec, split)
    known = run.read_classes()[head]
    labels = _match_classes(examples, names, known, spec)
    network, _ = load_network(run)
    _, size, _, channels = network.input_shape
    own = getattr(run.config.data, head)
    # A specification may crop in another way, or not at all.
    crop_bottom = spec.crop_bottom if "crop_bottom=" in spec.text else own.crop_bottom
    examples = dataclasses.replace(examples, labels=labels)
    images = open_split(examples, size, channels, crop_bottom=crop_bottom)
    bad = decode_all(images)
    not_read = {str(examples.names[row]): _explain(images, row) for row in bad}
    good = np.setdiff1d(np.arange(len(images)), bad)
    images = images.take(good)
    if not len(images):
        raise InputError(f"`target` must have images that can be read. Received: none of {len(bad)} in {spec.text!r}.")
    nothing = images.take([])
    domain = Domain(spec.text, tuple(known), nothing, nothing, images, len(bad))
    with tell_lost_images(domain):
        result = evaluate(network, domain, split="test", head=head)
    names = [str(examples.names[row]) for row in good]
    return NewEvaluation(result, names, not_read, _count_trained_on(run.config, images))


def _list_examples(config, spec, split):
    """Returns the `Examples` of a domain, in one split or all, and its class names."""
    data = config.data
    # Paths that a person types now do not start where those of the run did.
    folders = {
        "data_root": data.data_root if spec.kind == "tfds" else "",
        "cache_dir": data.cache_dir or default_cache_folder(data.data_root),
    }
    if split:
        divided = divide_domain(spec, seed=config.training.seed, **folders)
        return divided.splits[split], divided.listing.class_names
    if spec.per_class:
        raise InputError(f"`split` must be given to draw images per class. Received: {spec.text!r}.")
    listing = list_domain(spec, **folders)
    parts = list(listing.splits.values())
    # Splits of one domain differ only in the entries.
    images = dataclasses.replace(
        parts[0].images, values=np.concatenate([part.images.values for part in parts if len(part)])
    )
    labels, names = (np.concatenate([getattr(part, name) for part in parts]) for name in ("labels", "names"))
    return Examples(images, labels, names), listing.class_names


def _match_classes(examples, names, known, spec):
    """Returns the labels [N] in the classes that a head knows."""
    positions = {name: position for position, name in enumerate(known)}
    unknown = [names[label] for label in np.unique(examples.labels) if names[label] not in positions]
    if unknown:
        named = ", ".join(map(repr, unknown[:_NAMED_CLASSES]))
        more = f" and {len(unknown) - _NAMED_CLASSES} more" if unknown[_NAMED_CLASSES:] else ""
        near = ", ".join(map(repr, difflib.get_close_matches(unknown[0], known, 3, 0.0)))
        left_out = ",".join(urllib.parse.quote(name, safe=" /") for name in unknown[:_NAMED_CLASSES])
        raise InputError(
            f"`target` must have classes that the run knows, such as {near}. Received: {named}{more} in {spec.text!r}. "
            f"Hint: exclude={left_out}{',...' if more else ''} leaves them out."
        )
    return np.array([positions.get(name, -1) for name in names], np.int32)[examples.labels]


def _explain(split, row):
    """Returns why an image cannot be read, in the words of an export if it has some."""
    try:
        (content,) = split.origin.contents([row])
        content = tf.constant([to_png(content)])
    except (OSError, ValueError) as error:
        return getattr(error, "strerror", None) or first_line(error)
    _, reasons = decode_or_explain(content, split.image_size, split.channels, split.crop_bottom)
    return reasons.numpy()[0].decode() or split.find_reason(row)


def _count_trained_on(config: ExperimentConfig, images: Split) -> dict[str, int | None]:
    """Counts the images that are also training images of a run, by side; None where its data is gone."""
    data, counts = config.data, {}
    specs: dict[str, DomainSpec] = {"source": data.source, "target": data.target.with_labels(data.labels_per_class)}
    for side in SIDES:
        try:
            divided = divide_domain(
                specs[side], data_root=data.data_root, cache_dir=data.cache_dir, seed=config.training.seed
            )
            train = open_split(divided.splits["train"], images.image_size, images.channels)
            rows = find_shared(images, train)
        except (InputError, OSError) as error:
            logging.warning("did not compare the images with the %s's training images: %s", side, first_line(error))
            rows = None
        counts[side] = None if rows is None else len(rows)
    return counts
