"""Exports the network of a trained run as a SavedModel.

    jtln export --workdir=runs/digits --output=exports/digits

The export takes encoded image bytes (signature serve_bytes) or image tensors (serve_images) to the probabilities of
both heads; classes.json beside it names the classes.
"""

from absl import flags

from jtln_tf.experiment.workdir import Run
from jtln_tf.export import layout
from jtln_tf.files import check_marked
from jtln_tf.tools.program import load_tensorflow, require_flags, run_program

flags.DEFINE_string("workdir", "", "Folder of the run.")
flags.DEFINE_string("output", "", "Folder of the export; an earlier export there is replaced.")


def main():
    """Loads the run, exports it and compares the reloaded export with the network."""
    values = flags.FLAGS
    require_flags("workdir", "output")
    run = Run.open(values.workdir)
    check_marked(values.output, layout.KIND, layout.OWN_NAMES, "output")

    load_tensorflow()
    from jtln_tf.experiment.assembly import load_trained
    from jtln_tf.experiment.result import export_run

    difference = export_run(run, *load_trained(run), values.output)
    print(f"{values.output}: reloaded, largest difference of a probability {difference:.1g}")


def run():
    """Runs the program."""
    run_program(main, __doc__)


if __name__ == "__main__":
    run()
