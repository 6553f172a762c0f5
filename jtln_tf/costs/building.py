"""A cost matrix specification to the matrix: its metrics and files, centred, scaled, combined, and where it is from."""

import numpy as np
from absl import logging

from jtln_tf.config import SIDES, InputError
from jtln_tf.costs.config import CostConfig
from jtln_tf.costs.evidence import Evidence
from jtln_tf.costs.matrix import CostMatrix, load_cost_matrix
from jtln_tf.costs.metrics.class_means import class_means_cost
from jtln_tf.costs.metrics.compute import METRICS
from jtln_tf.costs.scaling import centre, scale
from jtln_tf.costs.spec import ONLINE, parse_cost_spec


def build_cost_matrix(
    source,
    target,
    metric="mkmmd",
    *,
    features_model=None,
    source_classifier=None,
    augment=None,
    backbone="",
    seed=0,
    cache="",
    cache_key=None,
    progress=None,
    **options,
):
    """Builds the class cost matrix of two domains, from their training images or from what is known of their classes.

    The values of a metric are centred and scaled (`cost_centring`, `cost_scale`); `uniform` is 0 for classes of the
    same name, else 1. A file is taken as it is, its rows and columns put in order by name. In a combination each part
    is centred and scaled, and so is their weighted sum. Of the metrics only `text`, `taxonomy` and `uniform` look at
    class names.

    Args:
        source: Source `Domain`; its classes are the rows.
        target: Target `Domain`; its classes are the columns.
        metric: A metric, a file, or several: see `parse_cost_spec`.
        features_model: Maps images in 0..255 to features [B, D]; None compares the pixels.
        source_classifier: Maps images in 0..255 to probabilities of the source classes, for `prediction`; None fits a
            logistic regression to the features.
        augment: By side, `source` or `target`: `augment[side](images, step=n)` maps the n-th batch of uint8 images to
            augmented float32 ones. A class with fewer images is then filled up with views of them: the distances
            between classes of few labels get steadier.
        backbone: What the features come from, written into the matrix; a file from another backbone is refused.
        seed: Of the order of a `shuffled:` matrix.
        cache: Folder in which features are kept, so that a killed call goes on where it was; empty keeps none.
        cache_key: By side, the text that `augment[side]` follows; goes into the names of the kept files.
        progress: Called with a title, the images done and all images; or None.
        **options: Fields of `CostConfig` without their `cost_`, such as `images_per_class` or `centring`.

    Returns:
        `CostMatrix` in the order of the two domains' classes.

    Raises:
        InputError: If the metric is unknown, an option does not fit, or a file does not fit the domains.
    """
    settings = CostConfig(matrix=metric, **options)
    spec = parse_cost_spec(metric)
    unknown = [name for name in spec.metrics if name not in METRICS]
    if unknown:
        raise InputError(f"`metric` must be a file or one of {', '.join(METRICS)}. Received: {metric!r}.")
    unknown = [side for side in augment or {} if not (cache_key or {}).get(side)]
    if cache and unknown:
        raise InputError(
            "`cache_key` must tell what `augment` follows where a `cache` is given. "
            f"Received: nothing for {unknown[0]}."
        )
    evidence = Evidence(
        {"source": source, "target": target},
        settings,
        features_model,
        source_classifier,
        augment or {},
        cache,
        cache_key or {},
        progress,
    )
    is_alone = len(spec.terms) == 1
    parts = [_build_term(name, evidence, backbone, is_alone) for _, name in spec.terms]
    values, parameters = parts[0].values, parts[0].parameters
    if not is_alone:
        weights = [weight for weight, _ in spec.terms]
        values = scale(sum(weight * part.values for weight, part in zip(weights, parts, strict=True)), settings.scale)
        described = [
            {"weight": weight, "name": name, **part.parameters}
            for (weight, name), part in zip(spec.terms, parts, strict=True)
        ]
        parameters = {"parts": described, "scale": settings.scale}
    if np.ptp(values) == 0:
        logging.warning("the costs by %r are all equal: they tell nothing of how classes are related.", metric)
    if spec.is_shuffled:
        values, parameters = _shuffle(values, seed), {**parameters, "shuffle_seed": seed}
    return CostMatrix(
        values,
        source.class_names,
        target.class_names,
        metric,
        parameters,
        # What any part was built from binds the whole.
        backbone=next((part.backbone for part in parts if part.backbone), ""),
        data=next((part.data for part in parts if part.data), {}),
    )


def build_online_costs(source, target, source_means, target_means, settings):
    """Builds the cost matrix from running class means, as training gathers them.

    Args:
        source: Source `Domain`.
        target: Target `Domain`.
        source_means: Mean features of the source classes [n, D]; NaN where no image of a class has been seen.
        target_means: Mean features of the target classes [m, D], likewise.
        settings: `CostConfig`.

    Returns:
        `CostMatrix`.
    """
    raw = class_means_cost(source_means, target_means)
    values = scale(centre(raw, settings.centring), settings.scale, float(np.abs(raw).max()))
    parameters = {
        "features": "source_predictions",
        "memory_steps": settings.refresh_steps,
        "centring": settings.centring,
        "scale": settings.scale,
    }
    data = {side: _describe_domain(domain) for side, domain in zip(SIDES, (source, target), strict=True)}
    return CostMatrix(values, source.class_names, target.class_names, ONLINE, parameters, data=data)


def check_provenance(matrix, source, target, backbone):
    """Checks that a matrix from a file was built from the training images, and by the backbone, that it is used with.

    A matrix without provenance, from a `.csv` or another program, passes: it is its author who knows.

    Raises:
        InputError: If it was built from others; the message tells what differs.
    """
    hint = "Hint: build it again, or save it as .csv, which is taken as it is."
    for side, domain in (("source", source), ("target", target)):
        built, present = matrix.data.get(side), _describe_domain(domain)
        if built and built.get("fingerprint") != present["fingerprint"]:
            raise InputError(
                f"`cost_matrix` must be built from the {side} training images of this run: {present['images']} images "
                f"of {present['domain']!r} ({present['fingerprint']}). Received: {built.get('images')} images of "
                f"{built.get('domain')!r} ({built.get('fingerprint')}). {hint}"
            )
    if matrix.backbone and backbone and matrix.backbone != backbone:
        raise InputError(
            f"`cost_matrix` must be built by the backbone of this run, {backbone!r}. Received: one by "
            f"{matrix.backbone!r}. {hint}"
        )


def _build_term(name, evidence, backbone, is_alone):
    """Returns a part of a specification as a `CostMatrix`."""
    settings, source, target = evidence.settings, *(evidence.domains[side] for side in SIDES)
    if name in METRICS:
        spec, (values, parameters) = parse_cost_spec(name), METRICS[name](evidence)
        backbone = backbone if spec.looks_through_network else ""
        data = {side: _describe_domain(evidence.domains[side]) for side in SIDES} if spec.looks_at_images else {}
    else:
        matrix = load_cost_matrix(name).align(source.class_names, target.class_names)
        check_provenance(matrix, source, target, backbone)
        values, parameters = matrix.values, {**matrix.parameters, "file_metric": matrix.metric}
        backbone, data = matrix.backbone, matrix.data
    if not (is_alone and (name == "uniform" or name not in METRICS)):
        unit = float(np.abs(values).max())
        values = scale(centre(values, settings.centring), settings.scale, unit)
        parameters = {**parameters, "centring": settings.centring, "scale": settings.scale}
    return CostMatrix(values, source.class_names, target.class_names, name, parameters, backbone, data)


def _shuffle(values, seed):
    # Each class takes the row of the next in a random circle: none keeps its own.
    circle = np.random.default_rng(seed).permutation(len(values))
    shuffled = np.empty_like(values)
    shuffled[circle] = values[np.roll(circle, 1)]
    return shuffled


def _describe_domain(domain):
    return {"domain": domain.name, "fingerprint": domain.fingerprint, "images": len(domain.train)}
