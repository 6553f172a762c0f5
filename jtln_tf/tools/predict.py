"""Predicts the classes of image files with the network of a run or an export.

    jtln predict --model=runs/digits image.png photos/ 'more/*.jpg'
    find photos -name '*.jpg' -print0 | jtln predict --model=exports/digits --format=csv - > classes.csv

Images are files, folders (searched at any depth), quoted patterns, and `-` for paths on stdin, one a line or ended by
zero bytes. Prints one JSON line, or row, for each image in that order, as it comes: the likeliest classes of the chosen
head with their probabilities. Images that cannot be read are named on stderr and skipped; the exit status is 3 then.
"""

import itertools
import logging
import os
import signal
import sys

from absl import flags

from jtln_tf.config import InputError
from jtln_tf.files import escape_name
from jtln_tf.prediction.inputs import check_arguments, check_list, expand_arguments, read_batches, read_list
from jtln_tf.prediction.writers import FORMATS, Writer, open_output
from jtln_tf.tools.program import SOME_NOT_READ, check_output, load_tensorflow, require_flags, run_program

_LOG = logging.getLogger("jtln_tf.tools")

flags.DEFINE_string("model", "", "Folder of a run or of an export.")
flags.DEFINE_enum("head", "target", ["source", "target"], "Head whose classes are predicted.")
flags.DEFINE_integer("top_k", 3, "Most classes for each image.", lower_bound=1, upper_bound=100_000)
flags.DEFINE_string(
    "list", "", "List of images: a text with a path in each line, or a .csv, .tsv or .jsonl with a column path."
)
flags.DEFINE_enum("format", None, FORMATS, "JSON lines, or a table; by default as --output ends, or else jsonl.")
flags.DEFINE_string("output", "", "File for the predictions, written whole; empty: stdout.")
flags.DEFINE_bool("overwrite", False, "Replace the file of --output.")


def main(arguments):
    """Reads the images, predicts and prints."""
    values = flags.FLAGS
    require_flags("model")
    if not arguments and not values.list:
        raise InputError("`images` must be given. Received: nothing. Hint: files, folders, patterns, - or --list.")
    form = values.format or ("csv" if values.output.endswith(".csv") else "jsonl")
    if values.output:
        check_output(values.output, (f".{form}",))
        os.makedirs(os.path.dirname(values.output) or ".", exist_ok=True)
    check_arguments(arguments)
    if values.list:
        check_list(values.list)

    load_tensorflow()
    from jtln_tf.prediction.classifier import load_classifier

    classifier = load_classifier(values.model)
    class_names = classifier.require_head(values.head)
    paths = itertools.chain(
        expand_arguments(arguments, sys.stdin.buffer), read_list(values.list) if values.list else ()
    )
    try:
        with open_output(values.output) as file:
            writer = Writer(file, form, class_names, values.top_k)
            num_images, num_bad = _predict(classifier, paths, writer, values.head)
    except BrokenPipeError:
        # Whoever read the output, `head` for example, has enough.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(128 + signal.SIGPIPE)
    _LOG.info("%d images, %d not read", num_images, num_bad)
    if num_bad:
        sys.exit(SOME_NOT_READ)


def _predict(classifier, paths, writer, head):
    """Writes what is predicted; returns the number of images, and of those that were not read."""
    num_images = num_bad = 0
    for files in read_batches(paths):
        for file, probabilities, reason in zip(files, *classifier.classify(files, head), strict=True):
            num_images += 1
            if reason:
                num_bad += 1
                _LOG.warning("not read: %r: %s", file.path, "".join(escape_name(reason)))
                writer.write_error(file.path, reason)
            else:
                writer.write(file.path, probabilities)
        writer.flush()
    return num_images, num_bad


def run():
    """Runs the program."""
    run_program(main, __doc__, positional="images", needs_positional=False)


if __name__ == "__main__":
    run()
