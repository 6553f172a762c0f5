"""Measures the memory of a run on a folder of very many images, and the time until its first step.

    python -m benchmarks.large_folder --images=200000

Makes the folder if it does not exist: 32 x 32 JPEGs in 100 classes, and 10 more classes as the target. Then runs
`jtln train --cache=none` on it in its own process.
"""

import json
import pathlib
import resource
import subprocess
import sys
import tempfile
import time

import numpy as np
from absl import flags

from jtln_tf.tools.program import run_program

NUM_CLASSES, TARGET_CLASSES, TARGET_IMAGES, SIDE = 100, 10, 50, 32

flags.DEFINE_integer("images", 200_000, "Source images.", lower_bound=NUM_CLASSES)
flags.DEFINE_string("folder", "", "Where the images are made and kept; empty: a temporary folder.")
flags.DEFINE_integer("steps", 200, "Steps of the run.", lower_bound=1)
flags.DEFINE_string("json", "", "Where the figures are written as JSON.")


def main():
    """Makes the images if needed, then measures."""
    values = flags.FLAGS
    with tempfile.TemporaryDirectory() as temporary:
        folder = pathlib.Path(values.folder or temporary)
        _make_images(folder / "source", NUM_CLASSES, values.images // NUM_CLASSES)
        _make_images(folder / "target", TARGET_CLASSES, TARGET_IMAGES)
        figures = {"images": values.images, **measure(folder, pathlib.Path(temporary) / "run", values.steps)}
    print(f"{values.images:,} images: first step after {figures['seconds_to_first_step']:.0f} s")
    print(f"most memory: {figures['peak_mib']:,.0f} MiB")
    if values.json:
        pathlib.Path(values.json).write_text(json.dumps(figures, indent=1))


def measure(folder, workdir, steps):
    """Returns the figures of a run on the images, a dict."""
    command = [
        *(sys.executable, "-m", "jtln train", "--cache=none", f"--source=folder:{folder}/source"),
        *(f"--target=folder:{folder}/target", f"--image_size={SIDE}", "--backbone=small_cnn", "--method=joint"),
        *(f"--steps={steps}", "--log_steps=1", "--noexport", f"--workdir={workdir}"),
    ]
    begun = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    metrics, seconds = workdir / "metrics.jsonl", None
    while process.poll() is None:
        if seconds is None and metrics.is_file() and metrics.stat().st_size:
            seconds = time.perf_counter() - begun
        time.sleep(0.05)
    if process.returncode or seconds is None:
        raise RuntimeError(f"jtln train ended with status {process.returncode}")
    # Kibibytes, on Linux.
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 2**10
    return {"seconds_to_first_step": seconds, "peak_mib": peak}


def _make_images(folder, num_classes, per_class):
    from PIL import Image

    rng = np.random.default_rng(num_classes)
    for label in range(num_classes):
        class_folder = folder / f"class{label:03}"
        if class_folder.is_dir():
            continue
        unfinished = folder / f".unfinished{label:03}"
        unfinished.mkdir(parents=True, exist_ok=True)
        for number in range(per_class):
            pixels = rng.integers(0, 256, (4, 4, 3), np.uint8)
            pixels[0] = (label * 37 % 256, label * 91 % 256, label * 11 % 256)
            Image.fromarray(pixels).resize((SIDE, SIDE)).save(unfinished / f"{number:06}.jpg", quality=90)
        unfinished.rename(class_folder)


if __name__ == "__main__":
    run_program(main, __doc__)
