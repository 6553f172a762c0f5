"""Compares JTLN with its baselines: the same data, steps and seeds for each.

    jtln compare --preset=digits --seeds=3 --output=runs/digits
    jtln compare --pairs=FILE --label_counts=1,3,10 --output=runs/all

Prints a table and writes it as .json, .md and .csv, with pictures and the page report.html, into --output, which also
holds every run; with --pairs also those over all pairs. Called again it goes on where it was stopped.
"""

import json
import logging
import sys

from absl import flags

from jtln_tf.config import MOST_IMAGES, InputError
from jtln_tf.costs.spec import parse_cost_spec
from jtln_tf.flags import (
    config_from_flags,
    define_config_flags,
    define_device_flags,
    devices_from_flags,
    read_pairs,
    with_flags,
)
from jtln_tf.methods import COMPARED_METHODS, METHODS
from jtln_tf.tools.command import command_line
from jtln_tf.tools.program import default_folder, load_tensorflow, run_program

define_config_flags()
define_device_flags()
# Validation images are labelled too, and methods that take no steps could not choose a step by them.
flags.FLAGS.set_default("early_stopping_epochs", 0)
flags.DEFINE_list(
    "methods",
    [],
    f"Of {', '.join(METHODS)}. Empty: {', '.join(COMPARED_METHODS)}; without a --neck, those that need none. "
    "NAME?flag=value&flag=value runs a method with flags of its own.",
)
flags.DEFINE_list("cost_matrices", [], "Run methods with class costs once with each of these, not --cost_matrix.")
flags.DEFINE_list("label_counts", [], "Run all methods with each of these, not with --labels_per_class.")
flags.DEFINE_string("pairs", "", "File with a name and the flags of a comparison in each line, to run all of them.")
flags.DEFINE_integer("seeds", 3, "Number of seeds: 0 to N-1, counted from --seed.", lower_bound=1, upper_bound=10_000)
flags.DEFINE_integer(
    "jobs", 0, "Runs at once; 0: one a core as far as memory goes, or one on a GPU.", lower_bound=0, upper_bound=256
)
flags.DEFINE_string("output", "", "Folder of the comparison; empty: runs/SOURCE_to_TARGET_compared.")
flags.DEFINE_bool("overwrite", False, "Replace runs of another configuration in --output.")
flags.DEFINE_bool("keep_weights", False, "Keep the weights of all seeds, not of the last one alone.")
flags.DEFINE_bool("json", False, "Print the rows as JSON only.")


# Letters of a bad value in its message.
_SHOWN = 100
_PAIRS_FOLDER = "runs/compared"


def main():
    """Checks the flags, then compares."""
    values = flags.FLAGS
    if values["method"].present:
        raise InputError(f"`methods` must name the methods to compare. Received: --method={values.method}.")
    if values.pairs and (values.source or values.target):
        raise InputError("`pairs` must stand without `source` and `target`, which its lines name. Received: both.")
    plans = (
        {name: _Plan(own) for name, own in read_pairs(values.pairs).items()} if values.pairs else {"": _Plan(values)}
    )
    output, devices = values.output or _default_output(plans), devices_from_flags()

    # Which run begins is a note; what each run notes itself would be too much.
    for room in ("comparison", "config"):
        logging.getLogger(f"jtln_tf.{room}").setLevel(logging.INFO)
    load_tensorflow()
    from jtln_tf.comparison.overview import format_overview
    from jtln_tf.comparison.pairs import run_pairs
    from jtln_tf.comparison.plan import plan_variants
    from jtln_tf.comparison.run import run_comparison

    cost_matrices = tuple(values.cost_matrices)
    variants = {
        name: plan_variants(plan.configs, cost_matrices, plan.label_counts, plan.changes)
        for name, plan in plans.items()
    }
    seeds = range(values.seed, values.seed + values.seeds)
    options = {"overwrite": values.overwrite, "keep_weights": values.keep_weights, "jobs": values.jobs}
    options["devices"] = devices
    if values.pairs:
        rows = run_pairs(variants, seeds, output, **options)
        print(
            json.dumps(rows)
            if values.json
            else f"\n{format_overview(rows)}\n\nReports       {output}/report.html and {output}/NAME/report.html"
        )
        return
    rows = run_comparison(variants[""], seeds, output, **options)
    if values.json:
        print(json.dumps(rows))
        return
    _tell(plans[""].configs[0].data, rows, output, variants[""][-1], seeds)


class _Plan:
    """What the flags of one pair say: its configurations, how they differ from others of a method, and label counts."""

    def __init__(self, values):
        """Checks the flags; raises `InputError` as `main` does."""
        self.label_counts = _parse_counts(values.label_counts)
        texts = values.methods or _default_methods(values)
        self.changes = tuple(text.partition("?")[2] for text in texts)
        self.configs = [_configure(text, values) for text in texts]
        self.configs[0].require_domains()
        _check_cost_matrices(values.cost_matrices, [config.method for config in self.configs])


def _configure(text, values):
    name, _, changes = text.partition("?")
    if name not in METHODS:
        raise InputError(f"`methods` must be of {', '.join(METHODS)}. Received: {name}.")
    try:
        words = [f"--{one}" for one in filter(None, changes.split("&"))]
        return config_from_flags(name, with_flags(words, values, others=("flagfile",)))
    except flags.Error as error:
        raise InputError(
            f"`methods` must name flags of a configuration behind ?. Received: {text!r} ({error})."
        ) from error


def _check_cost_matrices(texts, methods):
    for text in texts:
        parse_cost_spec(text)
    if texts and not any(method.uses_costs for method in methods):
        with_costs = [name for name, method in METHODS.items() if method.uses_costs]
        received = ",".join(method.name for method in methods)
        raise InputError(
            f"`cost_matrices` needs {' or '.join(with_costs)} among `methods`. Received: methods={received}."
        )


def _default_methods(values):
    has_neck = config_from_flags(flag_values=values).resolve().network.has_neck
    return [name for name in COMPARED_METHODS if has_neck or not METHODS[name].needs_neck]


def _default_output(plans):
    return default_folder(plans[""].configs[0].data, "_compared") if "" in plans else _PAIRS_FOLDER


def _tell(data, rows, output, variant, seeds):
    from jtln_tf.comparison.run import run_folder
    from jtln_tf.comparison.table import format_table

    steps = max(row["steps"] for row in rows)
    print(f"\n{data.source.text} -> {data.target.text}, {steps} steps, {len(seeds)} seed(s)\n")
    print(format_table(rows))
    last = run_folder(output, variant, seeds[-1])
    print(f"\nReport        {output}/report.html")
    print(f"Plot          {output}/accuracy.png")
    print(f"TensorBoard   {sys.executable} -m tensorboard.main --logdir={output}")
    print(f"SavedModel    {command_line()} export --workdir={last} --output=DIR")


def _parse_counts(texts):
    if not all(text.isdecimal() and len(text) < len(str(MOST_IMAGES)) and int(text) for text in texts):
        received = f"{','.join(texts)[:_SHOWN]!r}"
        raise InputError(
            f"`label_counts` must be whole numbers of at least 1, below {MOST_IMAGES:,}. Received: {received}."
        )
    return tuple(map(int, texts))


def run():
    """Runs the program."""
    main_flags = ("output", "methods", "seeds", "label_counts", "backbone", "image_size", "steps", "jobs", "preset")
    run_program(main, __doc__, domains=("source", "target"), main_flags=main_flags)


if __name__ == "__main__":
    run()
