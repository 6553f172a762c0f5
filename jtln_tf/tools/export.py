"""Exports the network of a trained run as a SavedModel that TensorFlow Serving serves.

    jtln export --workdir=runs/digits --output=exports/digits
    jtln export --workdir=runs/digits --output=exports/digits --heads=target --also=litert,onnx

The folder holds the model in 1/, a model card, and checksums. Other formats lie beside it; each is loaded in a process
of its own and compared with the network on validation images.
"""

import json
import logging
import pathlib

from absl import flags

from jtln_tf.experiment.workdir import Run
from jtln_tf.export import layout
from jtln_tf.files import check_marked
from jtln_tf.tools.program import load_tensorflow, require_flags, run_program

flags.DEFINE_string("workdir", "", "Folder of the run.")
flags.DEFINE_string("output", "", "Folder of the export; an earlier export there is replaced.")
flags.DEFINE_enum("heads", "both", layout.HEADS, "Heads to keep: `target` drops the source head.")
flags.DEFINE_integer("top_k", 5, "Most classes that serving_default returns.", lower_bound=1, upper_bound=100_000)
flags.DEFINE_list("also", [], f"Other formats to write, of {', '.join(layout.FORMATS)}.")


def main():
    """Loads the run, exports it and compares the reloaded export with the network."""
    values = flags.FLAGS
    require_flags("workdir", "output")
    run = Run.open(values.workdir)
    options = layout.ExportOptions(values.heads, values.top_k, tuple(values.also))
    check_marked(values.output, layout.KIND, layout.OWN_NAMES, "output")

    # That it is exporting is a note; it takes up to a minute.
    logging.getLogger("jtln_tf").setLevel(logging.INFO)
    load_tensorflow()
    from jtln_tf.experiment.assembly import load_trained
    from jtln_tf.experiment.result import export_run

    difference = export_run(run, *load_trained(run), values.output, options=options)
    print(f"{values.output}: reloaded, largest difference of a probability {difference:.1g}")
    card = json.loads(pathlib.Path(values.output, layout.CARD_FILE).read_text("utf-8"))
    for row in card["formats"]:
        print(
            f"{values.output}/{row['file']}: same class for {100 * row['agreement']:.1f} % of {row['images']} images, "
            f"largest difference of a probability {row['difference']:.1g}"
        )


def run():
    """Runs the program."""
    run_program(main, __doc__)


if __name__ == "__main__":
    run()
