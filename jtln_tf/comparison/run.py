"""Several methods under one protocol: the same data, steps and seeds. Floor 5."""

import dataclasses
import json
import pathlib
import re
import statistics

from jtln_tf import workdir as files
from jtln_tf.config import ONLINE, CostConfig, InputError, parse_cost_spec, parse_domain_spec
from jtln_tf.costs import load_cost_matrix
from jtln_tf.experiment import check_cost_files, run_experiment

_TITLES = {
    "target_only": "target only",
    "consecutive": "consecutive (source, then target)",
    "joint": "joint without OT",
    "jtln": "JTLN",
}


@dataclasses.dataclass(frozen=True)
class Variant:
    """One line of the table.

    Attributes:
        method: Name of the method.
        cost_matrix: Cost matrix specification of its own; empty is the configuration's.
    """

    method: str
    cost_matrix: str = ""

    @property
    def title(self):
        """What the line is called."""
        return f"{_TITLES[self.method]}, {self.cost_matrix}" if self.cost_matrix else _TITLES[self.method]

    @property
    def folder(self):
        """Folder of its runs in that of the comparison."""
        return f"{self.method}-{_slug(self.cost_matrix)}" if self.cost_matrix else self.method

    def configure(self, config, seed):
        """Returns the configuration of one of its runs."""
        training = dataclasses.replace(config.training, method=self.method, seed=seed)
        if not self.cost_matrix:
            return dataclasses.replace(config, training=training)
        # What does not look through the network stays as it is; the rest is estimated anew as often as the others.
        is_refreshed = parse_cost_spec(self.cost_matrix).looks_through_network
        steps = config.cost.cost_refresh_steps if is_refreshed else 0
        if self.cost_matrix == ONLINE:
            steps = steps or config.training.steps_per_epoch
        # A new object, not `replace`: the two options are checked together.
        options = {**dataclasses.asdict(config.cost), "cost_matrix": self.cost_matrix, "cost_refresh_steps": steps}
        return dataclasses.replace(config, training=training, cost=CostConfig(**options))


def plan_variants(methods, cost_matrices=()):
    """Returns the lines of a table: each method, and JTLN once for each cost matrix where some are given.

    Raises:
        InputError: If two cost matrices would share a folder.
    """
    variants = []
    for method in methods:
        own = cost_matrices if method == "jtln" and cost_matrices else [""]
        variants += [Variant(method, cost_matrix) for cost_matrix in own]
    folders = [variant.folder for variant in variants]
    repeated = [folder for folder in folders if folders.count(folder) > 1]
    if repeated:
        raise InputError(
            f"`methods` and `cost_matrices` must be named once each. Received: {repeated[0]!r} repeatedly."
        )
    return variants


def run_comparison(config, variants, seeds, output, *, overwrite=False):
    """Runs every variant with every seed, and writes `table.json`, `table.md` and `accuracy.png`.

    Finished runs in `output` are taken as they are and unfinished ones are gone on with, so that a comparison that was
    stopped can be called again. Only the last run of each variant is exported.

    Args:
        config: `ExperimentConfig`; its method and seed, and the cost matrix where a variant has its own, are replaced.
        variants: `Variant`s in the order of the table.
        seeds: Seeds, such as `range(3)`.
        output: Folder; a run stands in `VARIANT/seedN/` of it.
        overwrite: Replace runs of another configuration.

    Returns:
        Rows of the table: dicts of JSON values.
    """
    output = pathlib.Path(output)
    plan = [(variant, seed) for variant in variants for seed in seeds]
    configs = {run: run[0].configure(config, run[1]) for run in plan}
    # All folders are looked at before the first run: a refusal after an hour would be late.
    resumes = {run: not overwrite or _holds(output, run, configs[run]) for run in plan}
    for variant in variants:
        _check_cost_files(variant, configs[variant, seeds[0]], len(seeds))
    for run in plan:
        files.check_workdir(run_folder(output, *run), configs[run], resume=resumes[run], overwrite=not resumes[run])
    results = {variant: [] for variant in variants}
    for run in plan:
        variant, seed = run
        result = run_experiment(
            configs[run],
            run_folder(output, variant, seed),
            resume=resumes[run],
            overwrite=not resumes[run],
            export=seed == seeds[-1],
        )
        results[variant].append(result)
    rows = [_summarize(variant, results[variant]) for variant in variants]
    files.write_json(output / "table.json", {"config": dataclasses.asdict(config), "rows": rows})
    files.write_whole(output / "table.md", format_table(rows) + "\n")
    _plot(rows, [[run_folder(output, variant, seed) for seed in seeds] for variant in variants], output)
    return rows


def run_folder(output, variant, seed):
    """Returns the folder of one run of a comparison."""
    return pathlib.Path(output) / variant.folder / f"seed{seed}"


def format_table(rows):
    """Formats the rows of `run_comparison` as a Markdown table."""
    lines = ["| method | target test accuracy, % | seconds |", "|---|---|---|"]
    for row in rows:
        spread = f" ± {100 * row['target_accuracy_std']:.1f}" if len(row["seeds"]) > 1 else ""
        accuracy = f"{100 * row['target_accuracy']:.1f}{spread}"
        lines.append(f"| {row['title']} | {accuracy} | {row['train_seconds']:.0f} |")
    return "\n".join(lines)


def _check_cost_files(variant, config, num_seeds):
    if variant.method != "jtln":
        return
    check_cost_files(config.cost)
    draws_labels = parse_domain_spec(config.data.target, per_class=config.data.labels_per_class or None).per_class
    for path in parse_cost_spec(config.cost.cost_matrix).files:
        if load_cost_matrix(path).data and draws_labels and num_seeds > 1:
            raise InputError(
                "`seeds` must be 1 with a cost matrix that was built from one draw of the labels. "
                f"Received: {num_seeds}, {path!r}. Hint: its metric in place of the file builds it for each seed."
            )


def _slug(cost_matrix):
    return re.sub(r"[^0-9A-Za-z_.]+", "-", cost_matrix).strip("-")


def _holds(output, run, config):
    folder = run_folder(output, *run)
    return (folder / files.CONFIG_FILE).is_file() and files.read_config(folder) == config


def _summarize(variant, results):
    accuracies = [result["target_accuracy"] for result in results]
    shared = [result for result in results if "namesakes" in result]
    return {
        "method": variant.method,
        "cost_matrix": variant.cost_matrix or None,
        "title": variant.title,
        "target_accuracy": statistics.mean(accuracies),
        "target_accuracy_std": statistics.stdev(accuracies) if len(accuracies) > 1 else 0.0,
        "target_accuracies": accuracies,
        "target_macro_accuracy": statistics.mean(result["target_macro_accuracy"] for result in results),
        "train_seconds": statistics.mean(result["train_seconds"] for result in results),
        "namesakes_nearest": [result["namesakes_nearest"] for result in shared] or None,
        "seeds": [result["seed"] for result in results],
        "steps": results[0]["steps"],
        "versions": results[0]["versions"],
    }


def _plot(rows, folders, output):
    """Draws the test accuracy of each run as a dot, and the validation accuracy over the steps."""
    # The object interface: pyplot would look for a screen.
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 2 + 0.5 * max(4, len(rows))), layout="constrained")
    dots, curves = figure.subplots(1, 2)
    for position, (row, runs) in enumerate(zip(rows, folders, strict=True)):
        values = [100 * accuracy for accuracy in row["target_accuracies"]]
        color = f"C{position}"
        dots.plot(values, [position] * len(values), "o", color=color, alpha=0.6)
        dots.plot([100 * row["target_accuracy"]], [position], "|", color=color, markersize=24)
        for index, run in enumerate(runs):
            steps, accuracies = _validation_curve(run)
            curves.plot(steps, accuracies, color=color, alpha=0.7, label=row["title"] if index == 0 else None)
    dots.set_yticks(range(len(rows)), [row["title"] for row in rows])
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
