"""Counts the target classes whose nearest source class, by each metric, is of their own kind.

    python -m benchmarks.relations --preset=grocery_related --labels_per_class=0 --data_root=DIR/grocery \
        --backbone=DIR/efficientnet_lite0_imagenet.keras --image_size=224 --cost_images_per_class=1000 \
        --source_augmentation=none --target_augmentation=none --kind=coarse_class --neck=none \
        --metrics=mkmmd,wasserstein,prediction,text,taxonomy

The kind of a class is a column of the domains' class table, which no metric but text and taxonomy looks at. Only target
classes that have a source class of their kind count. Prints a table.
"""

import dataclasses
import json
import pathlib

from absl import flags

from jtln_tf.config import InputError
from jtln_tf.costs.spec import COST_METRICS, parse_cost_spec
from jtln_tf.flags import config_from_flags, define_config_flags
from jtln_tf.tools.program import load_tensorflow, run_program

define_config_flags()
flags.DEFINE_list("metrics", ["mkmmd"], f"Of {', '.join(COST_METRICS)}, and combinations.")
flags.DEFINE_string("kind", "", "Column of the class table.")
flags.DEFINE_string("feature_cache", "", "Folder of the features; empty keeps none.")
flags.DEFINE_string("json", "", "Where the figures are written as JSON.")


def main():
    """Builds the matrices and counts."""
    values = flags.FLAGS
    for metric in values.metrics:
        parse_cost_spec(metric)
    config = config_from_flags()
    config.require_domains()
    if not values.kind:
        raise InputError("`kind` must name a column of the class table. Received: nothing.")

    load_tensorflow()
    from jtln_tf.experiment.assembly import load_run_domains
    from jtln_tf.experiment.cost_matrix import build_costs

    kinds = [_kinds(domain, values.kind) for domain in load_run_domains(config).values()]
    rows = []
    for metric in values.metrics:
        # A preset's refreshing is for training with its own matrix.
        cost = dataclasses.replace(config.cost, matrix=parse_cost_spec(metric), refresh_steps=0)
        costs = build_costs(dataclasses.replace(config, cost=cost), cache=values.feature_cache)
        found, possible = count_of_own_kind(costs, *kinds)
        rows.append({"metric": metric, "found": found, "possible": possible})
        print(f"{metric:<24} {found} of {possible}", flush=True)
    if values.json:
        pathlib.Path(values.json).write_text(json.dumps(rows, indent=1))


def count_of_own_kind(costs, source_kinds, target_kinds):
    """Returns how many target classes have a nearest source class of their kind, and how many could have."""
    possible = [name for name in costs.target_classes if target_kinds[name] in source_kinds.values()]
    nearest = costs.nearest(1)
    return sum(source_kinds[nearest[name][0]] == target_kinds[name] for name in possible), len(possible)


def _kinds(domain, column):
    missing = [name for name in domain.class_names if column not in domain.class_table.get(name, {})]
    if missing:
        raise InputError(f"`kind` must be a column of the class table of {domain.name!r}. Received: {column!r}.")
    return {name: domain.class_table[name][column] for name in domain.class_names}


if __name__ == "__main__":
    run_program(main, __doc__)
