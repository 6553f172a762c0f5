"""Brings the published weights of Caffe's AlexNet to --backbone=alexnet.

    jtln import-alexnet --input=bvlc_alexnet.npy --output=alexnet.weights.h5

Use the result as --backbone=alexnet --weights=alexnet.weights.h5, with images of 227 pixels. --input is the dict of
arrays that converters from Caffe write: a .npy file, which is read without unpickling it, or a .npz file.
"""

import os

from absl import flags

from jtln_tf.config import MissingInputError
from jtln_tf.tools.program import check_output, load_tensorflow, run_program

flags.DEFINE_string("input", "", "File of the weights: .npy of {'conv1': [weights, biases], ...}, or .npz.")
flags.DEFINE_string("output", "", "File to write, .weights.h5.")
flags.DEFINE_bool("overwrite", False, "Replace --output.")


def main():
    """Checks the flags, then reads, checks and writes."""
    values = flags.FLAGS
    if not os.path.isfile(values.input):
        raise MissingInputError(f"`input` must name an existing file. Received: {values.input!r}.")
    check_output(values.output, (".weights.h5",))

    load_tensorflow()
    from jtln_tf.backbones import import_alexnet_weights

    os.makedirs(os.path.dirname(values.output) or ".", exist_ok=True)
    import_alexnet_weights(values.input, values.output)
    print(f"{values.output}  for --backbone=alexnet --image_size=227")


def run():
    """Runs the program."""
    run_program(main, __doc__)


if __name__ == "__main__":
    run()
