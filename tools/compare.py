"""Compares JTLN with its baselines: the same data, steps and seeds for each.

    python -m tools.compare --preset=digits --seeds=3 --output=runs/digits

Prints a table and writes table.json, table.md and accuracy.png into --output, which also holds every run. Called again
it goes on where it was stopped.
"""

import json
import sys

from absl import flags

from flags import config_from_flags, define_config_flags
from jtln_tf.config import InputError
from jtln_tf.costs.spec import parse_cost_spec
from jtln_tf.methods import COMPARED_METHODS, METHODS
from tools.program import load_tensorflow, require_flags, run_program

define_config_flags()
flags.DEFINE_list("methods", list(COMPARED_METHODS), f"Of {', '.join(METHODS)}.")
flags.DEFINE_list("cost_matrices", [], "Run methods with class costs once with each of these, not --cost_matrix.")
flags.DEFINE_integer("seeds", 3, "Number of seeds: 0 to N-1, counted from --seed.", lower_bound=1, upper_bound=10_000)
flags.DEFINE_string("output", "", "Folder of the comparison.")
flags.DEFINE_bool("overwrite", False, "Replace runs of another configuration in --output.")
flags.DEFINE_bool("json", False, "Print the rows as JSON only.")


def main():
    """Checks the flags, then compares."""
    values = flags.FLAGS
    unknown = [method for method in values.methods if method not in METHODS]
    if unknown or not values.methods:
        raise InputError(f"`methods` must be of {', '.join(METHODS)}. Received: {', '.join(unknown) or 'nothing'}.")
    if values["method"].present:
        raise InputError(f"`methods` must name the methods to compare. Received: --method={values.method}.")
    require_flags("output")
    for text in values.cost_matrices:
        parse_cost_spec(text)
    with_costs = [name for name, method in METHODS.items() if method.uses_costs]
    if values.cost_matrices and not set(with_costs) & set(values.methods):
        raise InputError(
            f"`cost_matrices` needs {' or '.join(with_costs)} among `methods`. "
            f"Received: methods={','.join(values.methods)}."
        )
    configs = [config_from_flags(method) for method in values.methods]
    configs[0].require_domains()

    load_tensorflow()
    from jtln_tf.comparison.plan import plan_variants
    from jtln_tf.comparison.run import run_comparison, run_folder
    from jtln_tf.comparison.table import format_table

    variants = plan_variants(configs, tuple(values.cost_matrices))
    seeds = range(values.seed, values.seed + values.seeds)
    rows = run_comparison(variants, seeds, values.output, overwrite=values.overwrite)
    if values.json:
        print(json.dumps(rows))
        return
    data = configs[0].data
    print(f"\n{data.source.text} -> {data.target.text}, {values.steps} steps, {len(seeds)} seed(s)\n")
    print(format_table(rows))
    last = run_folder(values.output, variants[-1], seeds[-1])
    print(f"\nPlot          {values.output}/accuracy.png")
    print(f"TensorBoard   {sys.executable} -m tensorboard.main --logdir={values.output}")
    print(f"SavedModel    {last}/export")


if __name__ == "__main__":
    run_program(main, __doc__)
