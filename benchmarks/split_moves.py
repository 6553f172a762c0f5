"""Counts how often an image that is added to a class moves others between training, validation and test.

    python -m benchmarks.split_moves

Draws classes of random images, divides them as a run does, and divides them again with one more image in each.
"""

import numpy as np
from absl import flags

from jtln_tf.tools.program import run_program

_SIDE, _SHARES = 4, {"test": 0.2, "validation": 0.1}

flags.DEFINE_list("sizes", ["5", "10", "20", "50", "100"], "Images of a class before the addition.")
flags.DEFINE_integer("classes", 2_000, "Classes of each size.", lower_bound=1, upper_bound=100_000)


def main():
    """Prints a row for each size."""
    num_classes = flags.FLAGS.classes
    print("| images of a class | additions that move others | share of the others that moves |\n|---|---|---|")
    for size in map(int, flags.FLAGS.sizes):
        pixels = np.random.default_rng(size).integers(0, 256, (num_classes, size + 1, _SIDE, _SIDE, 1), np.uint8)
        before, after = divide(pixels[:, :-1]), divide(pixels)
        moved = (before != after[:, :-1]).sum(axis=1)
        print(f"| {size} | {np.mean(moved > 0):.1%} | {moved.mean() / size:.2%} |", flush=True)


def divide(pixels):
    """Returns the name of the split of each image [C, K], from pixels [C, K, H, W, 1]."""
    from jtln_tf.data.examples import Examples, hold_out

    num_classes, size = pixels.shape[:2]
    labels, rows = np.repeat(np.arange(num_classes, dtype=np.int32), size), np.arange(num_classes * size)
    # The names come along, so that they tell where each image is.
    rest, splits = Examples(pixels.reshape(-1, *pixels.shape[2:]), labels, rows), np.full(len(rows), "train", object)
    for name, share in _SHARES.items():
        rest, held_out = hold_out(rest, share, name)
        splits[held_out.names] = name
    return splits.reshape(num_classes, size)


if __name__ == "__main__":
    run_program(main, __doc__)
