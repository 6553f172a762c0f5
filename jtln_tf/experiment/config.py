"""The configuration of one experiment: what is trained, on which data, how. Imports no TensorFlow."""

import dataclasses
import json
from collections.abc import Collection

from jtln_tf.config import SIDES, DataConfig, InputError, NetworkConfig, TrainingConfig, options_of
from jtln_tf.config.pretrained import resolve_backbone, resolve_learning_rate, resolve_start, resolve_steps
from jtln_tf.costs.config import CostConfig
from jtln_tf.methods import DEFAULT_METHOD, Method, find_method

# What a run goes on with, whatever the number of images has become.
_COUNTED = ("steps", "steps_per_epoch")
# What may change when a run goes on: how long and how fast it learns, how often it looks, where pixels are kept.
CHANGEABLE = frozenset(
    field.name for field in options_of(TrainingConfig) if field.name not in ("optimizer", "seed")
) | {"cache", "cache_dir", "cache_limit_gib"}
# The sections whose type does not depend on the method.
SECTIONS = {"data": DataConfig, "network": NetworkConfig, "training": TrainingConfig, "cost": CostConfig}


@dataclasses.dataclass(frozen=True)
class ExperimentConfig:
    """Everything that decides the result of a run. Written to `config.json`.

    Attributes:
        data: The two domains and how their images reach the network.
        network: The shared backbone and the two heads.
        training: The budget and the optimizer.
        cost: Where the class cost matrix comes from, for methods that use one.
        method: The training method with its options.

    Examples:
        >>> import jtln_tf as jt
        >>> from jtln_tf.config import DataConfig
        >>> config = jt.ExperimentConfig(data=DataConfig(source="builtin:mnist5k", target="builtin:optdigits"))
        >>> config.method.title, config.data.source.kind
        ('JTLN', 'builtin')
        >>> jt.ExperimentConfig.from_json(config.to_json()) == config
        True
    """

    data: DataConfig = dataclasses.field(default_factory=DataConfig)
    network: NetworkConfig = dataclasses.field(default_factory=NetworkConfig)
    training: TrainingConfig = dataclasses.field(default_factory=TrainingConfig)
    cost: CostConfig = dataclasses.field(default_factory=CostConfig)
    method: Method = dataclasses.field(default_factory=DEFAULT_METHOD)

    def __post_init__(self) -> None:
        place = self.network.cache_features
        for side, policy in self.data.augmentation.items():
            if place in ("memory", "disk") and policy.mixup:
                raise InputError(
                    f"`{side}_augmentation` must be without mixup if `cache_features` is {place}: to mix activations "
                    f"is another method. Received: {policy.text!r}."
                )
        self.method.check(self)

    @property
    def caches_features(self) -> bool:
        """Whether training looks at activations of the frozen layers, if there is room for them."""
        has_mixup = any(policy.mixup for policy in self.data.augmentation.values())
        return self.network.freeze_until not in ("", "auto") and self.network.cache_features != "none" and not has_mixup

    def to_values(self) -> dict[str, object]:
        """Returns the configuration as JSON values: the name of the method, and a dict of options per section."""
        sections = {name: getattr(self, name).to_values() for name in (*SECTIONS, "method")}
        sections["method"] = {"name": self.method.name, **sections["method"]}
        return sections

    def to_json(self) -> str:
        """Returns the configuration as indented JSON text."""
        # NumPy's whole numbers are valid values, which JSON does not know.
        return json.dumps(self.to_values(), indent=2, default=lambda number: number.item()) + "\n"

    @classmethod
    def from_json(cls, text: str) -> "ExperimentConfig":
        """Reads what `to_json` wrote.

        Raises:
            InputError: If the text is no JSON, has unknown options, or a value does not fit.
        """
        try:
            values = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise InputError(f"A configuration must be JSON. Received: {error}.") from error
        names = [*SECTIONS, "method"]
        if not isinstance(values, dict) or set(values) != set(names):
            received = sorted(values) if isinstance(values, dict) else values
            raise InputError(f"A configuration must hold {', '.join(names)}. Received: {received!r}.")
        method = values.pop("method")
        if not isinstance(method, dict) or "name" not in method:
            raise InputError(f"`method` must be a JSON object with a name. Received: {method!r}.")
        options = {name: value for name, value in method.items() if name != "name"}
        sections = {name: section.from_values(values[name]) for name, section in SECTIONS.items()}
        return cls(**sections, method=find_method(method["name"]).from_values(options))

    def resolve(self, begun: "ExperimentConfig | None" = None, *, has_gpu: bool = False) -> "ExperimentConfig":
        """Returns the configuration with values in place of each `auto` that depends on the machine or the backbone.

        See `resolve_backbone` and `resolve_start`; `begun` is the configuration of a run to go on with, whose number of
        steps stays too.
        """
        network = resolve_start(
            resolve_backbone(self.data, self.network, begun and begun.network), begun and begun.network, has_gpu=has_gpu
        )
        training = resolve_learning_rate(network, self.training)
        if begun:
            kept = {name: getattr(training, name) or getattr(begun.training, name) for name in _COUNTED}
            training = dataclasses.replace(training, **kept)
        return dataclasses.replace(self, network=network, training=training)

    def resolve_steps(self, num_images: dict[str, int]) -> "ExperimentConfig":
        """Returns the configuration with numbers of steps, from the training images by side."""
        return dataclasses.replace(self, training=resolve_steps(self.data, self.network, self.training, num_images))

    def require_domains(self) -> None:
        """Raises `InputError` unless both domains are named."""
        for side in SIDES:
            if getattr(self.data, side) is None:
                raise InputError(
                    f"`{side}` must name a folder or another domain, for example photos/few. Received: nothing."
                )


def describe_differences(ours: ExperimentConfig, theirs: ExperimentConfig, ignored: Collection[str] = ()) -> list[str]:
    """Lists the options in which two configurations differ, as `name: ours -> theirs` texts, but for those ignored."""
    if ours.method.name != theirs.method.name:
        return [f"method: {ours.method.name!r} -> {theirs.method.name!r}"]
    left, right = ours.to_values(), theirs.to_values()
    return [
        f"{name}: {value!r} -> {right[section][option]!r}"
        for section, values in left.items()
        for option, value in values.items()
        if (name := getattr(ours, section).prefix + option) not in ignored
        and option in right[section]
        and value != right[section][option]
    ]
