"""Several methods under one protocol: the same data, steps and seeds."""

import os
import pathlib
from collections.abc import Sequence

from jtln_tf import files
from jtln_tf.comparison.plan import Variant, check_variant
from jtln_tf.comparison.table import format_table, summarize
from jtln_tf.config import InputError
from jtln_tf.experiment.run import run_experiment
from jtln_tf.experiment.workdir import Run
from jtln_tf.experiment.workshop import Workshop
from jtln_tf.monitoring import read_curve
from jtln_tf.report.accuracy import save_accuracy_plot

_KIND = "comparison"
_OWN_FILES = ("table.json", "table.md", "accuracy.png")


def run_comparison(
    variants: list[Variant], seeds: Sequence[int], output: str | os.PathLike, *, overwrite: bool = False
) -> list[dict]:
    """Runs every variant with every seed, and writes `table.json`, `table.md` and `accuracy.png`.

    A comparison that was stopped can be called again: it keeps the finished runs in `output` and continues the
    unfinished ones. Only the last run of each variant is exported.

    Args:
        variants: Lines of the table, in order.
        seeds: Seeds, such as `range(3)`.
        output: Folder; a run is in `VARIANT/seedN/` of it.
        overwrite: Replace runs of another configuration.

    Returns:
        Rows of the table: dicts of JSON values.

    Raises:
        InputError: If a run may not use its folder, the tables would replace files of somebody else's, or a cost file
            does not fit; before the first run.
    """
    output = pathlib.Path(output)
    # Looks at all folders before the first run: a refusal after an hour would be late.
    _check_is_ours(output)
    for variant in variants:
        check_variant(variant, len(seeds))
        for seed in seeds:
            Run(run_folder(output, variant, seed), variant.configure(seed)).claim(resume=True, overwrite=overwrite)

    workshop = Workshop()

    def run_variant(variant, seed):
        folder, is_last = run_folder(output, variant, seed), seed == seeds[-1]
        options = {"resume": True, "overwrite": overwrite, "export": is_last, "workshop": workshop}
        return run_experiment(variant.configure(seed), folder, **options)

    rows = [summarize(variant, [run_variant(variant, seed) for seed in seeds]) for variant in variants]
    configs = {variant.folder: variant.config.to_values() for variant in variants}
    _check_is_ours(output)
    files.mark_folder(output, _KIND)
    files.write_json(output / "table.json", {"configs": configs, "rows": rows})
    files.write_whole(output / "table.md", format_table(rows) + "\n")
    curves = [
        [read_curve(Run(run_folder(output, variant, seed), variant.configure(seed)).metrics) for seed in seeds]
        for variant in variants
    ]
    save_accuracy_plot(rows, curves, output / "accuracy.png")
    return rows


def _check_is_ours(output):
    if files.marked_version(output, _KIND) is not None:
        return
    found = [name for name in _OWN_FILES if os.path.lexists(output / name)]
    if found or files.holds_mark(output):
        raise InputError(
            f"`output` must be a new folder or that of a comparison. Received: {str(output)!r}, which holds "
            f"{found[0] if found else 'the mark of something else'!r} but no mark of a comparison. Hint: a new folder."
        )


def run_folder(output: str | os.PathLike, variant: Variant, seed: int) -> pathlib.Path:
    """Returns the folder of one run of a comparison."""
    return pathlib.Path(output) / variant.folder / f"seed{seed}"
