"""Evaluates a trained run on a split of its domains.

    jtln evaluate --workdir=runs/digits --split=test

Prints accuracy, macro accuracy and a row for each class of the target; --json adds the confusion matrix.
"""

import json
import sys

from absl import flags

from jtln_tf.experiment.workdir import Run
from jtln_tf.tools.messages import emphasize
from jtln_tf.tools.program import load_tensorflow, require_flags, run_program

flags.DEFINE_string("workdir", "", "Folder of the run.")
flags.DEFINE_enum("split", "test", ["train", "validation", "test"], "Images to evaluate on.")
flags.DEFINE_enum("head", "target", ["source", "target"], "Head to evaluate, on its own domain.")
flags.DEFINE_bool("json", False, "Print everything as JSON.")


def main():
    """Loads the run and evaluates it."""
    values = flags.FLAGS
    require_flags("workdir")
    run = Run.open(values.workdir)

    load_tensorflow()
    from jtln_tf.data.lost_images import tell_lost_images
    from jtln_tf.evaluation import evaluate
    from jtln_tf.experiment.assembly import load_trained

    network, domains = load_trained(run)
    domain = domains[values.head]
    with tell_lost_images(domain):
        result = evaluate(network, domain, split=values.split, head=values.head)
    if values.json:
        print(json.dumps(result.to_json()))
        return
    width = max(len(name) for name in result.class_names)
    for row in result.to_json()["classes"]:
        accuracy = "no images" if row["accuracy"] is None else f"{100 * row['accuracy']:5.1f} %"
        print(f"{row['class']:{width}}  {accuracy}  ({row['images']} images)")
    accuracy = emphasize(f"accuracy {100 * result.accuracy:.1f} %", sys.stdout)
    print(f"\n{accuracy}, macro accuracy {100 * result.macro_accuracy:.1f} %")
    print(f"({result.num_images} {values.split} images of {domain.name})")


def run():
    """Runs the program."""
    run_program(main, __doc__)


if __name__ == "__main__":
    run()
