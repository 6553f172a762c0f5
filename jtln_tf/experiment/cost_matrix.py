"""The class cost matrix of a configuration, apart from any training."""

import dataclasses
from collections.abc import Callable

import keras

from jtln_tf.backbones import identify_backbone, is_untrained
from jtln_tf.costs.config import check_cost_files
from jtln_tf.costs.construction import build_cost_matrix
from jtln_tf.costs.matrix import CostMatrix
from jtln_tf.experiment.assembly import build_run_network, load_run_domains, load_trained
from jtln_tf.experiment.config import ExperimentConfig
from jtln_tf.experiment.workdir import Run
from jtln_tf.features.layers import layer_model
from jtln_tf.features.start import gather_class_sums, start_neck
from jtln_tf.methods.jtln.costs import warn_of_untrained_backbone
from jtln_tf.network import features_model, predictions_model


def build_costs(
    config: ExperimentConfig, *, workdir: str = "", cache: str = "", progress: Callable | None = None
) -> CostMatrix:
    """Builds the cost matrix of a configuration.

    Args:
        config: Configuration with both domains named.
        workdir: Folder of a trained run, whose network the metrics look through, at its image size and channels. Its
            head for the source classes, if it has one, is the classifier of `prediction`. Empty takes the backbone of
            the configuration.
        cache: Folder in which features are kept; empty keeps none.
        progress: Called with a title, the images done and all images, or None.

    Raises:
        InputError: If the configuration does not fit the data, or the folder holds no trained run.
    """
    check_cost_files(config.cost)
    # An untrained backbone begins with the weights of a run with this seed.
    keras.utils.set_random_seed(config.training.seed)
    if workdir:
        config, domains, features, classifier = _look_through_run(config, workdir)
    else:
        # Metrics that look at no network must work on a machine without a pretrained one.
        config = config.resolve() if config.cost.matrix.looks_through_network else config
        domains, features, classifier = load_run_domains(config), None, None
        if config.cost.matrix.looks_through_network:
            network = build_run_network(config, domains)
            if config.network.has_neck:
                sums = gather_class_sums(network, domains)
                start_neck(network, sums, is_whitened=config.network.neck == "whitened")
            features = features_model(network)
            if is_untrained(config.network):
                warn_of_untrained_backbone(config.cost.matrix.text)
    return build_cost_matrix(
        *domains.values(),
        config.cost,
        features_model=None if features is None else layer_model(features, config.cost.layer),
        source_classifier=classifier,
        augmentation=config.data.augmentation,
        backbone=identify_backbone(config.network),
        seed=config.training.seed,
        cache=cache,
        progress=progress,
    )


def _look_through_run(config, workdir):
    run = Run.open(workdir)
    network, run_domains = load_trained(run)
    size, channels = run_domains["target"].image_shape[1:]
    data = dataclasses.replace(config.data, image_size=size, channels=channels)
    config = dataclasses.replace(config, data=data, network=run.config.network)
    domains = load_run_domains(config)
    # The source head first, if both have these names: the target head knows the images that it would vote on.
    heads = [side for side, domain in run_domains.items() if domain.class_names == domains["source"].class_names]
    classifier = predictions_model(network, heads[0]) if heads else None
    return config, domains, features_model(network), classifier
