"""A configuration to the domains, the network, the model and the costs that it describes."""

import dataclasses
import functools
import pathlib

from jtln_tf import workdir as files
from jtln_tf.config import InputError
from jtln_tf.cost_building import build_cost_matrix
from jtln_tf.domains import load_domain
from jtln_tf.network import build_network, features_model
from jtln_tf.pairing import augment_images
from jtln_tf.trainer import JointModel, restore_network


def load_domains(config):
    """Loads the `(source, target)` domains of a configuration at one image size.

    Raises:
        InputError: If a domain does not fit its specification.
    """
    data = config.data
    is_builtin = data.source.startswith("builtin:") and data.target.startswith("builtin:")
    usual_size = 28 if is_builtin else 227 if config.network.backbone == "alexnet" else 224
    load = functools.partial(
        load_domain,
        seed=config.training.seed,
        image_size=data.image_size or usual_size,
        channels=data.channels,
        data_root=data.data_root,
        cache=data.cache,
        skip_bad_images=data.skip_bad_images,
    )
    return load(data.source), load(data.target, labels_per_class=data.labels_per_class or None)


def build_network_for(config, source, target):
    """Builds the untrained network of a configuration for two domains."""
    network = config.network
    return build_network(
        network.backbone,
        source.num_classes,
        target.num_classes,
        image_shape=target.image_shape,
        weights=network.weights,
        pixel_range=network.pixel_range,
        freeze_until=network.freeze_until,
        head_hidden_units=network.head_hidden_units,
        head_dropout=network.head_dropout,
    )


def load_trained_network(workdir):
    """Loads the network of a run with its domains, for evaluation or export.

    Returns:
        `(config, network, source, target)`.

    Raises:
        InputError: If the folder holds no run, or no checkpoint.
    """
    config = files.read_config(workdir)
    source, target = load_domains(config)
    files.check_classes(workdir, {"source": source.class_names, "target": target.class_names})
    network = build_network_for(config, source, target)
    if not restore_network(pathlib.Path(workdir) / files.CHECKPOINTS_FOLDER, network):
        raise InputError(f"`workdir` must hold a run with a checkpoint. Received: {str(workdir)!r}.")
    return config, network, source, target


def build_model(config, network):
    """Builds the `JointModel` that trains a network; the baselines leave the transport loss out."""
    objective = config.objective
    if config.training.method != "jtln":
        objective = dataclasses.replace(objective, transport_weight=0.0)
    return JointModel(network, **dataclasses.asdict(objective))


def prior_costs(config, source, target, network):
    """The cost matrix known before training; None where the method needs none or estimates it while it trains."""
    if config.training.method != "jtln" or config.cost.cost_refresh_steps:
        return None
    return estimate_costs(config, source, target, features_model(network))


def estimate_costs(config, source, target, features):
    """Builds the cost matrix of a configuration, with a model of images to features where its metric needs one."""
    data = config.data
    augment = functools.partial(
        augment_images, seed=config.training.seed, random_crop=data.random_crop, random_flip=data.random_flip
    )
    return build_cost_matrix(
        source,
        target,
        config.cost.cost_matrix,
        features_model=features,
        images_per_class=config.cost.cost_images_per_class,
        augment=augment if data.random_crop or data.random_flip else None,
    )
