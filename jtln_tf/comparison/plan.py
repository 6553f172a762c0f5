"""The lines of a comparison: which method runs with which cost matrix."""

import dataclasses
import re

from jtln_tf.config import InputError
from jtln_tf.costs.config import check_cost_files
from jtln_tf.costs.matrix import load_cost_matrix
from jtln_tf.costs.spec import parse_cost_spec
from jtln_tf.experiment.config import ExperimentConfig

# If the configuration says nothing, as often as long runs are validated.
_REFRESH_STEPS = 100


@dataclasses.dataclass(frozen=True)
class Variant:
    """One line of the table.

    Attributes:
        config: Configuration of its runs, apart from the seed.
        cost_matrix: Text of the line's own cost matrix specification; empty takes the configuration's.
        label_count: Training images drawn from each target class; None takes the configuration's.
        changes: Flags in which the line differs from others of its method, such as `start=random&neck=none`.
    """

    config: ExperimentConfig
    cost_matrix: str = ""
    label_count: int | None = None
    changes: str = ""

    @property
    def title(self) -> str:
        """Title of the line."""
        changes = ", ".join(self.changes.split("&"))
        return ", ".join(filter(None, (self.config.method.title, changes, self.cost_matrix)))

    @property
    def folder(self) -> str:
        """Folder of the runs inside the folder of the comparison."""
        own = [re.sub(r"[^0-9A-Za-z_.]+", "-", text).strip("-") for text in (self.changes, self.cost_matrix) if text]
        folder = "-".join((self.config.method.name, *own))
        return folder if self.label_count is None else f"{self.label_count}_labels/{folder}"

    def configure(self, seed: int) -> ExperimentConfig:
        """Returns the configuration of one run."""
        data = self.config.data
        if self.label_count is not None:
            data = dataclasses.replace(data, labels_per_class=self.label_count)
        training = dataclasses.replace(self.config.training, seed=seed)
        return dataclasses.replace(self.config, data=data, training=training)


def plan_variants(
    configs: list[ExperimentConfig],
    cost_matrices: tuple[str, ...] = (),
    label_counts: tuple[int, ...] = (),
    changes: tuple[str, ...] = (),
) -> list[Variant]:
    """Returns the lines of a table: one per configuration, or one per cost matrix for a method that uses costs.

    `changes` says, for each configuration, how it differs from others of its method; empty if none does.
    With label counts, each line comes once for each of them; those of one method follow each other, so that its runs
    can share what was compiled. Raises `InputError` if two lines would share a folder.
    """
    variants = []
    for config, own in zip(configs, changes or [""] * len(configs), strict=True):
        if config.method.uses_costs and cost_matrices:
            variants += [Variant(_with_costs(config, text), text, changes=own) for text in cost_matrices]
        else:
            variants.append(Variant(config, changes=own))
    variants = [
        dataclasses.replace(variant, label_count=count) for variant in variants for count in label_counts or (None,)
    ]
    folders = [variant.folder for variant in variants]
    repeated = [folder for folder in folders if folders.count(folder) > 1]
    if repeated:
        raise InputError(
            "`methods`, `cost_matrices` and `label_counts` must be named once each. "
            f"Received: {repeated[0]!r} repeatedly."
        )
    return variants


def check_variant(variant: Variant, num_seeds: int) -> None:
    """Raises `InputError` if a cost file does not fit, or was built from one draw of the labels for several seeds."""
    config = variant.config
    if not config.method.uses_costs:
        return
    check_cost_files(config.cost)
    data = config.data
    draws_labels = variant.label_count or data.labels_per_class or data.target.per_class or data.source.per_class
    for path in config.cost.matrix.files:
        if load_cost_matrix(path).data and draws_labels and num_seeds > 1:
            raise InputError(
                "`seeds` must be 1 with a cost matrix that was built from one draw of the labels. "
                f"Received: {num_seeds}, {path!r}. Hint: its metric in place of the file builds it for each seed."
            )


def _with_costs(config, text):
    spec, steps = parse_cost_spec(text), config.cost.refresh_steps
    # Costs that do not look through the network never change; others are estimated as often as the configuration's.
    if not spec.looks_through_network:
        steps = 0
    elif spec.is_online:
        steps = steps or config.training.steps_per_epoch or _REFRESH_STEPS
    return dataclasses.replace(config, cost=dataclasses.replace(config.cost, matrix=spec, refresh_steps=steps))
