"""Two domains and features to a class cost matrix. Floor 3."""

import pathlib

from jtln_tf.config import COST_METRICS, InputError
from jtln_tf.costs import (
    CostMatrix,
    dual_centre,
    load_cost_matrix,
    mkmmd_cost,
    scale_to_unit_range,
    uniform_cost,
)
from jtln_tf.features import extract_class_features


def build_cost_matrix(source, target, metric="mkmmd", *, features_model=None, images_per_class=50, augment=None):
    """Builds the class cost matrix of two domains from their training images.

    `mkmmd` never looks at class names: it is centred by the classes' own transport (see `dual_centre`) and scaled to
    [0, 1]. `uniform` is 0 for classes of the same name, else 1.

    Args:
        source: Source `Domain`; its classes are the rows.
        target: Target `Domain`; its classes are the columns.
        metric: `mkmmd`, `uniform`, or the path of a `.npz` or `.csv` file, whose rows and columns are put in order.
        features_model: Maps images in 0..255 to features [B, D]; None compares the pixels.
        images_per_class: Most training images of a class that `mkmmd` looks at.
        augment: `augment(images, step=n)` maps the n-th batch of uint8 images to augmented float32 ones. A class with
            fewer images is then filled up with views of them: the distances between classes of few labels get steadier.

    Returns:
        `CostMatrix` in the order of the two domains' classes.

    Raises:
        InputError: If the metric is unknown or a file does not fit the domains.
    """
    if pathlib.Path(metric).suffix in (".npz", ".csv"):
        return load_cost_matrix(metric).align(source.class_names, target.class_names)
    builders = {"mkmmd": _build_mkmmd, "uniform": _build_uniform}
    if metric not in builders:
        raise InputError(f"`metric` must be a file or one of {', '.join(COST_METRICS)}. Received: {metric!r}.")
    values, parameters = builders[metric](source, target, features_model, images_per_class, augment)
    return CostMatrix(values, source.class_names, target.class_names, metric, parameters)


def _build_uniform(source, target, features_model, images_per_class, augment):
    del features_model, images_per_class, augment
    return uniform_cost(source.class_names, target.class_names), {}


def _build_mkmmd(source, target, features_model, images_per_class, augment):
    source_features, source_labels = extract_class_features(features_model, source.train, images_per_class, augment)
    target_features, target_labels = extract_class_features(features_model, target.train, images_per_class, augment)
    values = mkmmd_cost(
        source_features,
        source_labels,
        target_features,
        target_labels,
        num_source_classes=source.num_classes,
        num_target_classes=target.num_classes,
    )
    parameters = {
        "images_per_class": images_per_class,
        "features": "pixels" if features_model is None else features_model.name,
        "augmented": augment is not None,
        "centring": "dual",
        "scale": "range",
    }
    return scale_to_unit_range(dual_centre(values)), parameters
