"""Construction of cost matrices: metrics and files, centred, scaled and combined, with where they come from."""

import dataclasses
from collections.abc import Callable

import keras
import numpy as np
from absl import logging

from jtln_tf.config import AugmentationSpec, InputError
from jtln_tf.costs.config import CostConfig, check_cost_files
from jtln_tf.costs.evidence import Evidence
from jtln_tf.costs.matrix import TRANSPOSED_FILE, CostMatrix, load_cost_matrix
from jtln_tf.costs.metrics import METRICS
from jtln_tf.costs.numerics.class_means import class_means_cost
from jtln_tf.costs.provenance import check_provenance, describe_domain
from jtln_tf.costs.scaling import centre, scale
from jtln_tf.costs.spec import ONLINE
from jtln_tf.data.domain import Domain
from jtln_tf.features.views import choose_augmentation


def build_cost_matrix(
    source: Domain,
    target: Domain,
    metric: str | CostConfig = CostConfig.matrix,
    *,
    features_model: keras.Model | None = None,
    source_classifier: keras.Model | None = None,
    augmentation: dict[str, str | AugmentationSpec] | None = None,
    backbone: str = "",
    seed: int = 0,
    cache: str = "",
    progress: Callable[[str, int, int], None] | None = None,
    **options,
) -> CostMatrix:
    """Builds the class cost matrix of two domains, its rows and columns in the order of their classes.

    A metric looks at the training images, or at what is known of the classes (`text`, `taxonomy`, `uniform`).

    Args:
        source: Source `Domain`; its classes are the rows.
        target: Target `Domain`; its classes are the columns.
        metric: A metric, a file, or several (see `parse_cost_spec`); or a `CostConfig`.
        features_model: Maps images in 0..255 to features [B, D]; None compares the pixels.
        source_classifier: Maps images in 0..255 to probabilities of the source classes; None fits one.
        augmentation: Policy by side, `source` or `target`; classes of few images are filled up with augmented views.
        backbone: Name of what the features come from, kept in the matrix; a file from another one is refused.
        seed: Seed of the augmentation and of the order of a `shuffled:` matrix.
        cache: Folder that keeps features, so that a call goes on where a killed one was; empty keeps none.
        progress: Called with a title, the images done and all images; or None.
        **options: Fields of `CostConfig`, such as `images_per_class` or `centring`.

    Raises:
        InputError: If the metric is unknown, an option does not fit, or a file does not fit the domains.

    Examples:
        >>> import jtln_tf as jt
        >>> source = jt.load_domain("builtin:mnist5k?classes=0,1&per_class=20")
        >>> target = jt.load_domain("builtin:optdigits?classes=0,1&per_class=10", image_size=28)
        >>> jt.build_cost_matrix(source, target).nearest(1)
        {'0': ['0'], '1': ['1']}
    """
    cost = _read_options(metric, options)
    check_cost_files(cost)
    domains = {"source": source, "target": target}
    views = _choose_augmentations(domains, augmentation or {}, seed)
    evidence = Evidence(domains, cost, features_model, source_classifier, views, cache, progress)
    matrix = _combine(cost, [_build_term(name, evidence, backbone) for _, name in cost.matrix.terms])
    if np.ptp(matrix.values) == 0:
        logging.warning("the costs by %r are all equal: they do not say how classes are related.", matrix.metric)
    return _shuffle(matrix, seed) if cost.matrix.is_shuffled else matrix


def build_online_costs(
    source: Domain, target: Domain, source_means: np.ndarray, target_means: np.ndarray, cost: CostConfig
) -> CostMatrix:
    """Builds the cost matrix from running class means [n, D] and [m, D], as training gathers them.

    They are NaN for a class of which no image has been seen.
    """
    values, scaling = _standardize(class_means_cost(source_means, target_means), cost)
    parameters = {"features": "source_predictions", "memory_steps": cost.refresh_steps, **scaling}
    data = {"source": describe_domain(source), "target": describe_domain(target)}
    return CostMatrix(values, source.class_names, target.class_names, ONLINE, parameters, data=data)


def _read_options(metric, options):
    if not isinstance(metric, CostConfig):
        metric = CostConfig.from_values({"matrix": metric, **options})
    elif options:
        raise InputError(f"`options` must be empty with a `CostConfig`. Received: {', '.join(options)}.")
    if metric.matrix.is_online:
        raise InputError(f"`metric` must be a file or one of {', '.join(METRICS)}. Received: {ONLINE!r}.")
    return metric


def _choose_augmentations(domains, policies, seed):
    views = {}
    for side, policy in policies.items():
        if side not in domains:
            raise InputError(f"`augmentation` must have the keys source and target. Received: {side!r}.")
        views[side] = choose_augmentation(domains[side].train, policy, seed, f"{side}_augmentation")
    return {side: augmentation for side, augmentation in views.items() if augmentation}


def _build_term(name, evidence, backbone):
    cost, domains = evidence.cost, evidence.domains
    source, target = domains.values()
    is_alone = len(cost.matrix.terms) == 1
    if name in METRICS:
        metric = METRICS[name]
        values, parameters = metric.compute(evidence)
        is_final, looks_at = is_alone and not metric.is_scaled, metric.looks_at
        backbone = backbone if looks_at == "network" else ""
        data = {side: describe_domain(domain) for side, domain in domains.items()} if looks_at != "classes" else {}
    else:
        file = _load_file(name, source, target)
        check_provenance(file, source, target, backbone)
        values, parameters, is_final = file.values, {**file.parameters, "file_metric": file.metric}, is_alone
        if is_alone and not _is_in_unit(file):
            divisor = float(values.max())
            logging.warning(
                "%r holds costs up to %g, but `epsilon` is meant for costs up to 1: all were divided by %g.",
                *(name, divisor, divisor),
            )
            values, parameters = values / divisor, {**parameters, "divided_by": divisor}
        backbone, data = file.backbone, file.data
    if not is_final:
        values, scaling = _standardize(values, cost)
        parameters = {**parameters, **scaling}
    return CostMatrix(values, source.class_names, target.class_names, name, parameters, backbone, data)


def _load_file(name, source, target):
    file, names = load_cost_matrix(name), (source.class_names, target.class_names)
    aligned = file.align(*names)
    # The names outweigh what the corner of a table says.
    if (file.metric == TRANSPOSED_FILE) != file.is_transposed(*names):
        logging.warning("%r has a row for each target class, not for each source class: it was transposed.", name)
    return aligned


def _is_in_unit(file):
    # What this program scaled by another statistic than the maximum is in the unit that was asked for.
    return "scale" in file.parameters or file.values.max(initial=0) <= 1 + 1e-6


def _standardize(values, cost):
    scaled = scale(centre(values, cost.centring), cost.scale, unit=float(np.abs(values).max()))
    return scaled, {"centring": cost.centring, "scale": cost.scale}


def _combine(cost, parts):
    if len(parts) == 1:
        return dataclasses.replace(parts[0], metric=cost.matrix.text)
    weighted = [(weight, part) for (weight, _), part in zip(cost.matrix.terms, parts, strict=True)]
    described = [{"weight": weight, "name": part.metric, **part.parameters} for weight, part in weighted]
    return dataclasses.replace(
        parts[0],
        values=scale(sum(weight * part.values for weight, part in weighted), cost.scale),
        metric=cost.matrix.text,
        parameters={"parts": described, "scale": cost.scale},
        # What any part was built from binds the whole.
        backbone=next((part.backbone for part in parts if part.backbone), ""),
        data=next((part.data for part in parts if part.data), {}),
    )


def _shuffle(matrix, seed):
    # Each class takes the row of the next one in a random circle, so none keeps its own.
    circle = np.random.default_rng(seed).permutation(len(matrix.values))
    values = np.empty_like(matrix.values)
    values[circle] = matrix.values[np.roll(circle, 1)]
    return dataclasses.replace(matrix, values=values, parameters={**matrix.parameters, "shuffle_seed": seed})
