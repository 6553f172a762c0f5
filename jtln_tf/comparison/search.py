"""Looks for good settings of a method, never by test images."""

import csv
import dataclasses
import io
import logging
import math
import os
import pathlib
import statistics

from jtln_tf import files
from jtln_tf.comparison.run import check_is_ours
from jtln_tf.config import InputError, NonFiniteLossError, options_of
from jtln_tf.experiment.config import SECTIONS, ExperimentConfig
from jtln_tf.experiment.run import run_experiment
from jtln_tf.experiment.workdir import Run
from jtln_tf.experiment.workshop import Workshop

_LOG = logging.getLogger("jtln_tf.comparison")
_KIND, _TRIALS_FILE = "search", "trials.csv"
# The same trials again if a search that was stopped is called again: finished runs are kept.
_SAMPLER_SEED = 0


@dataclasses.dataclass(frozen=True)
class Trial:
    """One choice of settings.

    Attributes:
        settings: Values of the options that are looked for, by name.
        accuracies: Validation accuracy of each run, in [0, 1].
    """

    settings: dict[str, float]
    accuracies: list[float]

    @property
    def accuracy(self) -> float:
        """Mean of the validation accuracies."""
        return statistics.mean(self.accuracies)


def find_ranges(config: ExperimentConfig, names: tuple[str, ...] = ()) -> dict[str, tuple[float, float]]:
    """Returns the range of each option that can be tuned for a configuration, by name.

    `names` narrows them down; raises `InputError` if one of them cannot be tuned, or there are none.
    """
    sections = (*(getattr(config, name) for name in SECTIONS), config.method)
    ranges = {
        section.prefix + field.name: field.metadata["tuned"]
        for section in sections
        for field in options_of(type(section))
        if field.metadata["tuned"]
    }
    if not config.method.stages(config.training.steps or 2):
        raise InputError(f"`methods` must be methods that are trained. Received: {config.method.name}.")
    unknown = [name for name in names if name not in ranges]
    if unknown:
        raise InputError(
            f"`tuned_options` must be of {', '.join(ranges)} for {config.method.name}. Received: {', '.join(unknown)}."
        )
    return {name: bounds for name, bounds in ranges.items() if not names or name in names}


def search_settings(
    config: ExperimentConfig,
    trial_configs: list[ExperimentConfig],
    output: str | os.PathLike,
    *,
    ranges: dict[str, tuple[float, float]],
    num_trials: int,
    overwrite: bool = False,
) -> list[Trial]:
    """Tries settings of a method, the present ones first, and writes `trials.csv` and `METHOD.flags` into a folder.

    A present value outside of its range is brought to the nearer end. Each trial draws all settings at once, by the
    Tree-structured Parzen Estimator of Optuna on logarithmic scales (Bergstra et al., 2011, Algorithms for
    hyper-parameter optimization). A search that was stopped can be called again: it makes the same trials, and keeps
    the finished runs. A run that diverges counts as an accuracy of 0. A trial with an accuracy of 1 is the last: none
    can be better, and of equals the first is taken.

    Args:
        config: Configuration that the settings are for.
        trial_configs: Configurations of the runs of each trial.
        output: Folder of the search; the runs are in `trialN/seedM/` of it.
        ranges: Lowest and highest value of each option.
        num_trials: Number of trials at most.
        overwrite: Replace runs of another configuration.

    Returns:
        All trials, in order.

    Raises:
        InputError: If Optuna is not installed, its files would replace others, or a run may not use its folder.
    """
    optuna = _import_optuna()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    output, workshop = pathlib.Path(output), Workshop()
    check_is_ours(output, _KIND, (_TRIALS_FILE, f"{config.method.name}.flags"), "a search")
    study = optuna.create_study(direction="maximize", sampler=optuna.samplers.TPESampler(seed=_SAMPLER_SEED))
    study.enqueue_trial(_present_settings(config, ranges))
    trials = []
    for number in range(num_trials):
        asked = study.ask()
        settings = {name: asked.suggest_float(name, *bounds, log=True) for name, bounds in ranges.items()}
        accuracies = []
        for one in trial_configs:
            folder = output / f"trial{number}" / f"seed{one.training.seed}"
            accuracies.append(_judge(with_settings(one, settings), folder, overwrite, workshop))
        trials.append(Trial(settings, accuracies))
        study.tell(asked, trials[-1].accuracy)
        files.mark_folder(output, _KIND)
        _write(output, config, trials)
        _LOG.info("Trial %d of %d: %s", number + 1, num_trials, _describe(trials[-1]))
        if trials[-1].accuracy == 1:
            break
    return trials


def _judge(config, folder, overwrite, workshop):
    """Returns the validation accuracy of a run; 0 if its settings let training diverge, which is told."""
    try:
        result = run_experiment(config, folder, resume=True, overwrite=overwrite, export=False, workshop=workshop)
    except NonFiniteLossError as error:
        # Called again it would diverge again, and the search would never get past it.
        _LOG.warning("%s counts as an accuracy of 0: %s", folder, error)
        return 0.0
    Run(folder, config).discard_weights()
    return result["validation_accuracy"]


def find_best(trials: list[Trial]) -> Trial:
    """Returns the trial with the highest accuracy; among equals the first, so that the present settings win."""
    return max(trials, key=lambda trial: trial.accuracy)


def with_settings(config: ExperimentConfig, settings: dict[str, float]) -> ExperimentConfig:
    """Returns a configuration with other values of some options, which may be of any section or of the method."""
    changed = {}
    for name in (*SECTIONS, "method"):
        section = getattr(config, name)
        own = {
            field.name: settings[section.prefix + field.name]
            for field in options_of(type(section))
            if section.prefix + field.name in settings
        }
        changed[name] = dataclasses.replace(section, **own)
    return dataclasses.replace(config, **changed)


def _present_settings(config, ranges):
    """Returns the values of a configuration in the ranges; those that `auto` stands for as they are at last."""
    resolved = config.resolve()
    sections = [getattr(resolved, name) for name in (*SECTIONS, "method")]
    values = {
        section.prefix + field.name: getattr(section, field.name)
        for section in sections
        for field in options_of(type(section))
    }
    return {name: min(max(values[name], low), high) for name, (low, high) in ranges.items()}


def _write(output, config, trials):
    names = list(trials[0].settings)
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(("trial", *names, "validation_accuracy", *(f"run_{n}" for n in range(len(trials[0].accuracies)))))
    for number, trial in enumerate(trials):
        writer.writerow((number, *trial.settings.values(), trial.accuracy, *trial.accuracies))
    files.write_whole(output / _TRIALS_FILE, text.getvalue())
    best = find_best(trials)
    lines = [f"# Found by jtln tune: the best of {len(trials)} trials, {_describe(best)}."]
    # Those at their defaults too: a preset may have others.
    lines += [f"--method={config.method.name}", *(f"--{name}={_round(one)}" for name, one in best.settings.items())]
    files.write_whole(output / f"{config.method.name}.flags", "\n".join(lines) + "\n")


def _round(value):
    """Returns a number with three digits: more would say nothing."""
    return float(f"{value:.3g}")


def _describe(trial):
    error = ""
    if len(trial.accuracies) > 1:
        error = f" ± {100 * statistics.stdev(trial.accuracies) / math.sqrt(len(trial.accuracies)):.1f}"
    settings = ", ".join(f"{name}={_round(value):g}" for name, value in trial.settings.items())
    return f"{100 * trial.accuracy:.1f}{error} % of the validation images with {settings}"


def _import_optuna():
    try:
        import optuna
    except ImportError as error:
        raise InputError(
            "`jtln tune` needs the package optuna. Received: an installation without it. Hint: pip install "
            "'jtln-tf[tune]'."
        ) from error
    return optuna
