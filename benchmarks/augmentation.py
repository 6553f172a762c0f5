"""Measures how many images a second each augmentation policy gives, with all cores and no network behind it.

    python -m benchmarks.augmentation --json=augmentation.json

Random images in memory go through the stream of training batches. The policies take turns, so that other work of the
machine slows all of them alike. A figure is the median of the rounds; its ratio is to crop,flip.
"""

import json
import pathlib
import statistics
import time

import numpy as np
from absl import flags

from jtln_tf.config import InputError, parse_augmentation
from jtln_tf.tools.program import load_tensorflow, run_program

BASE = "crop,flip"
POLICIES = (
    *("none", BASE, "rotate", "zoom", "colour", "colour:0.3:0.1", "erase", "randaugment:1", "randaugment"),
    *("mixup", "crop,flip,randaugment,mixup"),
)
NUM_IMAGES = 512
_WARM_BATCHES = 10

flags.DEFINE_multi_string("policy", POLICIES, f"Policies that are compared with {BASE}; may be given several times.")
flags.DEFINE_integer("image_size", 128, "Side of the images in pixels.", lower_bound=1)
flags.DEFINE_integer("channels", 3, "1 gray, 3 RGB.", lower_bound=1, upper_bound=3)
flags.DEFINE_integer("batch", 32, "Images in a batch.", lower_bound=1)
flags.DEFINE_integer("rounds", 5, "Measurements of each policy.", lower_bound=1)
flags.DEFINE_float("seconds", 2.0, "Time of a measurement.", lower_bound=0.01)
flags.DEFINE_string("json", "", "Where the figures are written as JSON.")


def main():
    """Checks the flags, then measures."""
    values = flags.FLAGS
    for policy in values.policy:
        parse_augmentation(policy)
    if values.channels == 2:
        raise InputError("`channels` must be 1 or 3. Received: 2.")
    load_tensorflow()
    rows = measure(values)
    print("| policy | images a second | to crop,flip |\n|---|---|---|")
    for row in rows:
        print(f"| `{row['policy']}` | {row['images_per_second']:,.0f} | {row['ratio']:.2f} |")
    if values.json:
        pathlib.Path(values.json).write_text(json.dumps({"rows": rows}, indent=1))


def measure(values):
    """Returns a row for each policy: `policy`, `images_per_second`, `ratio`."""
    from jtln_tf.batches import pair_domains
    from jtln_tf.data import Domain, Split

    shape = (NUM_IMAGES, values.image_size, values.image_size, values.channels)
    images = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
    split = Split(images, np.arange(NUM_IMAGES, dtype=np.int32) % 10, values.image_size, values.channels)
    domain = Domain("random", tuple("0123456789"), split, split, split)
    streams = {
        policy: pair_domains(domain, None, source_batch=values.batch, source_augmentation=policy)
        for policy in dict.fromkeys((BASE, *values.policy))
    }
    speeds = {policy: [] for policy in streams}
    for _ in range(values.rounds):
        for policy, stream in streams.items():
            speeds[policy].append(_images_per_second(stream, values.batch, values.seconds))
    medians = {policy: statistics.median(found) for policy, found in speeds.items()}
    return [
        {"policy": policy, "images_per_second": speed, "ratio": speed / medians[BASE]}
        for policy, speed in medians.items()
    ]


def _images_per_second(stream, batch, seconds):
    """Measures a stream from its eleventh batch on; its buffers end with it, while others are measured."""
    stream = iter(stream)
    for _ in range(_WARM_BATCHES):
        next(stream)
    begun, batches = time.perf_counter(), 0
    while time.perf_counter() - begun < seconds:
        next(stream)
        batches += 1
    return batches * batch / (time.perf_counter() - begun)


if __name__ == "__main__":
    run_program(main, __doc__)
