"""The floors of the house: a room imports only from floors below its own."""

import ast
import pathlib

import pytest

FLOORS = {
    "captions": 0,
    "config": 0,
    "domains": 1,
    "pairing": 1,
    "backbones": 1,
    "solvers": 1,
    "costs": 1,
    "workdir": 1,
    "network": 2,
    "features": 2,
    "description": 2,
    "objective": 3,
    "cost_building": 3,
    "trainer": 4,
    "evaluation": 4,
    "monitoring": 4,
    "export": 4,
    "experiment": 5,
    "comparison": 6,
}


def package_files(repository):
    return [path for path in (repository / "jtln_tf").rglob("*.py") if path.parent.name != "__pycache__"]


def room_of(path, repository):
    return pathlib.Path(path.relative_to(repository / "jtln_tf").parts[0]).stem


def imported_modules(path):
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            if node.module == "jtln_tf":
                yield from (f"jtln_tf.{alias.name}" for alias in node.names)
            else:
                yield node.module


def test_every_room_has_a_floor(repository):
    rooms = {room_of(path, repository) for path in package_files(repository)}
    assert rooms - {"__init__"} == set(FLOORS)


def test_rooms_import_only_from_floors_below(repository):
    for path in package_files(repository):
        room = room_of(path, repository)
        for module in imported_modules(path):
            package, _, rest = module.partition(".")
            other = rest.partition(".")[0]
            if package == "jtln_tf" and other and room not in ("__init__", other):
                assert FLOORS[other] < FLOORS[room], f"{path.name} of {room} imports {module}"


@pytest.mark.parametrize("forbidden", ["absl.flags", "pickle", "tools", "flags"])
def test_the_package_reads_no_flags_and_no_pickle(repository, forbidden):
    for path in package_files(repository):
        for module in imported_modules(path):
            assert module != forbidden and not module.startswith(f"{forbidden}."), path
        assert "from absl import flags" not in path.read_text(), path


def test_no_room_is_a_drawer_for_everything(repository):
    names = {path.stem for path in package_files(repository)}
    assert not names & {"utils", "helpers", "common", "misc"}
