"""The options of the class cost matrix. Imports no TensorFlow."""

import dataclasses
import os
import typing

from jtln_tf.config import MOST_STEPS, InputError, MissingInputError, Section, option
from jtln_tf.costs.matrix import load_cost_matrix
from jtln_tf.costs.spec import COST_METRICS, CostSpec, parse_cost_spec
from jtln_tf.tables import is_table_name


@dataclasses.dataclass(frozen=True)
class CostConfig(Section):
    """Where the class cost matrix comes from."""

    prefix: typing.ClassVar[str] = "cost_"

    matrix: CostSpec = option(
        "auto",
        f"Path of a .npz or .csv cost matrix, or a metric: {', '.join(COST_METRICS)}; online finds it while training; "
        "0.7*mkmmd+0.3*text combines, shuffled:mkmmd is a control.",
        parse=parse_cost_spec,
    )
    refresh_steps: int = option(
        0,
        "Steps between two estimates of the matrix while training, by the source head's predictions; 0: one estimate, "
        "before training, by the backbone.",
        minimum=0,
        maximum=MOST_STEPS,
    )
    images_per_class: int = option(
        50,
        "Most images of a class that a metric looks at; a smaller class is filled up with augmented views.",
        minimum=1,
        maximum=100_000,
    )
    layer: str = option("", "Backbone layer whose output the metrics compare; empty: its last.")
    estimator: str = option(
        "auto",
        "mkmmd over all pairs of images, or in linear time by random features; auto: by the number of pairs.",
        choices=("auto", "exact", "linear"),
    )
    whitening: bool = option(
        True, "Let mkmmd and wasserstein compare features in which all directions vary alike inside a class."
    )
    centring: str = option(
        "double",
        "What is subtracted from a metric's values: row and column means, dual potentials, nothing.",
        choices=("double", "dual", "none"),
    )
    scale: str = option(
        "max", "What the values, shifted to start at 0, are divided by.", choices=("max", "mean", "median", "std")
    )
    class_table: str = option(
        "", "CSV with the class in its first column, for text and taxonomy; empty: classes.csv of the folder: domains."
    )
    text: str = option(
        "tfidf", "How text is encoded: tfidf, a word vector file (.txt, .vec), or sentence-transformers:NAME."
    )
    taxonomy: str = option(
        "", "Tree of the classes: columns:NEAR,FAR of the class table, wordnet:FOLDER, or a CSV of child,parent."
    )
    taxonomy_distance: str = option("path", "Edges between two classes, or Wu-Palmer.", choices=("path", "wu_palmer"))

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.refresh_steps and not self.matrix.looks_through_network:
            raise InputError(
                "`cost_refresh_steps` needs a `cost_matrix` that looks through the network. "
                f"Received: cost_matrix={self.matrix.text!r}."
            )
        if self.matrix.is_online and not self.refresh_steps:
            raise InputError("`cost_matrix`=online needs `cost_refresh_steps` above 0. Received: 0.")
        if "taxonomy" in self.matrix.metrics and not self.taxonomy:
            raise InputError("`cost_matrix`=taxonomy needs `cost_taxonomy`. Received: nothing.")


def check_cost_files(cost: CostConfig) -> None:
    """Raises `InputError` if a file that a `CostConfig` names does not exist, or a cost matrix cannot be read."""
    for path in cost.matrix.files:
        load_cost_matrix(path)
    named = {
        "cost_class_table": cost.class_table,
        "cost_taxonomy": cost.taxonomy if is_table_name(cost.taxonomy) else cost.taxonomy.partition("wordnet:")[2],
        "cost_text": cost.text if cost.text.endswith((".txt", ".vec")) else "",
    }
    for name, path in named.items():
        # Opening a pipe would wait for another process.
        if path and not (os.path.isfile(path) or (os.path.isdir(path) and cost.taxonomy.startswith("wordnet:"))):
            raise MissingInputError(f"`{name}` must name an existing file or folder. Received: {path!r}.")
