"""The floors of the house: a room imports only from floors below its own, and so does a room inside a room."""

import ast
import pathlib
import subprocess
import sys

import pytest

from jtln_tf.methods import METHODS
from tests.conftest import REPOSITORY

PACKAGE = REPOSITORY / "jtln_tf"
# From the ground up; rooms of one floor do not import each other.
FLOORS = [
    ["config"],
    ["files", "tables", "distribution"],
    ["ot", "data", "backbones"],
    ["batches", "network"],
    ["features"],
    ["costs"],
    ["methods"],
    ["trainer"],
    ["report"],
    ["monitoring", "evaluation", "description", "export"],
    ["experiment"],
    ["comparison", "prediction"],
    ["flags"],
    ["tools"],
]
# Inside of rooms: modules and folders that are named here stand on these floors; all others share the top floor.
INNER_FLOORS = {
    "data": [["reading"], ["examples", "cache"], ["sources"]],
    "data/sources": [["image_tree", "listing"], ["archive_reader", "class_table", "builders"], ["archive"]],
    "costs": [
        ["numerics", "scaling", "matrix_files"],
        ["matrix"],
        ["metrics"],
        ["spec"],
        ["config", "nearest_table", "provenance"],
    ],
    "methods": [["base", "terms"], ["target_only"], ["consecutive", "joint"], ["l2_sp", "jtln"]],
    "trainer": [
        ["checkpoint_file"],
        ["batch", "forward", "health", "means", "optimizers", "signals", "checkpoints", "early_stopping"],
        ["step_functions"],
        ["model"],
        ["callbacks"],
    ],
    "experiment": [
        ["config", "leaks", "sealed_json"],
        ["workdir", "workshop", "choices"],
        ["extension", "worker"],
        ["assembly"],
        ["mean_plan"],
        ["charts"],
        ["divergence", "watching"],
        ["training", "result", "cost_matrix", "run_report"],
    ],
}
# Imported by programs before TensorFlow.
LIGHT_MODULES = [
    "jtln_tf",
    "jtln_tf.costs.config",
    "jtln_tf.experiment.config",
    "jtln_tf.experiment.workdir",
    "jtln_tf.methods",
    "jtln_tf.flags",
    "jtln_tf.prediction.inputs",
    "jtln_tf.tools.command",
]
MOST_LINES, MOST_LINES_OF_A_FUNCTION = 300, 60
FORBIDDEN_NAMES = {"utils", "helpers", "common", "misc", "preparation"}


def source_files(*folders):
    return [path for folder in folders for path in sorted((REPOSITORY / folder).rglob("*.py"))]


def parse(path):
    return ast.parse(path.read_text("utf-8"))


def imported_modules(path):
    """Names of the modules that a file imports, also inside functions; not for type hints alone."""
    tree = parse(path)
    hints = [node for node in ast.walk(tree) if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test)]
    ignored = {id(inner) for node in hints for inner in ast.walk(node)}
    for node in ast.walk(tree):
        if id(node) in ignored:
            continue
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def floor_of(name, floors):
    return next((number for number, names in enumerate(floors) if name in names), len(floors))


@pytest.mark.parametrize(
    ("folder", "floors"),
    [(".", FLOORS), *INNER_FLOORS.items()],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_rooms_import_only_from_floors_below(folder, floors):
    root = (PACKAGE / folder).resolve()
    prefix = ".".join(["jtln_tf", *root.relative_to(PACKAGE).parts])
    known = {path.stem for path in root.iterdir()}
    assert {name for names in floors for name in names} <= known
    if root == PACKAGE:
        assert known - {"__init__", "__main__", "__pycache__"} == {name for names in floors for name in names}
    for path in root.rglob("*.py"):
        room = pathlib.Path(path.relative_to(root).parts[0]).stem
        if room in ("__init__", "__main__"):
            continue
        for module in imported_modules(path):
            other = module.removeprefix(f"{prefix}.").partition(".")[0]
            if not module.startswith(f"{prefix}.") or other == room or other not in known:
                continue
            is_on_top = floor_of(room, floors) == floor_of(other, floors) == len(floors)
            is_below = floor_of(other, floors) < floor_of(room, floors)
            assert is_below or is_on_top, f"{path.relative_to(PACKAGE)} imports {module}"


def test_only_methods_know_the_names_of_methods():
    """A name may be documented; as a value of the program it stands in `methods/` alone."""
    for path in source_files("jtln_tf"):
        # One is the name of the command, too.
        if (PACKAGE / "methods") in path.parents or path == PACKAGE / "tools" / "command.py":
            continue
        for node in ast.walk(parse(path)):
            if isinstance(node, ast.Constant) and node.value in METHODS:
                raise AssertionError(f"{path.relative_to(REPOSITORY)}:{node.lineno} names the method {node.value!r}")


def test_only_programs_read_flags_and_no_file_reads_pickle():
    for path in source_files("jtln_tf"):
        reads_flags = {PACKAGE / "tools", PACKAGE / "flags"} & set(path.parents)
        for module in imported_modules(path):
            assert reads_flags or not module.startswith("absl.flags"), path
            # Only the reader of Caffe's dumps, which lets no global through but its own stand-ins.
            assert not module.startswith("pickle") or path.name == "array_pickle.py", path


def test_files_and_functions_fit_a_screen_and_are_named_by_what_they_hold():
    for path in source_files("jtln_tf", "benchmarks"):
        assert len(path.read_text("utf-8").splitlines()) <= MOST_LINES, path
        assert path.stem not in FORBIDDEN_NAMES, path
        for node in ast.walk(parse(path)):
            if isinstance(node, ast.FunctionDef):
                length = node.end_lineno - node.lineno + 1
                assert length <= MOST_LINES_OF_A_FUNCTION, f"{path}: {node.name} has {length} lines"


def test_what_programs_check_first_needs_no_tensorflow():
    code = f"import sys, {', '.join(LIGHT_MODULES)}; sys.exit('keras' in sys.modules or 'tensorflow' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], cwd=REPOSITORY, check=True)
