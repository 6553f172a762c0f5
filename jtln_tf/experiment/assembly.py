"""Everything that a run trains with, found and built before anything is written."""

import dataclasses
import functools
import logging
import time

import keras

from jtln_tf.backbones import check_backbone_files, identify_backbone, is_saved_trunk, is_untrained, usual_image_size
from jtln_tf.config import SIDES, InputError, NetworkConfig
from jtln_tf.costs.config import check_cost_files
from jtln_tf.costs.matrix import CostMatrix
from jtln_tf.data import Domain, list_domain, load_domains
from jtln_tf.data.lost_images import tell_lost_images
from jtln_tf.distribution import replicas_of
from jtln_tf.experiment.config import ExperimentConfig
from jtln_tf.experiment.extension import adapt_state
from jtln_tf.experiment.leaks import count_leaks
from jtln_tf.experiment.workdir import Run
from jtln_tf.experiment.workshop import Workshop, seed_draws
from jtln_tf.features.activations import CachedDomains, FrozenTrunk, cache_trunk
from jtln_tf.features.cache_folder import mark_cache
from jtln_tf.features.pixel_range import warn_of_pixel_range
from jtln_tf.features.start import gather_class_sums, imprint_heads, start_neck
from jtln_tf.files import default_cache_folder, first_line
from jtln_tf.methods.base import Setup
from jtln_tf.network import add_heads, build_network, cut_network, features_before_neck
from jtln_tf.trainer.checkpoints import TrainingState, read_state, restore_network
from jtln_tf.trainer.model import JointModel

_LOG = logging.getLogger("jtln_tf")


@dataclasses.dataclass(frozen=True, eq=False)
class Assembly:
    """What a run trains with.

    Attributes:
        model: Trains `setup.trained`.
        setup: The domains and networks.
        costs: Class costs known before training, or None.
        found: State of the last checkpoint if the run is resumed, else None.
        leaks: What `result.json` says of test images that are trained on.
        seconds: Time that finding the costs, and caching activations, took.
    """

    model: JointModel
    setup: Setup
    costs: CostMatrix | None
    found: TrainingState | None
    leaks: dict[str, int | None]
    seconds: float

    def trim_cache(self, limit_bytes: float) -> None:
        """Removes what is too much in the cache folder: activations that other runs used longest ago."""
        if isinstance(self.setup.inputs, CachedDomains):
            self.setup.inputs.store.trim(limit_bytes)


def assemble(run: Run, workshop: Workshop) -> Assembly:
    """Loads the domains and builds the network, the class costs and the model of a run, or raises `InputError`."""
    config = run.config
    check_backbone_files(config.network)
    found = read_state(run.checkpoints, run.name) if run.is_resumed else None
    if run.is_resumed and found is None:
        run.check_is_at_its_beginning()
    saved_costs = _read_costs(run, found)
    workshop.begin(config)
    _LOG.info("reading the images ...")
    domains = load_run_domains(config, workshop)
    run.config = config = config.resolve_steps({side: len(domain.train) for side, domain in domains.items()})
    _check_domains(config, domains["target"])
    if found:
        adapt_state(run, found)
    if run.is_resumed:
        run.check_classes(class_names(domains))
    # Before test images are compared, because the network cannot be cut behind every layer.
    setup, trunk = build_setup(
        config, domains, workshop=workshop, is_cut=config.caches_features, saved_costs=saved_costs
    )
    leaks = count_leaks(*domains.values())
    started = time.perf_counter()
    with tell_lost_images(*domains.values()):
        if is_saved_trunk(config.network.backbone) and not found:
            trunk_alone = features_before_neck(setup.network)
            warn_of_pixel_range(trunk_alone, domains["target"].train, config.network.pixel_range)
        if trunk is not None:
            setup = _cache_trunk(config, setup, trunk, found)
        if workshop.replicas.is_chief:
            mark_cache(config.data.cache_dir or default_cache_folder(config.data.data_root))
        if found is None and config.method.uses_start:
            setup = start_network(config.network, setup)
        if config.method.uses_costs and saved_costs is None and not config.cost.refresh_steps:
            _LOG.info("finding the class costs ...")
        costs = config.method.prepare(setup)
        # Tens of megabytes.
        setup = dataclasses.replace(setup, class_sums=None)
    setup, model = workshop.model(config, setup, costs)
    return Assembly(model, setup, costs, found, leaks, time.perf_counter() - started)


def class_names(domains: dict[str, Domain]) -> dict[str, tuple[str, ...]]:
    """Returns class names by side."""
    return {side: domain.class_names for side, domain in domains.items()}


def load_run_domains(config: ExperimentConfig, workshop: Workshop | None = None) -> dict[str, Domain]:
    """Loads the domains of a configuration, by side, at one image size; decodes no images that a workshop knows."""
    options = {"seed": config.training.seed, "default_size": usual_image_size(config.network.backbone)}
    is_known = workshop and functools.partial(workshop.knows, config)
    return dict(zip(SIDES, load_domains(config.data, is_known=is_known, **options), strict=True))


def build_run_network(
    config: ExperimentConfig, domains: dict[str, Domain], trunk: FrozenTrunk | None = None
) -> keras.Model:
    """Builds the untrained network of a configuration for two domains, on a trunk that is all of its backbone."""
    counts, image_shape = [domain.num_classes for domain in domains.values()], domains["target"].image_shape
    if trunk is None:
        return build_network(config.network, *counts, image_shape=image_shape)
    # Whether the trunk was built for this run or an earlier one, the heads are drawn alike.
    seed_draws(config.training.seed)
    return add_heads(keras.Model(trunk.model.input, trunk.model.output, name="backbone"), config.network, *counts)


def build_setup(
    config: ExperimentConfig,
    domains: dict[str, Domain],
    *,
    workshop: Workshop,
    is_cut: bool,
    saved_costs: CostMatrix | None = None,
) -> tuple[Setup, FrozenTrunk | None]:
    """Builds the network of a configuration; returns the `Setup` and, if the network is cut, its frozen trunk."""
    shared = workshop.trunk(config, domains["target"].image_shape) if is_cut else None
    with workshop.replicas.scope():
        network = build_run_network(config, domains, shared)
        trunk, trained = _cut(network, config.network) if is_cut else (None, network)
    setup = Setup(
        domains=domains,
        network=network,
        inputs=domains,
        trained=trained,
        cost=config.cost,
        augmentation=config.data.augmentation,
        backbone=identify_backbone(config.network),
        neck=config.network.neck,
        has_strong_start=config.network.start == "strong",
        is_untrained=is_untrained(config.network),
        seed=config.training.seed,
        saved_costs=saved_costs and saved_costs.align(*class_names(domains).values()),
    )
    return setup, shared or (trunk and FrozenTrunk(trunk))


def plain_network(config: ExperimentConfig, setup: Setup) -> keras.Model:
    """Returns the whole network on one device: itself, or a copy of what several replicas hold."""
    if replicas_of(setup.network).count == 1:
        return setup.network
    network = build_run_network(config, setup.domains)
    for own, theirs in zip(network.variables, setup.network.variables, strict=True):
        own.assign(keras.ops.convert_to_numpy(theirs))
    return network


def load_network(run: Run) -> tuple[keras.Model, dict[str, list[str]]]:
    """Loads the network of a run with the class names of its heads, by side; decodes no image.

    Raises `InputError` if it has no checkpoint.
    """
    config, class_names = run.config, run.read_classes()
    data, size = config.data, config.data.image_size or usual_image_size(config.network.backbone)
    # As in `load_domains`.
    size = size or max(
        list_domain(spec, data_root=data.data_root, cache_dir=data.cache_dir).image_size
        for spec in (data.source, data.target)
    )
    counts = [len(class_names[side]) for side in SIDES]
    network = build_network(config.network, *counts, image_shape=(size, size, data.channels))
    _restore(run, network)
    return network, class_names


def load_trained(run: Run) -> tuple[keras.Model, dict[str, Domain]]:
    """Loads the network of a run with its domains; `InputError` if classes have changed or it has no checkpoint."""
    domains = load_run_domains(run.config)
    run.check_classes(class_names(domains))
    network = build_run_network(run.config, domains)
    _restore(run, network)
    return network, domains


def start_network(config: NetworkConfig, setup: Setup) -> Setup:
    """Sets the first weights of the neck and the heads from the training images, if the network starts from them.

    Returns the setup with what the neck was started from.
    """
    if config.has_neck:
        setup = dataclasses.replace(setup, class_sums=gather_class_sums(setup.trained, setup.inputs))
        start_neck(setup.trained, setup.class_sums, is_whitened=config.neck == "whitened")
    if config.start == "strong":
        imprint_heads(setup.trained, setup.inputs)
    return setup


def _restore(run, network):
    if not restore_network(run.checkpoints, network, run.name):
        raise InputError(f"`workdir` must hold a run with a checkpoint. Received: {str(run.folder)!r}.")


def _read_costs(run, found):
    """Returns the costs that a run with a checkpoint began with, or None if they have yet to be found."""
    cost = run.config.cost
    if not run.config.method.uses_costs:
        return None
    saved_costs = run.read_costs() if found and not cost.refresh_steps else None
    if saved_costs is None:
        check_cost_files(cost)
    return saved_costs


def _check_domains(config, target):
    """Checks, before the run is begun, that the splits that it will need have images."""
    if not len(target.test):
        raise InputError(f"The target must have test images. Received: {target.name!r} without any.")
    if config.training.early_stopping_epochs > 0 and not len(target.validation):
        raise InputError(
            f"`early_stopping_epochs` needs target validation images. Received: {target.name!r} without any."
        )


def _cut(network, config):
    try:
        return cut_network(network, config.freeze_until)
    except InputError as error:
        if config.cache_features != "auto":
            raise
        _LOG.warning("activations are not cached, so all steps pass the frozen layers: %s", first_line(error))
        return None, network


def _cache_trunk(config, setup, trunk, found):
    """Returns a setup whose inputs are activations, if there is room for them; computes those that training reads."""
    stages = config.method.stages(config.training.steps)
    steps = {side: sum(stage.steps for stage in stages if side in stage.domains) for side in SIDES}
    # Room is needed for all that is read: the start looks at both sides, and the target is evaluated.
    is_started = found is None and config.method.uses_start and config.network.has_neck
    steps |= {side: steps[side] or 1 for side in (SIDES if is_started else ("target",))}
    inputs = cache_trunk(trunk, setup.domains, config.data, config.network, steps)
    if inputs is None:
        return dataclasses.replace(setup, trained=setup.network)
    for side in SIDES:
        # Nothing is read of a run that was only not evaluated.
        if steps[side] and not (found and found.finished):
            inputs[side]
    return dataclasses.replace(setup, inputs=inputs)
