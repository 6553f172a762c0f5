"""Several methods under one protocol: the same data, steps and seeds."""

import contextlib
import functools
import os
import pathlib
from collections.abc import Sequence

from jtln_tf import files
from jtln_tf.comparison.jobs import Cell, choose_jobs, run_cells
from jtln_tf.comparison.plan import Variant, check_variant
from jtln_tf.comparison.progress import Progress
from jtln_tf.comparison.report import REPORT_FILE, try_to_report, write_comparison_report
from jtln_tf.comparison.table import add_catch_up, format_csv, format_details, format_table, sort_rows, summarize
from jtln_tf.config import DeviceConfig, InputError
from jtln_tf.distribution import names_workers, open_replicas
from jtln_tf.experiment.run import run_experiment
from jtln_tf.experiment.workdir import Run
from jtln_tf.experiment.workshop import Workshop
from jtln_tf.monitoring import read_curve
from jtln_tf.report.accuracy import save_accuracy_plot

_KIND = "comparison"
_DETAILS = (
    "Differences are means over seeds, in points, with their 95 % interval (paired t); runs of one seed have the same "
    "labels. The best other method is the one with the highest mean. The last column is how long it takes, with the "
    "start and the costs, until the validation accuracy is what consecutive training has in the end, and how long that "
    "takes."
)
_OWN_FILES = ("table.json", "table.md", "table.csv", "accuracy.png", REPORT_FILE)


def run_comparison(
    variants: list[Variant],
    seeds: Sequence[int],
    output: str | os.PathLike,
    *,
    overwrite: bool = False,
    keep_weights: bool = False,
    jobs: int = 1,
    devices: DeviceConfig | None = None,
    progress: Progress | None = None,
    pair: str = "",
) -> list[dict]:
    """Runs every variant with every seed; writes `table.json`, `.md`, `.csv`, `accuracy.png` and `report.html`.

    A comparison that was stopped can be called again: it keeps the finished runs in `output` and continues the
    unfinished ones. The tables are written anew after each run, the plot after each variant. No run is exported.

    Args:
        variants: Lines of the table, in order.
        seeds: Seeds, such as `range(3)`.
        output: Folder; a run is in `VARIANT/seedN/` of it.
        overwrite: Replace runs of another configuration.
        keep_weights: Keep the checkpoints of all runs, not of each variant's last one alone.
        jobs: Runs at once, each in a process of its own; 0 chooses by cores and memory.
        devices: What trains each run; None is what `DeviceConfig` finds.
        progress: Told of each run; None counts the runs of this comparison alone.
        pair: Name of this comparison among others.

    Returns:
        Rows of the table: dicts of JSON values.

    Raises:
        InputError: If a run may not use its folder, the tables would replace files of somebody else's, or a cost file
            does not fit; before the first run.
        RunStoppedError: If a run cannot go on.
    """
    output = pathlib.Path(output)
    devices = devices or DeviceConfig()
    if devices.strategy == "multi_worker" or (devices.strategy == "auto" and names_workers()):
        raise InputError(
            "`strategy` of a comparison must be one_device or mirrored. Received: several workers. Hint: train single "
            "runs with them."
        )
    kept = check_runs(variants, seeds, output, overwrite=overwrite)
    cells = [Cell(variant, seed) for variant in variants for seed in seeds]
    make_runner = functools.partial(_make_runner, output, overwrite, None if keep_weights else seeds[-1], devices)
    results, rows = {variant: {} for variant in variants}, []
    with contextlib.nullcontext(progress) if progress else Progress(len(cells)) as progress:
        for cell, result in run_cells(cells, make_runner, jobs or choose_jobs(len(cells))):
            own = results[cell.variant]
            own[cell.seed] = result
            progress.tell(cell, result, pair, is_kept=run_folder(output, cell.variant, cell.seed) in kept)
            known = {variant: [own[seed] for seed in seeds if seed in own] for variant, own in results.items() if own}
            rows = _write_tables(output, known, is_complete=len(own) == len(seeds))
    try_to_report(write_comparison_report, output)
    return rows


def check_runs(
    variants: list[Variant], seeds: Sequence[int], output: pathlib.Path, *, overwrite: bool
) -> set[pathlib.Path]:
    """Raises what `run_comparison` raises before its first run: a refusal after an hour would be late.

    Returns the folders of the runs that are finished.
    """
    check_is_ours(output, _KIND, _OWN_FILES)
    finished = set()
    for variant in variants:
        check_variant(variant, len(seeds))
        for seed in seeds:
            run = Run(run_folder(output, variant, seed), variant.configure(seed))
            run.claim(resume=True, overwrite=overwrite)
            if run.is_finished:
                finished.add(run.folder)
    return finished


def _make_runner(output, overwrite, kept_seed, devices):
    """Returns what runs one cell after the other; `kept_seed` is the seed whose weights are kept, or None for all."""
    options = {"resume": True, "overwrite": overwrite, "export": False, "devices": devices}
    workshop = Workshop(replicas=open_replicas(devices))

    def run(cell):
        folder, config = run_folder(output, cell.variant, cell.seed), cell.variant.configure(cell.seed)
        result = run_experiment(config, folder, workshop=workshop, **options)
        if kept_seed not in (None, cell.seed):
            Run(folder, config).discard_weights()
        return result

    return run


def _write_tables(output, results, *, is_complete):
    """Writes the tables of the runs that have ended; if a line `is_complete`, with what their curves say."""
    rows = sort_rows([summarize(variant, own) for variant, own in results.items()])
    if is_complete:
        curves = {variant.folder: _read_curves(output, variant, own) for variant, own in results.items()}
        rows = add_catch_up(rows, curves)
    configs = {variant.folder: variant.config.to_values() for variant in results}
    check_is_ours(output, _KIND, _OWN_FILES)
    files.mark_folder(output, _KIND)
    files.write_json(output / "table.json", {"configs": configs, "rows": rows})
    files.write_whole(output / "table.md", f"{format_table(rows)}\n\n{format_details(rows)}\n\n{_DETAILS}\n")
    files.write_whole(output / "table.csv", format_csv(results))
    if is_complete:
        # Over the steps, one label count says what there is to see.
        most = max(row["label_count"] or 0 for row in rows)
        shown = [row for row in rows if (row["label_count"] or 0) == most]
        drawn = [[(one.steps, one.accuracies) for one in curves[row["folder"]]] for row in shown]
        save_accuracy_plot(shown, drawn, output / "accuracy.png")
    return rows


def _read_curves(output, variant, results):
    runs = [Run(run_folder(output, variant, one["seed"]), variant.configure(one["seed"])) for one in results]
    return [read_curve(run.metrics) for run in runs]


def check_is_ours(output: pathlib.Path, kind: str, own_files: Sequence[str], what: str = "a comparison") -> None:
    """Raises `InputError` if a folder holds files of these names, or a mark, that nothing of the kind wrote."""
    if files.marked_version(output, kind) is not None:
        return
    found = [name for name in own_files if os.path.lexists(output / name)]
    if found or files.holds_mark(output):
        raise InputError(
            f"`output` must be a new folder or that of {what}. Received: {str(output)!r}, which holds "
            f"{found[0] if found else 'the mark of something else'!r} but no mark of {what}. Hint: a new folder."
        )


def run_folder(output: str | os.PathLike, variant: Variant, seed: int) -> pathlib.Path:
    """Returns the folder of one run of a comparison."""
    return pathlib.Path(output) / variant.folder / f"seed{seed}"
