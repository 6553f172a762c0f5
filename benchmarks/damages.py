"""Kinds of damage to the folder of a run, and what a resumed run is to do about each."""

import json
import pathlib
import shutil
import typing

# What a resumed run ends with.
SAME, REFUSED = "same bits", "refused in one line"


class Damage(typing.NamedTuple):
    """One kind of damage.

    Attributes:
        name: What is done.
        harm: Function of the run's folder, and of the folder of another run of the same configuration.
        outcome: What must follow, `SAME` or `REFUSED`.
        told: Words of the line that must be told; empty if there is nothing to say.
        is_finished: Whether it is done to a finished run; else to one that was killed between two checkpoints.
    """

    name: str
    harm: typing.Callable[[pathlib.Path, pathlib.Path], None]
    outcome: str = SAME
    told: str = ""
    is_finished: bool = False


def _cut(name, share=0.5):
    def harm(run, _):
        path = run / name
        path.write_bytes(path.read_bytes()[: int(share * path.stat().st_size)])

    return harm


def _flip(name, at):
    def harm(run, _):
        content = bytearray((run / name).read_bytes())
        content[int(at * (len(content) - 1))] ^= 4
        (run / name).write_bytes(content)

    return harm


def _write(name, content):
    return lambda run, _: (run / name).write_bytes(content)


def _remove(name):
    def harm(run, _):
        shutil.rmtree(run / name) if (run / name).is_dir() else (run / name).unlink()

    return harm


def _take(name):
    return lambda run, other: shutil.copy(other / name, run / name)


def _become_a_folder(name):
    def harm(run, _):
        (run / name).unlink()
        (run / name).mkdir()

    return harm


def _edit(name, section, key, value):
    def harm(run, _):
        values = json.loads((run / name).read_text())
        (values[section] if section else values)[key] = value
        (run / name).write_text(json.dumps(values, indent=2))

    return harm


def _leave_halves(run, _):
    for name in ("last.npz", "previous.npz", "best.npz", "jtln_tf.json"):
        (run / "checkpoints" / f"{name}.77.unfinished").write_bytes(b"half")
    for name in ("config.json", "result.json", "metrics.jsonl", "jtln_tf.json"):
        (run / f"{name}.77.unfinished").write_bytes(b"half")


def _spoil_a_line(run, _):
    lines = (run / "metrics.jsonl").read_text().splitlines(keepends=True)
    (run / "metrics.jsonl").write_text("".join([*lines[:3], "{]\xff\n", *lines[4:]]))


def _both(first, second):
    def harm(run, other):
        first(run, other)
        second(run, other)

    return harm


_LAST, _PREVIOUS, _BEST = (f"checkpoints/{name}.npz" for name in ("last", "previous", "best"))
_VARIABLES = "export/1/variables/variables"
_BEFORE = "the checkpoint before the last is used"
_READ = "must hold a run that can be read"
_CHECKPOINT = "A checkpoint must be whole and of this run"
_GONE = "whose checkpoints are gone"

DAMAGES = [
    Damage("last checkpoint cut in half", _cut(_LAST), told=_BEFORE),
    Damage("last checkpoint without its last byte", _cut(_LAST, 0.99999), told=_BEFORE),
    Damage("last checkpoint emptied", _cut(_LAST, 0), told=_BEFORE),
    *(
        Damage(f"a bit flipped at {share:.0%} of the last checkpoint", _flip(_LAST, share), told=_BEFORE)
        for share in (0, 0.3, 0.7, 1)
    ),
    Damage("last checkpoint overwritten by garbage", _write(_LAST, b"\x13garbage\n" * 999), told=_BEFORE),
    Damage("last checkpoint removed", _remove(_LAST), told=_BEFORE),
    Damage("last checkpoint taken from another run", _take(_LAST), told=_BEFORE),
    Damage("a folder in place of the last checkpoint", _become_a_folder(_LAST), REFUSED, "can be replaced"),
    Damage("checkpoint before the last cut in half", _cut(_PREVIOUS)),
    Damage("checkpoint before the last removed", _remove(_PREVIOUS)),
    Damage("both checkpoints cut in half", _both(_cut(_LAST), _cut(_PREVIOUS)), REFUSED, _CHECKPOINT),
    Damage("a bit flipped in both", _both(_flip(_LAST, 0.5), _flip(_PREVIOUS, 0.5)), REFUSED, _CHECKPOINT),
    Damage("both checkpoints removed", _both(_remove(_LAST), _remove(_PREVIOUS)), REFUSED, _GONE),
    Damage("checkpoints/ removed", _remove("checkpoints"), REFUSED, _GONE),
    Damage("best checkpoint cut in half", _cut(_BEST)),
    Damage("best checkpoint removed", _remove(_BEST)),
    Damage("half-written files of a killed process", _leave_halves),
    Damage("config.json cut in half", _cut("config.json"), REFUSED, _READ),
    Damage("config.json emptied", _cut("config.json", 0), REFUSED, _READ),
    Damage("another number in config.json", _edit("config.json", "training", "steps", 99), REFUSED, _READ),
    Damage("config.json of another run", _take("config.json"), REFUSED, _READ),
    Damage("classes.json cut in half", _cut("classes.json"), REFUSED, _READ),
    Damage("other classes in classes.json", _edit("classes.json", "", "target", ["a"]), REFUSED, _READ),
    Damage(
        "the folder's mark overwritten", _write("jtln_tf.json", b"{"), REFUSED, "must be a new folder or that of a run"
    ),
    Damage("the mark of checkpoints/ removed", _remove("checkpoints/jtln_tf.json"), REFUSED, "must be a new folder"),
    Damage("metrics.jsonl: last line cut", _cut("metrics.jsonl", 0.999)),
    Damage("metrics.jsonl: a line of garbage", _spoil_a_line, told="damaged lines, which are left out"),
    Damage("metrics.jsonl removed", _remove("metrics.jsonl"), told="is gone or damaged"),
    Damage("metrics.jsonl of another run", _take("metrics.jsonl"), told="is another run's"),
    Damage("cost_matrix.npz cut in half", _cut("cost_matrix.npz")),
    Damage("result.json cut in half", _cut("result.json"), told="the result is found anew", is_finished=True),
    Damage(
        "another accuracy in result.json",
        _edit("result.json", "", "target_accuracy", 1.0),
        told="the result is found anew",
        is_finished=True,
    ),
    Damage("result.json of another run", _take("result.json"), told="the result is found anew", is_finished=True),
    Damage("result.json removed", _remove("result.json"), is_finished=True),
    Damage(
        "result.json and both checkpoints removed",
        _both(_remove("result.json"), _both(_remove(_LAST), _remove(_PREVIOUS))),
        REFUSED,
        _GONE,
        is_finished=True,
    ),
    Damage("export/ removed", _remove("export"), is_finished=True),
    *(
        Damage(f"export: {name}", harm, told="the network is exported anew", is_finished=True)
        for name, harm in (
            ("a bit flipped in its graph", _flip("export/1/saved_model.pb", 0.5)),
            ("its weights cut in half", _cut(f"{_VARIABLES}.data-00000-of-00001")),
            ("the index of its weights emptied", _cut(f"{_VARIABLES}.index", 0)),
            ("its classes removed", _remove("export/1/assets/classes.json")),
            ("the list of checksums removed", _remove("export/SHA256SUMS")),
        )
    ),
]
