"""The command `jtln`: a verb for each program. Imports only the program that it runs."""

import difflib
import importlib
import importlib.metadata
import pathlib
import shutil
import sys

# Verbs in the order in which a person meets them, with the module of each and what it does.
VERBS = {
    "train": ("train", "train, evaluate and export one network from two folders of images"),
    "predict": ("predict", "classify image files with a run or an export"),
    "launch": ("launch", "train in several processes on this machine"),
    "compare": ("compare", "train several methods on the same data, and write their table"),
    "tune": ("tune", "look for good settings of a method, by validation images"),
    "describe": ("describe_data", "look at a data set: classes, sizes, unreadable and duplicate images"),
    "report": ("report", "write a page that shows a run or a comparison"),
    "evaluate": ("evaluate", "measure the network of a run on a split, or on new photos"),
    "export": ("export", "write the network of a run as a SavedModel"),
    "cost": ("build_cost_matrix", "find how classes are related, and keep it as a file"),
    "layers": ("layers", "list the layers of a backbone"),
    "cache": ("cache", "see and empty what is kept on the disk"),
    "prepare": ("prepare_data", "write a data set as records"),
    "import-alexnet": ("import_alexnet_weights", "convert Caffe's weights of AlexNet"),
}


def main() -> None:
    """Runs the program that the first argument names, with the arguments behind it."""
    verb, *rest = sys.argv[1:] or ["--help"]
    if verb in ("help", "--help", "-h", "--helpfull", "-help"):
        print(_describe_verbs())
        return
    if verb == "--version":
        print(f"jtln_tf {importlib.metadata.version('jtln_tf')}")
        return
    if verb not in VERBS:
        close = difflib.get_close_matches(verb, VERBS, 1)
        hint = f"`jtln {close[0]}`?" if close else "`jtln --help` describes them."
        print(f"error: A verb must be one of {', '.join(VERBS)}. Received: {verb!r}. Hint: {hint}", file=sys.stderr)
        sys.exit(2)
    sys.argv = [f"jtln {verb}", *rest]
    importlib.import_module(f"jtln_tf.tools.{VERBS[verb][0]}").run()


def command_line() -> str:
    """Returns how a person starts `jtln` where this program runs."""
    beside = pathlib.Path(sys.executable).parent / "jtln"
    if not beside.exists():
        return f"{sys.executable} -m jtln_tf"
    found = shutil.which("jtln")
    return "jtln" if found and pathlib.Path(found).resolve() == beside.resolve() else str(beside)


def _describe_verbs():
    width = max(map(len, VERBS))
    lines = [f"  {verb:{width}}  {what}" for verb, (_, what) in VERBS.items()]
    return "\n".join(
        [
            "Trains the best classifier for a small labelled image set from it and a larger, related one.",
            "",
            "    jtln train photos/many photos/few",
            "",
            "Each of photos/many and photos/few holds one folder of images for each class.",
            "",
            "Verbs, each with --help:",
            *lines,
        ]
    )
