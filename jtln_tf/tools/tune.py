"""Looks for good settings of one or more methods, with the same number of trials for each.

    jtln tune photos/many photos/few --methods=jtln --trials=20

Settings are judged by validation images: those of the target if it has at least 50, else those of transfers between
classes of the source. Test images are never looked at. Writes METHOD/METHOD.flags into --output, for
`jtln train --flagfile=FILE` and `jtln compare --methods="METHOD?flagfile=FILE"`, and METHOD/trials.csv. Called again it
goes on where it was stopped. Needs the package optuna (pip install 'jtln-tf[tune]').
"""

import logging
import os

from absl import flags

from jtln_tf.config import InputError
from jtln_tf.flags import config_from_flags, define_config_flags
from jtln_tf.methods import DEFAULT_METHOD, METHODS
from jtln_tf.tools.program import default_folder, load_tensorflow, run_program

define_config_flags()
flags.DEFINE_list("methods", [DEFAULT_METHOD.name], f"Methods to tune, of {', '.join(METHODS)}.")
flags.DEFINE_integer(
    "trials", 20, "Most trials of each method; one with 100 % is the last.", lower_bound=1, upper_bound=10_000
)
flags.DEFINE_integer(
    "seeds", 3, "Runs of each trial: seeds 0 to N-1, counted from --seed.", lower_bound=1, upper_bound=100
)
flags.DEFINE_enum("tuned_on", "auto", ["auto", "validation", "episodes"], "Images that judge the settings.")
flags.DEFINE_list("tuned_options", [], "Options to look for; empty: all that have a range.")
flags.DEFINE_string("output", "", "Folder of the search; empty: runs/SOURCE_to_TARGET_tuned.")
flags.DEFINE_bool("overwrite", False, "Replace runs of another configuration in --output.")


def main():
    """Checks the flags, then searches."""
    values = flags.FLAGS
    if values["method"].present:
        raise InputError(f"`methods` must name the methods to tune. Received: --method={values.method}.")
    unknown = [name for name in values.methods if name not in METHODS]
    if unknown or not values.methods:
        raise InputError(f"`methods` must be of {', '.join(METHODS)}. Received: {', '.join(unknown)}.")
    configs = [config_from_flags(name) for name in values.methods]
    configs[0].require_domains()
    output = values.output or default_folder(configs[0].data, "_tuned")
    logging.getLogger("jtln_tf.comparison").setLevel(logging.INFO)
    logging.getLogger("jtln_tf.config").setLevel(logging.INFO)
    load_tensorflow()
    from jtln_tf.comparison.episodes import choose_trial_data, make_trial_configs
    from jtln_tf.comparison.search import find_best, find_ranges, search_settings

    ranges = [find_ranges(config, tuple(values.tuned_options)) for config in configs]
    trial_data = choose_trial_data(configs[0]) if values.tuned_on == "auto" else values.tuned_on
    seeds = range(values.seed, values.seed + values.seeds)
    for config, own in zip(configs, ranges, strict=True):
        folder = os.path.join(output, config.method.name)
        trial_configs = make_trial_configs(config, trial_data, seeds)
        options = {"ranges": own, "num_trials": values.trials, "overwrite": values.overwrite}
        trials = search_settings(config, trial_configs, folder, **options)
        best = find_best(trials)
        given, found = (100 * trial.accuracy for trial in (trials[0], best))
        print(
            f"\n{config.method.title}, judged by {trial_data}: {given:.1f} % with the settings as given, {found:.1f} % "
            f"with the best of {len(trials)} trials"
        )
        with open(os.path.join(folder, f"{config.method.name}.flags"), encoding="utf-8") as file:
            print(file.read().rstrip())
        print(f"Use them      jtln train --flagfile={folder}/{config.method.name}.flags ...")


def run():
    """Runs the program."""
    main_flags = ("output", "methods", "trials", "seeds", "tuned_on", "tuned_options", "backbone", "steps", "preset")
    run_program(main, __doc__, domains=("source", "target"), main_flags=main_flags)


if __name__ == "__main__":
    run()
