"""Measures how time and memory of the MK-MMD grow with the images: pair by pair, and from random features.

    python -m benchmarks.cost_matrix --json=cost_matrix.json
    python -m benchmarks.cost_matrix --large

Prints a table; the images are made up: each class is a cluster of features. Each size of each method has a process of
its own, one after the other. With --large the images of one large source domain are made batch by batch and embedded,
and only sums are kept, as where a domain does not fit into memory.
"""

import json
import pathlib
import statistics
import subprocess
import sys
import time

import numpy as np
from absl import flags

from jtln_tf.config import InputError
from jtln_tf.costs.metrics.mkmmd import mkmmd_cost
from jtln_tf.costs.numerics.kernel import BANDWIDTH_FACTORS, median_squared_distance
from jtln_tf.costs.numerics.kernel_features import NUM_FREQUENCIES, draw_frequencies, mkmmd_of_sums, sum_embeddings
from jtln_tf.tools.program import run_program

METHODS = ("exact", "linear")
# What the processes of the sizes are told.
SHARED_FLAGS = ("classes", "dimension", "num_frequencies", "least_seconds")
# Images that are made, or embedded, at once.
BATCH = 2_000
# Images that the scale of the large domain is estimated from.
SCALE_IMAGES = 2_000
SPREAD = 2.0

flags.DEFINE_list("sizes", ["5000", "10000", "20000", "40000"], "Images of both domains together.")
flags.DEFINE_integer("classes", 100, "Classes of both domains together.", lower_bound=2)
flags.DEFINE_integer("dimension", 1280, "Length of the features of an image.", lower_bound=1)
flags.DEFINE_integer("num_frequencies", NUM_FREQUENCIES, "Random frequencies of the linear method.", lower_bound=5)
flags.DEFINE_float("least_seconds", 2.0, "A measurement is repeated until it took this long.", lower_bound=0.0)
flags.DEFINE_bool("large", False, "Measure one large source domain in place of the table.")
flags.DEFINE_integer("large_source_classes", 1_000, "Source classes of --large.", lower_bound=1)
flags.DEFINE_integer("large_target_classes", 50, "Target classes of --large.", lower_bound=1)
flags.DEFINE_integer("large_images", 1_000, "Images of each class of --large.", lower_bound=1)
flags.DEFINE_string("json", "", "Where the figures are written as JSON.")
flags.DEFINE_string("measure", "", "For the processes it starts: a method and a size, as JSON.")


def main():
    """Measures, or starts the processes that do."""
    values = flags.FLAGS
    if values.num_frequencies % len(BANDWIDTH_FACTORS):
        multiple = f"a multiple of {len(BANDWIDTH_FACTORS)}"
        raise InputError(f"`num_frequencies` must be {multiple}. Received: {values.num_frequencies}.")
    if values.measure:
        print(json.dumps(measure_size(*json.loads(values.measure))))
        return
    if values.large:
        figures = measure_large()
        print(
            f"{figures['images']} images, {figures['classes'][0]} x {figures['classes'][1]} classes: "
            f"{figures['seconds']:.1f} s, and {figures['seconds_making']:.1f} s to make the images; "
            f"peak {figures['peak_mib']:.0f} MiB"
        )
    else:
        if not values.sizes or not all(size.isdigit() and int(size) >= values.classes for size in values.sizes):
            raise InputError(f"`sizes` must be at least {values.classes} each. Received: {','.join(values.sizes)}.")
        figures = [run_process(method, int(size)) for method in METHODS for size in values.sizes]
        print(format_table(figures))
    if values.json:
        pathlib.Path(values.json).write_text(json.dumps(figures, indent=1))


def run_process(method, size):
    """Returns the figures of one method at one size, measured in a process of its own."""
    options = [f"--{name}={flags.FLAGS[name].value}" for name in SHARED_FLAGS]
    command = [sys.executable, "-m", "benchmarks.cost_matrix", f"--measure={json.dumps([method, size])}", *options]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    print(f"{method} of {size} images: done", file=sys.stderr, flush=True)
    return json.loads(done.stdout)


def measure_size(method, size):
    """Returns the figures of one method at one size, a dict."""
    values = flags.FLAGS
    classes = (values.classes - values.classes // 2, values.classes // 2)
    source, target = (
        make_domain(count, images, seed)
        for seed, (count, images) in enumerate(zip(classes, (size - size // 2, size // 2), strict=True))
    )
    before, begun = resident_mib("VmRSS"), time.perf_counter()
    scale = median_squared_distance(source[0])
    if method == "linear":
        frequencies = draw_frequencies(scale, values.dimension, values.num_frequencies)
    preparing = time.perf_counter() - begun

    def build():
        if method == "exact":
            return mkmmd_cost(source, target, scale=scale)
        sides = []
        for count, (features, labels) in zip(classes, (source, target), strict=True):
            parts = [slice(start, start + BATCH) for start in range(0, len(labels), BATCH)]
            sides.append(sum_embeddings(((features[part], labels[part]) for part in parts), frequencies, count))
        return mkmmd_of_sums(*sides)

    times = []
    while not times or sum(times) < values.least_seconds:
        begun = time.perf_counter()
        build()
        times.append(time.perf_counter() - begun)
    return {
        "method": method,
        "images": size,
        "seconds": statistics.median(times),
        # The scale, and the draw of the frequencies.
        "seconds_preparing": preparing,
        "peak_mib": resident_mib("VmHWM"),
        # The features of all images, and the programs loaded.
        "before_mib": before,
    }


def measure_large():
    """Returns the figures of one large source domain that is never held, a dict."""
    values = flags.FLAGS
    classes = (values.large_source_classes, values.large_target_classes)
    making, begun = 0.0, time.perf_counter()
    some, _ = make_domain(classes[0], SCALE_IMAGES, seed=0)
    frequencies = draw_frequencies(median_squared_distance(some), values.dimension, values.num_frequencies)
    del some

    def time_making(batches):
        nonlocal making
        while True:
            before = time.perf_counter()
            batch = next(batches, None)
            making += time.perf_counter() - before
            if batch is None:
                return
            yield batch

    sides = []
    for seed, count in enumerate(classes):
        batches = time_making(stream_domain(count, count * values.large_images, seed))
        sides.append(sum_embeddings(batches, frequencies, count))
    costs = mkmmd_of_sums(*sides)
    return {
        "images": sum(classes) * values.large_images,
        "classes": classes,
        "dimension": values.dimension,
        "num_frequencies": values.num_frequencies,
        "seconds": time.perf_counter() - begun - making,
        "seconds_making": making,
        "peak_mib": resident_mib("VmHWM"),
        "costs_range": [float(costs.min()), float(costs.max())],
    }


def stream_domain(num_classes, num_images, seed):
    """Yields (features float32 [B, D], labels [B]) of classes in turns, so that a batch holds as many as it can."""
    dimension = flags.FLAGS.dimension
    rng = np.random.default_rng(seed)
    centres = rng.standard_normal((num_classes, dimension), np.float32)
    for start in range(0, num_images, BATCH):
        labels = np.arange(start, min(start + BATCH, num_images)) % num_classes
        features = rng.standard_normal((len(labels), dimension), np.float32)
        features *= SPREAD
        features += centres[labels]
        yield features, labels


def make_domain(num_classes, num_images, seed):
    """Returns (features, labels) of all images."""
    features, labels = np.empty((num_images, flags.FLAGS.dimension), np.float32), np.empty(num_images, np.int64)
    start = 0
    for batch_features, batch_labels in stream_domain(num_classes, num_images, seed):
        stop = start + len(batch_labels)
        features[start:stop], labels[start:stop] = batch_features, batch_labels
        start = stop
    return features, labels


def format_table(figures):
    """Returns the table as Markdown; each figure's growth from the size before is in brackets."""
    lines = ["| method | images | seconds | peak MiB beyond the images | peak MiB |", "|---|---|---|---|---|"]
    last = {}
    for row in figures:
        before = last.get(row["method"])
        growth = f" (x {row['seconds'] / before['seconds']:.2f})" if before else ""
        peaks = row["peak_mib"] - row["before_mib"], row["peak_mib"]
        cells = [row["method"], str(row["images"]), f"{row['seconds']:.2f}{growth}", *(f"{peak:.0f}" for peak in peaks)]
        lines.append(f"| {' | '.join(cells)} |")
        last[row["method"]] = row
    return "\n".join(lines)


def resident_mib(field):
    """Returns `VmRSS` (now) or `VmHWM` (peak) of this process in MiB; NaN where the system does not tell."""
    try:
        lines = pathlib.Path("/proc/self/status").read_text().splitlines()
    except OSError:
        return float("nan")
    return next((int(line.split()[1]) / 1024 for line in lines if line.startswith(field)), float("nan"))


if __name__ == "__main__":
    run_program(main, __doc__)
