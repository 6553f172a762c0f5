"""Several methods under one protocol: the same data, steps and seeds. Floor 5."""

import dataclasses
import json
import pathlib
import statistics

from jtln_tf import workdir as files
from jtln_tf.experiment import run_experiment

_TITLES = {
    "target_only": "target only",
    "consecutive": "consecutive (source, then target)",
    "joint": "joint without OT",
    "jtln": "JTLN",
}


def run_comparison(config, methods, seeds, output, *, overwrite=False):
    """Runs every method with every seed, and writes `table.json`, `table.md` and `accuracy.png`.

    Finished runs in `output` are taken as they are and unfinished ones are gone on with, so that a comparison that was
    stopped can be called again. Only the last run of each method is exported.

    Args:
        config: `ExperimentConfig`; its method and seed are replaced.
        methods: Names of methods, in the order of the table.
        seeds: Seeds, such as `range(3)`.
        output: Folder; a run stands in `METHOD/seedN/` of it.
        overwrite: Replace runs of another configuration.

    Returns:
        Rows of the table: dicts of JSON values.
    """
    output = pathlib.Path(output)
    plan = [(method, seed) for method in methods for seed in seeds]
    configs = {run: _configure(config, *run) for run in plan}
    # All folders are looked at before the first run: a refusal after an hour would be late.
    resumes = {run: not overwrite or _holds(output, run, configs[run]) for run in plan}
    for run in plan:
        files.check_workdir(run_folder(output, *run), configs[run], resume=resumes[run], overwrite=not resumes[run])
    results = {method: [] for method in methods}
    for run in plan:
        method, seed = run
        result = run_experiment(
            configs[run],
            run_folder(output, method, seed),
            resume=resumes[run],
            overwrite=not resumes[run],
            export=seed == seeds[-1],
        )
        results[method].append(result)
    rows = [_summarize(method, results[method]) for method in methods]
    files.write_json(output / "table.json", {"config": dataclasses.asdict(config), "rows": rows})
    files.write_whole(output / "table.md", format_table(rows) + "\n")
    _plot(rows, output)
    return rows


def run_folder(output, method, seed):
    """Returns the folder of one run of a comparison."""
    return pathlib.Path(output) / method / f"seed{seed}"


def format_table(rows):
    """Formats the rows of `run_comparison` as a Markdown table."""
    lines = ["| method | target test accuracy, % | seconds |", "|---|---|---|"]
    for row in rows:
        spread = f" ± {100 * row['target_accuracy_std']:.1f}" if len(row["seeds"]) > 1 else ""
        accuracy = f"{100 * row['target_accuracy']:.1f}{spread}"
        lines.append(f"| {_TITLES[row['method']]} | {accuracy} | {row['train_seconds']:.0f} |")
    return "\n".join(lines)


def _configure(config, method, seed):
    return dataclasses.replace(config, training=dataclasses.replace(config.training, method=method, seed=seed))


def _holds(output, run, config):
    folder = run_folder(output, *run)
    return (folder / files.CONFIG_FILE).is_file() and files.read_config(folder) == config


def _summarize(method, results):
    accuracies = [result["target_accuracy"] for result in results]
    return {
        "method": method,
        "target_accuracy": statistics.mean(accuracies),
        "target_accuracy_std": statistics.stdev(accuracies) if len(accuracies) > 1 else 0.0,
        "target_accuracies": accuracies,
        "target_macro_accuracy": statistics.mean(result["target_macro_accuracy"] for result in results),
        "train_seconds": statistics.mean(result["train_seconds"] for result in results),
        "seeds": [result["seed"] for result in results],
        "steps": results[0]["steps"],
        "versions": results[0]["versions"],
    }


def _plot(rows, output):
    """Draws the test accuracy of each run as a dot, and the validation accuracy over the steps."""
    # The object interface: pyplot would look for a screen.
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 4), layout="constrained")
    dots, curves = figure.subplots(1, 2)
    for position, row in enumerate(rows):
        values = [100 * accuracy for accuracy in row["target_accuracies"]]
        color = f"C{position}"
        dots.plot(values, [position] * len(values), "o", color=color, alpha=0.6)
        dots.plot([100 * row["target_accuracy"]], [position], "|", color=color, markersize=24)
        for index, seed in enumerate(row["seeds"]):
            steps, accuracies = _validation_curve(run_folder(output, row["method"], seed))
            label = _TITLES[row["method"]] if index == 0 else None
            curves.plot(steps, accuracies, color=color, alpha=0.7, label=label)
    dots.set_yticks(range(len(rows)), [_TITLES[row["method"]] for row in rows])
    dots.invert_yaxis()
    dots.set(xlabel="target test accuracy, %  (dot: one seed, bar: mean)")
    dots.grid(axis="x", alpha=0.3)
    curves.set(xlabel="step", ylabel="target validation accuracy, %")
    curves.grid(alpha=0.3)
    curves.legend()
    figure.savefig(output / "accuracy.png", dpi=120)


def _validation_curve(folder):
    lines = (folder / files.METRICS_FILE).read_text("utf-8").splitlines()
    entries = [entry for entry in map(json.loads, lines) if "target_validation_accuracy" in entry]
    return [entry["step"] for entry in entries], [100 * entry["target_validation_accuracy"] for entry in entries]
