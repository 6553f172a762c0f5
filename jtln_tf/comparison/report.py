"""The page of a comparison, from its table and the folders of its runs."""

import json
import logging
import os
import pathlib
import urllib.parse
from collections.abc import Callable

from jtln_tf import files
from jtln_tf.config import InputError
from jtln_tf.experiment.choices import join_words, list_flags
from jtln_tf.experiment.config import ExperimentConfig
from jtln_tf.experiment.run_report import read_curves, read_values
from jtln_tf.report.comparison_page import Gap, Row, build_comparison_page

_LOG = logging.getLogger("jtln_tf")
REPORT_FILE = "report.html"
# Of a run's folder, what its link leads to: the first that there is.
_LINKED = (REPORT_FILE, "result.json")


def write_comparison_report(folder: str | os.PathLike, output: str | os.PathLike | None = None) -> pathlib.Path:
    """Writes the page of a comparison and returns its path.

    Args:
        folder: Folder of the comparison.
        output: The file; None is `report.html` in the folder.

    Raises:
        InputError: If the folder holds no table that can be read.
    """
    folder = pathlib.Path(folder)
    path = pathlib.Path(output or folder / REPORT_FILE)
    values = read_values(folder / "table.json") or {}
    try:
        changed = {row["folder"] for row in values["rows"] if row.get("changes")}
        # The command names what a line changes beside its method.
        plain = {folder: one for folder, one in values["configs"].items() if folder not in changed}
        configs = [ExperimentConfig.from_json(json.dumps(one)) for one in (plain or values["configs"]).values()]
        rows = [_read_row(folder, row, values["rows"], path.parent) for row in values["rows"]]
        page = build_comparison_page(*_describe(folder, configs, values["rows"]), rows, values["configs"])
    except (KeyError, TypeError, AttributeError, IndexError, ValueError) as error:
        raise InputError(
            f"`workdir` must hold a comparison that can be read. Received: {str(folder / 'table.json')!r} "
            f"({files.first_line(error)})."
        ) from error
    files.write_whole(path, page)
    return path


def try_to_report(write: Callable[[pathlib.Path], pathlib.Path], folder: pathlib.Path) -> pathlib.Path | None:
    """Writes the page of what has just ended by `write`; if that fails, says so and returns None."""
    try:
        return write(folder)
    except Exception as error:
        _LOG.warning("the tables are written, but their report could not be drawn: %s", files.first_line(error))
        return None


def _read_row(folder, row, rows, place):
    # Tables of older releases do not name folders.
    titles = {other.get("folder"): other["title"] for other in rows}
    runs = [folder / row["folder"] / f"seed{seed}" if "folder" in row else None for seed in row["seeds"]]
    results = [run and read_values(run / "result.json") or {} for run in runs]
    curves = [run and read_curves(run / "metrics.jsonl").get("target_validation_accuracy") for run in runs]
    return Row(
        title=row["title"],
        label_count=row["label_count"],
        seeds=row["seeds"],
        accuracies=row["target_accuracies"],
        gaps={name: Gap(**{**one, "to": titles[one["to"]]}) for name, one in row.get("differences", {}).items()},
        seconds=[result.get("train_seconds") for result in results],
        curves=[curve or ([], []) for curve in curves],
        links=[run and find_link(run, place) for run in runs],
    )


def find_link(run: pathlib.Path, place: pathlib.Path) -> str | None:
    """Returns the address, seen from the folder `place`, of the page of a run or a comparison; None if it has none."""
    found = next((run / name for name in _LINKED if (run / name).is_file()), None)
    return found and urllib.parse.quote(os.path.relpath(found, place).encode("utf-8", "surrogateescape"))


def _describe(folder, configs, rows):
    """Returns the title, the command, and what was compared."""
    data, seeds = configs[0].data, rows[0]["seeds"]
    methods = list(dict.fromkeys("?".join(filter(None, (row["method"], row.get("changes")))) for row in rows))
    counts = list(dict.fromkeys(row["label_count"] for row in rows if row["label_count"] is not None))
    matrices = list(dict.fromkeys(row["cost_matrix"] for row in rows if row["cost_matrix"] is not None))
    flags = {}
    # Costs found online are refreshed more often than others.
    for config in sorted(configs, key=lambda config: config.cost.matrix.is_online):
        flags = list_flags(config) | flags
    unwanted = {"method", "seed"} | ({"cost_matrix"} if matrices else set())
    words = [flag for name, flag in flags.items() if name not in unwanted]
    words += [f"--methods={','.join(methods)}", f"--seeds={len(seeds)}"]
    words += [f"--seed={seeds[0]}"] if seeds[0] else []
    words += [f"--label_counts={','.join(map(str, counts))}"] if counts else []
    words += [f"--cost_matrices={','.join(matrices)}"] if matrices else []
    about = {
        "source": data.source.text,
        "target": data.target.text,
        "labels of each target class": ", ".join(map(str, counts))
        or str(data.labels_per_class or data.target.per_class or "all there are"),
        "backbone": configs[0].network.backbone,
        "steps": ", ".join(f"{steps:,}" for steps in sorted({row["steps"] for row in rows})),
        "seeds": ", ".join(map(str, seeds)),
        "versions": ", ".join(f"{name} {version}" for name, version in rows[0]["versions"].items()),
    }
    title = f"{len(methods)} methods compared: {data.source.text} → {data.target.text}"
    return title, join_words("jtln compare", [*words, f"--output={folder}"]), about
