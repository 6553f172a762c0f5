"""A configuration to the domains, the network, the model and the costs that it describes."""

import dataclasses
import functools
import json
import pathlib

import keras
from absl import logging

from jtln_tf import workdir as files
from jtln_tf.backbones import KERASHUB, identify_backbone
from jtln_tf.batches import augment_images
from jtln_tf.config import ONLINE, InputError, MissingInputError, parse_augmentation, parse_cost_spec
from jtln_tf.costs import build_cost_matrix, build_online_costs, load_cost_matrix
from jtln_tf.data import load_domain
from jtln_tf.features import layer_model
from jtln_tf.network import SIDES, build_network, features_model, predictions_model
from jtln_tf.trainer import JointModel, restore_network


def load_domains(config):
    """Loads the `(source, target)` domains of a configuration at one image size.

    Raises:
        InputError: If a domain does not fit its specification.
    """
    data = config.data
    is_builtin = data.source.startswith("builtin:") and data.target.startswith("builtin:")
    usual_size = 28 if is_builtin else 227 if config.network.backbone.lower() == "alexnet" else 224
    load = functools.partial(
        load_domain,
        seed=config.training.seed,
        image_size=data.image_size or usual_size,
        channels=data.channels,
        data_root=data.data_root,
        cache=data.cache,
        cache_dir=data.cache_dir,
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
        batchnorm=network.batchnorm,
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
    objective, is_jtln = config.objective, config.training.method == "jtln"
    if not is_jtln:
        objective = dataclasses.replace(objective, transport_weight=0.0)
    is_online = is_jtln and config.cost.cost_matrix == ONLINE
    memory_steps = config.cost.cost_refresh_steps if is_online else 0
    return JointModel(network, class_memory_steps=memory_steps, **dataclasses.asdict(objective))


def prior_costs(config, source, target, network, trained=None):
    """The cost matrix known before training; None where the method needs none or estimates it while it trains.

    Args:
        config: `ExperimentConfig`.
        source: Source `Domain`.
        target: Target `Domain`.
        network: The whole network.
        trained: The part of it that is trained; None is all of it.

    Raises:
        InputError: If the matrix cannot be built; also where that will be done while training.
    """
    if config.training.method != "jtln" or config.cost.cost_matrix == ONLINE:
        return None
    if config.cost.cost_refresh_steps:
        # A rehearsal with one image a class: what is wrong is told before anything is written.
        cost = dataclasses.replace(config.cost, cost_images_per_class=1)
        _check_cost_layer(config, features_model(network), features_model(trained or network))
        _costs_by_source_head(dataclasses.replace(config, cost=cost), source, target, network)
        return None
    _warn_of_untrained_backbone(config)
    backbone = layer_model(features_model(network), config.cost.cost_layer)
    return estimate_costs(config, source, target, features_model=backbone)


def _check_cost_layer(config, backbone, trained):
    """Raises `InputError` where the layer that the metrics are to look at while training stands in a cached trunk."""
    layer, names = config.cost.cost_layer, [layer.name for layer in trained.layers]
    if layer not in names and layer in [layer.name for layer in backbone.layers]:
        raise InputError(
            "`cost_layer` must name a layer behind `freeze_until` where costs are refreshed with `cache_features`, "
            f"such as {names[-1]}. Received: {layer!r}."
        )


def current_costs(config, source, target, model):
    """The cost matrix by what the model in training says of the images now; None where it has seen none.

    The source head learns from many labels what tells its classes apart: how it sees the images of a target class
    relates that class to them better than the features do, from which the target head learns by heart.
    """
    if config.cost.cost_matrix == ONLINE:
        if int(model.steps_seen) == 0:
            return None
        means = [model.class_means[side].numpy() for side in SIDES]
        return build_online_costs(source, target, *means, config.cost)
    return _costs_by_source_head(config, source, target, model.network)


def _costs_by_source_head(config, source, target, network):
    predictions, layer = predictions_model(network, "source"), config.cost.cost_layer
    features = layer_model(features_model(network), layer) if layer else predictions
    return estimate_costs(config, source, target, features_model=features, source_classifier=predictions)


def build_costs(config, *, workdir="", cache="", progress=None):
    """Builds the cost matrix of a configuration apart from any training.

    Args:
        config: `ExperimentConfig` with both domains named.
        workdir: Folder of a trained run whose network is looked through: its image size and channels are taken over,
            and its head for the source classes, where it has one, is the classifier of `prediction`. Empty takes the
            backbone of the configuration.
        cache: Folder in which features are kept; empty keeps none.
        progress: Called with a title, the images done and all images, or None.

    Returns:
        `CostMatrix`.

    Raises:
        InputError: If the configuration does not fit the data, or the folder holds no trained run.
    """
    check_cost_files(config.cost)
    # A backbone without weights of its own begins as that of a run with this seed does.
    keras.utils.set_random_seed(config.training.seed)
    classifier = None
    if workdir:
        run, network, *run_domains = load_trained_network(workdir)
        size, channels = run_domains[1].image_shape[1:]
        data = dataclasses.replace(config.data, image_size=size, channels=channels)
        config = dataclasses.replace(config, data=data, network=run.network)
        source, target = load_domains(config)
        # The source head first, where both have these names: the target head knows the images that it would vote on.
        heads = [
            side for side, domain in zip(SIDES, run_domains, strict=True) if domain.class_names == source.class_names
        ]
        classifier = predictions_model(network, heads[0]) if heads else None
        features = features_model(network)
    else:
        source, target = load_domains(config)
        needs_network = parse_cost_spec(config.cost.cost_matrix).looks_through_network
        features = features_model(build_network_for(config, source, target)) if needs_network else None
        _warn_of_untrained_backbone(config)
    if features is not None:
        features = layer_model(features, config.cost.cost_layer)
    return estimate_costs(
        config,
        source,
        target,
        features_model=features,
        source_classifier=classifier,
        cache=cache,
        progress=progress,
    )


def _warn_of_untrained_backbone(config):
    network, metric = config.network, config.cost.cost_matrix
    has_own_weights = network.backbone.endswith(".keras") or network.backbone.startswith(KERASHUB)
    is_untrained = network.weights == "none" and not has_own_weights
    if is_untrained and parse_cost_spec(metric).looks_through_network:
        logging.warning(
            "--cost_matrix=%s compares features of %s, which has learnt nothing yet: --cost_matrix=online "
            "--cost_refresh_steps=100, or a trained backbone, knows more.",
            *(metric, network.backbone),
        )


def check_cost_files(settings):
    """Raises `InputError` where a file that a `CostConfig` names is not there, or is no cost matrix."""
    for path in parse_cost_spec(settings.cost_matrix).files:
        load_cost_matrix(path)
    tree, encoder = settings.cost_taxonomy, settings.cost_text
    named = {
        "cost_class_table": settings.cost_class_table,
        "cost_taxonomy": tree if tree.endswith(".csv") else tree.partition("wordnet:")[2],
        "cost_text": encoder if encoder.endswith((".txt", ".vec")) else "",
    }
    for name, path in named.items():
        if path and not pathlib.Path(path).exists():
            raise MissingInputError(f"`{name}` must name an existing file or folder. Received: {path!r}.")


def estimate_costs(config, source, target, **options):
    """Builds the cost matrix of a configuration; takes the models, and further options, of `build_cost_matrix`."""
    seed, augment, keys = config.training.seed, {}, {}
    for side, domain in zip(SIDES, (source, target), strict=True):
        policy = getattr(config.data, f"{side}_augmentation")
        if parse_augmentation(policy).operations and domain.train.holds_images:
            augment[side] = functools.partial(augment_images, seed=seed, policy=policy)
            keys[side] = json.dumps({"seed": seed, "policy": policy})
    settings = {name.removeprefix("cost_"): value for name, value in dataclasses.asdict(config.cost).items()}
    for name in ("matrix", "refresh_steps"):
        settings.pop(name)
    return build_cost_matrix(
        source,
        target,
        config.cost.cost_matrix,
        augment=augment,
        cache_key=keys,
        backbone=identify_backbone(config.network.backbone, config.network.weights),
        seed=seed,
        **options,
        **settings,
    )
