"""Measures the throughput of one and of two workers, each pinned to a core of its own.

    python -m benchmarks.scaling
    python -m benchmarks.scaling --backbone=efficientnet_lite0 --image_size=96 --batch=16

Every worker trains `joint` on its share of the digits; two workers take turns with one. weak: each worker's share is
the same, so that the batch of two is twice as large. strong: the batch is the same, and each of two workers takes half.
apart: two runs at once that exchange nothing, which is what the machine allows. Efficiency is the throughput of two
over twice that of one. A figure is the median over the entries of a run's log behind the first, which compiles.

    python -m benchmarks.scaling --paper --backbone=efficientnet_lite0 --image_size=224

--paper trains nothing: it computes the time of a step on 1 to 256 GPUs from the bytes of the gradients of this backbone
and the speeds that the flags say, and prints a table.
"""

import json
import math
import os
import pathlib
import statistics
import subprocess
import sys
import tempfile

from absl import flags

from jtln_tf.config import InputError
from jtln_tf.tools.launch import worker_environments
from jtln_tf.tools.program import load_tensorflow, run_program

flags.DEFINE_string("backbone", "small_cnn", "Backbone, trained from random weights.")
flags.DEFINE_integer("image_size", 28, "Side of the images in pixels.", lower_bound=8)
flags.DEFINE_enum("batchnorm", "train", ["train", "frozen"], "What BatchNormalization of the backbone does.")
flags.DEFINE_integer("batch", 64, "Images of each domain in the batch of one worker.", lower_bound=2)
flags.DEFINE_integer("steps", 60, "Steps of a run.", lower_bound=30)
flags.DEFINE_integer("rounds", 3, "Runs of each kind.", lower_bound=1)
flags.DEFINE_bool("paper", False, "Compute the time of a step on many GPUs instead.")
flags.DEFINE_float("images_per_second", 1000.0, "--paper: images that one GPU trains on in a second.", lower_bound=0.01)
flags.DEFINE_integer("gpus_per_machine", 8, "--paper: GPUs of a machine.", lower_bound=1)
flags.DEFINE_float("inner_gb", 200.0, "--paper: GB a second between GPUs of a machine.", lower_bound=0.001)
flags.DEFINE_float("outer_gb", 10.0, "--paper: GB a second between machines.", lower_bound=0.001)
flags.DEFINE_float(
    "latency_us", 15.0, "--paper: microseconds to pass a message on between two machines.", lower_bound=0
)
flags.DEFINE_float("decoded_per_second", 5000.0, "--paper: images that the cores beside a GPU read.", lower_bound=0.01)
flags.DEFINE_string("json", "", "Where the figures are written as JSON.")

_LOG_STEPS = 10
_DATA = {"source": "mnist5k", "target": "optdigits"}


def main():
    """Measures, and prints a line for each kind of scaling."""
    values = flags.FLAGS
    if values.paper:
        print_paper(values)
        return
    cores = sorted(os.sched_getaffinity(0))[:2]
    if len(cores) < 2:
        raise InputError("This benchmark needs two cores. Received: one.")
    share, both = values.batch, 2 * values.batch
    rates = {name: [] for name in ("one", "apart", "weak", "strong")}
    for _ in range(values.rounds):
        rates["one"] += _train_groups(values, [cores[:1]], share)
        rates["apart"].append(sum(_train_groups(values, [[core] for core in cores], share)))
        rates["weak"] += _train_groups(values, [cores], both)
        rates["strong"] += _train_groups(values, [cores], share)
    medians = {name: statistics.median(found) for name, found in rates.items()}
    print(f"1 worker   {medians['one']:8.0f} images a second, batch {share} + {share}")
    for name, what in (
        ("apart", f"2 runs     {{:8.0f}} images a second, batch {share} + {share} each, nothing exchanged"),
        ("weak", f"2 workers  {{:8.0f}} images a second, batch {both} + {both}, weak scaling"),
        ("strong", f"2 workers  {{:8.0f}} images a second, batch {share} + {share}, strong scaling"),
    ):
        pairs = [100 * two / (2 * one) for one, two in zip(rates["one"], rates[name], strict=True)]
        print(
            f"{what.format(medians[name])}: efficiency {statistics.median(pairs):.0f} % "
            f"({min(pairs):.0f} to {max(pairs):.0f} %)"
        )
    if values.json:
        pathlib.Path(values.json).write_text(json.dumps(rates, indent=1))


def _train_groups(values, groups, batch):
    """Returns the images a second of runs at the same time, each with one worker on each of its cores."""
    with tempfile.TemporaryDirectory() as folder:
        processes = [
            process
            for number, cores in enumerate(groups)
            for process in _start(_command(values, batch, f"{folder}/{number}"), cores)
        ]
        errors = [one.communicate()[1].decode("utf-8", "replace") for one in processes]
        if any(one.returncode for one in processes):
            raise InputError(f"A run must train. Received: {errors[0].strip().splitlines()[-1]}")
        return [_read_speed(pathlib.Path(folder, str(number))) for number in range(len(groups))]


def _command(values, batch, folder):
    command = [sys.executable, "-m", "jtln_tf", "train", "--method=joint", f"--workdir={folder}", "--noexport"]
    command += [f"--{side}=builtin:{name}?validation_fraction=0" for side, name in _DATA.items()]
    command += [f"--backbone={values.backbone}", f"--image_size={values.image_size}", "--freeze_until="]
    command += [f"--batchnorm={values.batchnorm}", f"--source_batch={batch}", f"--target_batch={batch}"]
    command += [f"--steps={values.steps}", f"--steps_per_epoch={values.steps}", f"--log_steps={_LOG_STEPS}"]
    return [*command, f"--cache_dir={folder}_cache"]


def _start(command, cores):
    environments = worker_environments(len(cores)) if len(cores) > 1 else [dict(os.environ)]
    return [
        subprocess.Popen(
            command,
            env=environment,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            preexec_fn=lambda core=core: os.sched_setaffinity(0, {core}),
        )
        for core, environment in zip(cores, environments, strict=True)
    ]


def _read_speed(folder):
    lines = (folder / "metrics.jsonl").read_text().splitlines()
    speeds = [entry["images_per_second"] for line in lines if "images_per_second" in (entry := json.loads(line))]
    return statistics.median(speeds[1:])


def print_paper(values):
    """Prints the computed time of a step on 1 to 256 GPUs, with and without statistics over the whole batch."""
    load_tensorflow()
    import keras

    from jtln_tf.backbones import build_backbone
    from jtln_tf.config import NetworkConfig

    backbone = build_backbone(NetworkConfig(backbone=values.backbone), (values.image_size, values.image_size, 3))
    size = 4 * sum(weight.shape.num_elements() for weight in backbone.trainable_variables)
    norms = sum(isinstance(layer, keras.layers.BatchNormalization) for layer in backbone.layers)
    print(
        f"{values.backbone}: {size / 1e6:.1f} MB of gradients, {norms} BatchNormalization layers; "
        f"{2 * values.batch} images a GPU\n"
    )
    print("| GPUs | step, ms | computing | gradients | small sums | images a second | efficiency | frozen norms |")
    print("|---|---|---|---|---|---|---|---|")
    alone = step_seconds(values, size, 0, 1)
    for count in (1, 8, 16, 32, 64, 128, 256):
        parts = step_seconds(values, size, norms, count)
        total, frozen = sum(parts), sum(step_seconds(values, size, 0, count))
        print(
            f"| {count} | {1e3 * total:.0f} | {1e3 * parts[0]:.0f} | {1e3 * parts[1]:.1f} | {1e3 * parts[2]:.1f} "
            f"| {2 * values.batch * count / total:,.0f} | {100 * sum(alone) / total:.0f} % "
            f"| {100 * sum(alone) / frozen:.0f} % |"
        )


def step_seconds(values, gradient_bytes: int, num_norms: int, count: int) -> tuple[float, float, float]:
    """Returns the seconds of a step that computing or reading, the gradients, and small sums take on some GPUs.

    Gradients are summed in a ring once all are known, first inside of machines, then between them. A small sum takes a
    message there and back over the levels of a tree. There are two a step, for means and finiteness, and three forward
    and two backward for each BatchNormalization over the whole batch.
    """
    images = 2 * values.batch
    computing = max(images / values.images_per_second, images / values.decoded_per_second)
    if count == 1:
        return computing, 0.0, 0.0
    inner = min(count, values.gpus_per_machine)
    machines = math.ceil(count / inner)
    ring = (
        2 * gradient_bytes / 1e9 * ((inner - 1) / inner / values.inner_gb + (machines - 1) / machines / values.outer_gb)
    )
    levels = 1 + math.ceil(math.log2(machines))
    one = 2 * levels * values.latency_us * 1e-6
    return computing, ring + one, (2 + 5 * num_norms) * one


if __name__ == "__main__":
    run_program(main, __doc__)
