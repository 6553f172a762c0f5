"""Trains one network and evaluates it.

    jtln train photos/many photos/few --workdir=runs/first

Writes config.json, classes.json, cost_matrix.npz, mean_plan.npz, checkpoints/, tensorboard/, metrics.jsonl,
evaluation.json, result.json, export/ and report.html into --workdir, and prints the result.
"""

import json
import logging
import pathlib
import shlex
import sys

from absl import flags

from jtln_tf.config import InputError
from jtln_tf.experiment.workdir import Run
from jtln_tf.flags import (
    config_from_flags,
    define_config_flags,
    define_device_flags,
    devices_from_flags,
    with_given_flags,
)
from jtln_tf.tools.command import command_line
from jtln_tf.tools.messages import emphasize
from jtln_tf.tools.program import default_folder, load_tensorflow, run_program

define_config_flags()
define_device_flags()
flags.DEFINE_string("workdir", "", "Folder of the run; empty: runs/SOURCE_to_TARGET.")
flags.DEFINE_bool(
    "resume",
    False,
    "Go on with the run in --workdir where it was stopped; no other flag is needed. --steps=N extends it; learning "
    "rates and the other flags of training, but --optimizer and --seed, may change too.",
)
flags.DEFINE_bool("overwrite", False, "Replace the run in --workdir.")
flags.DEFINE_bool("export", True, "Write a SavedModel to WORKDIR/export.")
flags.DEFINE_bool("report", True, "Write WORKDIR/report.html, a page to look at.")
flags.DEFINE_bool("json", False, "Print the result as JSON only.")


def main():
    """Checks what can be checked without TensorFlow, then trains."""
    values = flags.FLAGS
    config, devices = config_from_flags(), devices_from_flags()
    if values.resume and values.overwrite:
        raise InputError("`resume` and `overwrite` exclude each other. Received: both.")
    if values.resume and not (values.workdir or config.data.source or config.data.target):
        raise InputError("`resume` needs `workdir`, the folder of the run. Received: neither it nor domains.")
    if values.workdir and values.resume:
        begun = Run.open(values.workdir).config
        # Without a domain, the flags that are given change the run as it was begun.
        config = config if config.data.source or config.data.target else with_given_flags(begun)
    config.require_domains()
    workdir = values.workdir or default_folder(config.data)

    # What each checkpoint measured is a note.
    logging.getLogger("jtln_tf").setLevel(logging.INFO)
    load_tensorflow()
    from jtln_tf.distribution import open_replicas
    from jtln_tf.experiment.run import run_experiment

    options = {"resume": values.resume, "overwrite": values.overwrite, "export": values.export, "devices": devices}
    result = run_experiment(config, workdir, extend=values.resume, **options)
    if values.report and open_replicas(devices).is_chief:
        from jtln_tf.experiment.run_report import try_write_run_report

        try_write_run_report(workdir)
    print(json.dumps(result) if values.json else describe_result(result, workdir, has_export=values.export))


def describe_result(result: dict, workdir: str, *, has_export: bool) -> str:
    """Returns the lines that a run ends with, from its `result.json`, with the command to go on with."""
    tested = result["target_test_images"]
    accuracy = emphasize(f"{100 * result['target_accuracy']:.1f} %", sys.stdout)
    lines = {
        "method": result["method"],
        "target accuracy": f"{accuracy}  ({tested} test images)",
        "macro accuracy": f"{100 * result['target_macro_accuracy']:.1f} %",
    }
    # Missing in results of older runs.
    if result.get("validation_accuracy") is not None:
        accuracy, count = 100 * result["validation_accuracy"], result["target_validation_images"]
        lines["validation"] = f"{accuracy:.1f} %  ({count} validation images)"
    lines["training time"] = f"{result['train_seconds']:.0f} s for the start and {result['steps']} steps"
    if (pathlib.Path(workdir) / "report.html").is_file():
        lines["report"] = f"{workdir}/report.html"
    lines["TensorBoard"] = f"{sys.executable} -m tensorboard.main --logdir={workdir}/tensorboard"
    verb, flag = ("predict", f"--model={workdir}/export") if has_export else ("export", f"--workdir={workdir}")
    if has_export:
        lines["SavedModel"] = f"{workdir}/export"
    images = " IMAGE ..." if has_export else f" --output={workdir}/export"
    lines["next"] = f"{command_line()} {verb} {shlex.quote(flag)}{images}"
    return "\n".join(f"{name:<17} {text}" for name, text in lines.items())


def run():
    """Runs the program."""
    main_flags = (
        "workdir",
        "labels_per_class",
        "method",
        "backbone",
        "image_size",
        "steps",
        "seed",
        "resume",
        "preset",
    )
    run_program(main, __doc__, domains=("source", "target"), main_flags=main_flags)


if __name__ == "__main__":
    run()
