"""Builds the class cost matrix of two domains, and shows it.

    jtln cost --source=SPEC --target=SPEC --metric=mkmmd --backbone=NAME --output=cost.npz

Writes --output (.npz, or .csv for a spreadsheet) and NAME.nearest.md beside it: the nearest source classes of each
target class; with --plot, a picture. Features are kept in --feature_cache: a call that was stopped, or that asks for
another metric of the same images, goes on with them.
"""

import json
import pathlib

from absl import flags

from jtln_tf.config import InputError
from jtln_tf.costs.spec import COST_METRICS, parse_cost_spec
from jtln_tf.experiment.workdir import Run
from jtln_tf.files import write_whole
from jtln_tf.flags import config_from_flags, define_config_flags
from jtln_tf.tools.program import check_output, load_tensorflow, run_program
from jtln_tf.tools.progress import show_progress

define_config_flags()
flags.DEFINE_string("metric", "", f"{', '.join(COST_METRICS)}, a file, or several: 0.7*mkmmd+0.3*text.")
flags.DEFINE_string("workdir", "", "Folder of a trained run whose network the metrics look through; else --backbone.")
flags.DEFINE_string("output", "", "File of the matrix, .npz or .csv.")
flags.DEFINE_string("plot", "", "File of a heat map, .png.")
flags.DEFINE_string("feature_cache", "", "Folder of the features; empty: `features` beside --output; none: keep none.")
flags.DEFINE_bool("overwrite", False, "Replace --output, NAME.nearest.md and --plot.")
flags.DEFINE_bool("json", False, "Print the nearest classes as JSON only.")


def main():
    """Checks the flags, then builds, writes and shows the matrix."""
    values = flags.FLAGS
    output, plot = pathlib.Path(values.output), pathlib.Path(values.plot)
    check_output(values.output, (".npz", ".csv"))
    nearest = output.with_name(f"{output.stem}.nearest.md")
    check_output(nearest, (".md",))
    if values.plot:
        check_output(values.plot, (".png",), option="plot")
    if not values.metric or parse_cost_spec(values.metric, option="metric").is_online:
        raise InputError(
            f"`metric` must be one of {', '.join(COST_METRICS)}, a file, or several (--cost_matrix is for training). "
            f"Received: {values.metric!r}."
        )
    # The cost options of a preset are for training.
    values["cost_matrix"].value = values.metric
    values["cost_refresh_steps"].value = 0
    config = config_from_flags()
    config.require_domains()
    if values.workdir:
        Run.open(values.workdir)

    load_tensorflow()
    from jtln_tf.costs.nearest_table import format_nearest
    from jtln_tf.experiment.cost_matrix import build_costs
    from jtln_tf.report.cost_matrix import save_picture

    for path in (output, plot):
        path.parent.mkdir(parents=True, exist_ok=True)
    cache = "" if values.feature_cache == "none" else values.feature_cache or str(output.parent / "features")
    with show_progress(is_silent=values.json) as progress:
        matrix = build_costs(config, workdir=values.workdir, cache=cache, progress=progress)
    matrix.save(output)
    table = format_nearest(matrix)
    write_whole(nearest, table + "\n")
    if values.plot:
        save_picture(matrix, plot)
    if values.json:
        print(json.dumps(matrix.nearest()))
        return
    print(table)
    print(f"\nMatrix        {output}  {list(matrix.values.shape)}")
    print(f"Nearest       {nearest}")
    if values.plot:
        print(f"Picture       {plot}")


def run():
    """Runs the program."""
    main_flags = ("metric", "output", "plot", "backbone", "workdir", "cost_images_per_class", "preset")
    run_program(main, __doc__, domains=("source", "target"), main_flags=main_flags)


if __name__ == "__main__":
    run()
