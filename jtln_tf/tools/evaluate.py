"""Evaluates a trained run on a split of its domains, or on new labelled images.

    jtln evaluate --workdir=runs/digits --split=test
    jtln evaluate --workdir=runs/digits --target=photos/new

Prints accuracy, macro accuracy and a row for each class of the target; --json adds the confusion matrix. Of new images,
one folder for each class, all are taken unless --split is given. Those that cannot be read are named on stderr and
skipped; the exit status is 3 then.
"""

import json
import logging
import sys

from absl import flags

from jtln_tf.config import domain_of_path, parse_domain_spec
from jtln_tf.experiment.workdir import Run
from jtln_tf.files import escape_name
from jtln_tf.tools.messages import emphasize
from jtln_tf.tools.program import SOME_NOT_READ, load_tensorflow, require_flags, run_program

_LOG = logging.getLogger("jtln_tf.tools")

flags.DEFINE_string("workdir", "", "Folder of the run.")
flags.DEFINE_string("target", "", "New labelled images: a domain such as folder:new, or a path; empty: the run's own.")
flags.DEFINE_enum(
    "split", None, ["train", "validation", "test"], "Images to evaluate on; by default test, or all of --target."
)
flags.DEFINE_enum("head", "target", ["source", "target"], "Head to evaluate, on its own domain or on --target.")
flags.DEFINE_bool("json", False, "Print everything as JSON.")


def main():
    """Loads the run and evaluates it."""
    values = flags.FLAGS
    require_flags("workdir")
    run = Run.open(values.workdir)
    if values.target:
        parse_domain_spec(domain_of_path(values.target))

    load_tensorflow()
    if values.target:
        _evaluate_new(run)
        return
    from jtln_tf.data.lost_images import tell_lost_images
    from jtln_tf.evaluation import evaluate
    from jtln_tf.experiment.assembly import load_trained

    network, domains = load_trained(run)
    domain, split = domains[values.head], values.split or "test"
    with tell_lost_images(domain):
        result = evaluate(network, domain, split=split, head=values.head)
    _print(result, f"{split} images of {domain.name}", {})


def _evaluate_new(run):
    from jtln_tf.prediction.new_images import evaluate_new

    values = flags.FLAGS
    found = evaluate_new(run, values.target, head=values.head, split=values.split)
    for name, reason in found.not_read.items():
        _LOG.warning("not read: %r: %s", name, "".join(escape_name(reason)))
    for side, count in found.trained_on.items():
        if count:
            _LOG.warning("%d of these images are also training images of the run's %s.", count, side)
    what = f"{values.split} images" if values.split else "images"
    mistakes = [mistake._asdict() | {"name": found.names[mistake.image]} for mistake in found.result.mistakes]
    more = {"mistakes": mistakes, "not_read": found.not_read, "trained_on": found.trained_on}
    _print(found.result, f"{what} of {values.target}, {len(found.not_read)} not read", more)
    if found.not_read:
        sys.exit(SOME_NOT_READ)


def _print(result, images, more):
    if flags.FLAGS.json:
        print(json.dumps(result.to_json() | more))
        return
    width = max(len(name) for name in result.class_names)
    for row in result.to_json()["classes"]:
        accuracy = "no images" if row["accuracy"] is None else f"{100 * row['accuracy']:5.1f} %"
        print(f"{row['class']:{width}}  {accuracy}  ({row['images']} images)")
    accuracy = emphasize(f"accuracy {100 * result.accuracy:.1f} %", sys.stdout)
    print(f"\n{accuracy}, macro accuracy {100 * result.macro_accuracy:.1f} %")
    print(f"({result.num_images} {images})")


def run():
    """Runs the program."""
    run_program(main, __doc__)


if __name__ == "__main__":
    run()
