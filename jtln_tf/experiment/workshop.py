"""What the runs of one process share: frozen backbones with their activations, and compiled models."""

import dataclasses
import gc
import random

import keras
import numpy as np

from jtln_tf.backbones import WHOLE_BACKBONE, build_backbone, share_batches
from jtln_tf.config import DeviceConfig
from jtln_tf.costs.matrix import CostMatrix
from jtln_tf.data.reading.split import Split
from jtln_tf.distribution import Replicas, open_replicas
from jtln_tf.experiment.config import ExperimentConfig
from jtln_tf.features.activations import FrozenTrunk
from jtln_tf.files import default_cache_folder
from jtln_tf.methods.base import Setup
from jtln_tf.trainer.model import JointModel

# Kinds of models that are built on one trunk.
_MOST_MODELS = 16


@dataclasses.dataclass(frozen=True, eq=False)
class _Bench:
    """A model that runs of one kind train on, one after the other."""

    key: tuple
    network: keras.Model
    model: JointModel
    num_nodes: list[tuple[keras.Operation, int, int]]


class Workshop:
    """What is found or built once for all runs of a comparison.

    A run then builds no frozen backbone, decodes no images whose activations an earlier run found, and compiles no
    training step that differs from the last run's in nothing but data and weights. Its result is that of a run alone.

    Attributes:
        replicas: The devices that all runs train on.
    """

    def __init__(self, *, keeps_models: bool = True, replicas: Replicas | None = None):
        """Makes an empty workshop; one for a single run need not keep the model that it is trained on.

        One that keeps models lets Python's garbage collector pass over all that the process holds by then.
        """
        self._trunks, self._bench, self._keeps_models, self._num_models = {}, None, keeps_models, 0
        if keeps_models and not gc.get_freeze_count():
            # Each run looks for what the one before has left. What was imported stays: it need not be looked through.
            gc.collect()
            gc.freeze()
        self.replicas = replicas or open_replicas(DeviceConfig(strategy="one_device"))

    def begin(self, config: ExperimentConfig) -> None:
        """Begins a run: what it draws, and the names of its layers, are those of a run alone."""
        if self._num_models >= _MOST_MODELS:
            # Keras keeps what is built on a layer as long as the layer: 7 MB a neck of 1,280 features.
            self._trunks, self._bench, self._num_models = {}, None, 0
        if self._bench is None or not _shares_trunk(config):
            keras.backend.clear_session()
            keras.utils.set_random_seed(config.training.seed)
            return
        # Both of these also drop what TensorFlow has prepared of the functions of earlier runs, .7 s of a run of JTLN.
        # Behind a shared trunk all layers are named.
        gc.collect()
        seed_draws(config.training.seed)

    def trunk(self, config: ExperimentConfig, image_shape: tuple[int, int, int]) -> FrozenTrunk | None:
        """Returns the backbone of a configuration for images of a shape; None if a run changes it."""
        if not _shares_trunk(config):
            return None
        network = config.network
        key = (network.backbone, network.weights, network.pixel_range, network.batchnorm, tuple(image_shape))
        if key not in self._trunks:
            with self.replicas.scope():
                backbone = build_backbone(network, image_shape)
                self._trunks[key] = FrozenTrunk(keras.Model(backbone.input, backbone.output, name="trunk"))
        return self._trunks[key]

    def knows(self, config: ExperimentConfig, split: Split) -> bool:
        """Returns whether a run can do without decoding the images of a split first."""
        folder = config.data.cache_dir or default_cache_folder(config.data.data_root)
        trunk = self.trunk(config, (split.image_size, split.image_size, split.channels))
        return trunk is not None and trunk.knows(split, folder)

    def model(self, config: ExperimentConfig, setup: Setup, costs: CostMatrix | None) -> tuple[Setup, JointModel]:
        """Returns a model that begins with the weights of a setup, and the setup with the networks that it trains."""
        with self.replicas.scope():
            return self._model(config, setup, costs)

    def _model(self, config, setup, costs):
        if self.replicas.count > 1:
            share_batches(setup.network)
        key = _describe_kind(config, setup)
        if self._bench is None or self._bench.key != key:
            model = JointModel(setup.trained, method=config.method, cost=config.cost, cost_matrix=costs)
            if not self._keeps_models:
                return setup, model
            model.keep_stages()
            self._bench = _Bench(key, setup.network, model, self._count_nodes())
            self._num_models += 1
            return setup, model
        network, model = self._bench.network, self._bench.model
        model.start_again(setup.trained, config.method.make_state(setup.trained, config.cost))
        if costs is not None:
            model.set_cost_matrix(costs)
        # The networks of other runs would pile up on the trunk.
        for operation, num_inbound, num_outbound in self._bench.num_nodes:
            del operation._inbound_nodes[num_inbound:], operation._outbound_nodes[num_outbound:]
        return dataclasses.replace(setup, network=network, trained=model.network), model

    def _count_nodes(self):
        operations = [operation for trunk in self._trunks.values() for operation in trunk.model.operations]
        return [(one, len(one._inbound_nodes), len(one._outbound_nodes)) for one in operations]


def _shares_trunk(config):
    return config.caches_features and config.network.freeze_until == WHOLE_BACKBONE


def seed_draws(seed: int) -> None:
    """Seeds what Keras draws the seeds of weights and dropout from."""
    random.seed(seed)
    np.random.seed(seed)


def _describe_kind(config, setup):
    """Returns what two runs must have in common to train the same model."""
    training = dataclasses.replace(config.training, seed=0)
    data = dataclasses.replace(config.data, labels_per_class=0)
    same = dataclasses.replace(config, training=training, data=data).to_json()
    outputs = {side: tuple(output.shape) for side, output in setup.trained.output.items()}
    return same, tuple(setup.trained.input.shape), setup.trained is setup.network, tuple(outputs.items())
