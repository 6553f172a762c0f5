"""What a training method is. Imports no TensorFlow."""

import dataclasses
import typing
from collections.abc import Mapping
from typing import ClassVar

from jtln_tf.config import InputError, Section

if typing.TYPE_CHECKING:
    import keras
    import tensorflow as tf

    from jtln_tf.costs.config import CostConfig
    from jtln_tf.costs.matrix import CostMatrix
    from jtln_tf.data import Domain
    from jtln_tf.features.start import ClassSums


@dataclasses.dataclass(frozen=True)
class Stage:
    """One stretch of training with its own learning rate schedule.

    Attributes:
        name: Name of the stage in logs.
        steps: Number of steps.
        domains: The domains whose images are in a batch: `source`, `target` or both.
        first_step: Step of the run at which it begins.
    """

    name: str
    steps: int
    domains: tuple[str, ...]
    first_step: int = 0

    @property
    def last_step(self) -> int:
        """Step of the run at which the stage ends."""
        return self.first_step + self.steps


class Term(typing.NamedTuple):
    """One named part of the loss.

    Attributes:
        values: One value per example [B], before any weight; or a scalar for a penalty that looks at no example, or at
            the whole batch of all replicas.
        weight: Factor of the mean of the values in the loss; None only reports the mean.
    """

    values: "tf.Tensor"
    weight: "float | tf.Tensor | None" = 1.0


@dataclasses.dataclass(frozen=True, eq=False)
class Outputs:
    """Outputs of the network, float32, for the images of one domain in a batch.

    Attributes:
        features: Features of the backbone [B, D].
        source: Logits of the source head [B, n].
        target: Logits of the target head [B, m].
        layers: Outputs of the backbone layers that `Method.watched_layers` names, by name.
        teacher: `Outputs` of the teacher for the same images; None unless the method has `uses_teacher`.
        second: `Outputs` for a second augmented view of the images, the teacher's too if there is one; None unless the
            method has `uses_second_view`.
    """

    features: "tf.Tensor"
    source: "tf.Tensor"
    target: "tf.Tensor"
    layers: "dict[str, tf.Tensor]" = dataclasses.field(default_factory=dict)
    teacher: "Outputs | None" = None
    second: "Outputs | None" = None

    def head(self, side: str) -> "tf.Tensor":
        """Returns the logits of the head of a domain."""
        return {"source": self.source, "target": self.target}[side]


@dataclasses.dataclass(frozen=True, eq=False)
class Moment:
    """Where training stands.

    Attributes:
        step: Steps taken before this one in the run, scalar int64.
        network: The network that is trained.
        state: Layer that `Method.make_state` returned.
        stage: The stage, whose `last_step` a schedule may follow; None if `fit` is called without one.
        teacher: The teacher, a copy of the network when the stage began; None unless the method has `uses_teacher`.
        setup: In `begin_stage`, what can be used outside training steps; None if the caller has no `Setup`.
    """

    step: "tf.Tensor"
    network: "keras.Model"
    state: "keras.layers.Layer | None"
    stage: Stage | None = None
    teacher: "keras.Model | None" = None
    setup: "Setup | None" = None


@dataclasses.dataclass(frozen=True, eq=False)
class Setup:
    """What a method can use outside training steps.

    Attributes:
        domains: `Domain` by side, with its images.
        network: The whole network.
        inputs: `Domain` by side of what training reads: the images, or the activations of a cached trunk, in all three
            splits. A side that the run does not train on passes through the trunk only if it is asked for.
        trained: The network that training reads `inputs` with: `network`, or its part behind the cached trunk.
        cost: Options of the cost matrix.
        augmentation: `AugmentationSpec` by side.
        backbone: Name and fingerprint of the backbone, which are written into a cost matrix.
        neck: What stands before the heads, one of `NECKS`.
        has_strong_start: Whether the heads begin with class means behind the neck.
        is_untrained: Whether the backbone begins with random weights.
        seed: Seed of the run.
        saved_costs: Cost matrix that an earlier part of the run found, or None.
        class_sums: What the neck was started from, `ClassSums` by side; None if it was not, and once training begins.
    """

    domains: "dict[str, Domain]"
    network: "keras.Model"
    inputs: "Mapping[str, Domain]"
    trained: "keras.Model"
    cost: "CostConfig"
    augmentation: dict[str, object]
    backbone: str
    neck: str
    has_strong_start: bool
    is_untrained: bool
    seed: int
    saved_costs: "CostMatrix | None"
    class_sums: "dict[str, ClassSums] | None" = None


class Method(Section):
    """One way of training the network on two domains.

    A method is a frozen dataclass whose fields are its options, from which flags follow. It holds no state of a run:
    what changes while training is in the layer that `make_state` returns, and a checkpoint holds that layer's
    variables.

    Attributes:
        name: Name in flags and files.
        title: Name in tables.
        reports: Names of the terms that `losses` may return.
        needs_neck: Whether the method works only behind a neck.
        needs_trained_backbone: Whether the method makes no sense if all of the backbone is frozen.
        uses_costs: Whether the method has class costs; its state then has `set_costs` and `costs_in_use`.
        uses_start: Whether the network begins with the means and the class means of the strong start.
        uses_teacher: Whether `losses` needs `Outputs.teacher`: a copy of the network as it is when a stage begins. Only
            the method itself changes it later, in `observe`.
        uses_second_view: Whether `losses` needs `Outputs.second`.
    """

    name: ClassVar[str]
    title: ClassVar[str]
    reports: ClassVar[tuple[str, ...]]
    needs_neck: ClassVar[bool] = False
    needs_trained_backbone: ClassVar[bool] = False
    uses_costs: ClassVar[bool] = False
    uses_start: ClassVar[bool] = True
    uses_teacher: ClassVar[bool] = False
    uses_second_view: ClassVar[bool] = False

    def stages(self, steps: int) -> tuple[Stage, ...]:
        """Returns the stages of a run; every method takes `steps` steps in all."""
        raise NotImplementedError

    def check(self, config) -> None:
        """Raises `InputError` if an option in another section of an `ExperimentConfig` does not fit this method."""
        if self.needs_neck and config.network.neck == "none":
            raise InputError(f"`method`={self.name} needs a `neck`, which normalizes features. Received: neck='none'.")
        if self.needs_trained_backbone and config.network.freeze_until == "all":
            raise InputError(
                f"`method`={self.name} needs a backbone layer that is trained. Received: freeze_until='all', which is "
                "`auto` for a pretrained backbone without a GPU. Hint: an earlier --freeze_until, or another method."
            )

    def watched_layers(self, network: "keras.Model") -> tuple[str, ...]:
        """Returns the names of the backbone layers whose outputs `losses` needs."""
        return ()

    def make_state(self, network: "keras.Model", cost: "CostConfig | None" = None) -> "keras.layers.Layer | None":
        """Returns a layer with the method's variables, if it has any; its trainable ones are trained like the heads."""
        return None

    def prepare(self, setup: Setup) -> "CostMatrix | None":
        """Sets first weights and returns the class costs that are known before training, if the method uses any."""
        return None

    def begin_stage(self, stage: Stage, moment: Moment) -> None:
        """Runs before the first step of a stage, and not again if a run resumes inside the stage."""

    def losses(self, labels: "dict[str, tf.Tensor]", outputs: dict[str, Outputs], moment: Moment) -> dict[str, Term]:
        """Returns the terms of the loss by name; the names are among `reports`.

        Args:
            labels: Class indices [B] or class probabilities [B, classes] by domain; only the domains of the batch.
            outputs: `Outputs` by domain.
            moment: `Moment` of the step.
        """
        raise NotImplementedError

    def observe(self, labels: "dict[str, tf.Tensor]", outputs: dict[str, Outputs], moment: Moment) -> None:
        """Updates the state from a training batch, after the gradient step; takes the arguments of `losses`."""

    def refresh(self, step: int, state: "keras.layers.Layer | None", setup: Setup) -> "CostMatrix | None":
        """Re-estimates what the method needs after `step` steps; returns the new class costs, or None."""
        return None

    def describe(self, state: "keras.layers.Layer | None") -> dict[str, object]:
        """Returns JSON values about the end of training for `result.json`."""
        return {}


def plan_stages(*plans: tuple[str, tuple[str, ...], int]) -> tuple[Stage, ...]:
    """Returns stages, one after the other, from their names, domains and steps; a stage without steps is left out."""
    stages, first_step = [], 0
    for name, domains, steps in plans:
        if steps:
            stages.append(Stage(name, steps, domains, first_step))
        first_step += steps
    return tuple(stages)


def find_trained_variables(method: Method, network: "keras.Model", reason: str) -> "list[keras.Variable]":
    """Returns the trained variables of the backbone; `InputError` with the reason if there are none.

    A trained neck belongs to the backbone.
    """
    from jtln_tf.network import backbone_variables

    variables = backbone_variables(network)
    if not variables:
        raise InputError(
            f"`method`={method.name} needs a backbone layer that is trained: {reason}. Received: a frozen backbone. "
            "Hint: an earlier --freeze_until, or a --neck."
        )
    return variables


def require_setup(method: Method, moment: Moment) -> Setup:
    """Returns the `Setup` in `begin_stage`; `InputError` if there is none."""
    if moment.setup is None:
        raise InputError(
            f"`begin_stage` needs a `setup` for method={method.name}, which looks at the training images then. "
            "Received: none. Hint: jt.run_experiment passes one."
        )
    return moment.setup
