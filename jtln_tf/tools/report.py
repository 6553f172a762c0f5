"""Writes a page that shows a run or comparisons: accuracies, curves, mistakes with their pictures, related classes.

    jtln report --workdir=runs/digits

The page is one file that needs no network: runs/digits/report.html, or what --output names. `jtln train` and
`jtln compare` write it at their end.
"""

import os

from absl import flags

from jtln_tf.config import InputError
from jtln_tf.files import marked_version
from jtln_tf.tools.program import check_output, load_tensorflow, require_flags, run_program

flags.DEFINE_string("workdir", "", "Folder of the run, the comparison, or the comparisons of several pairs.")
flags.DEFINE_string("output", "", "File of the page; empty: report.html in --workdir, which is replaced.")
flags.DEFINE_bool("overwrite", False, "Replace the file that --output names.")


def main():
    """Finds out what the folder holds, and writes its page."""
    values = flags.FLAGS
    require_flags("workdir")
    if values.output:
        check_output(values.output, (".html",))
    kinds = [kind for kind in ("run", "comparison", "comparisons") if marked_version(values.workdir, kind) is not None]
    if not kinds:
        raise InputError(f"`workdir` must hold a run or a comparison. Received: {values.workdir!r}.")

    if values.output:
        os.makedirs(os.path.dirname(values.output) or ".", exist_ok=True)
    load_tensorflow()
    from jtln_tf.comparison.overview import write_overview_report
    from jtln_tf.comparison.report import write_comparison_report
    from jtln_tf.experiment.run_report import write_run_report

    write = {"run": write_run_report, "comparison": write_comparison_report, "comparisons": write_overview_report}
    print(write[kinds[0]](values.workdir, values.output or None))


def run():
    """Runs the program."""
    run_program(main, __doc__)


if __name__ == "__main__":
    run()
