"""The page of a run, from the files in its folder and from the images that it was trained on."""

import json
import logging
import os
import pathlib

import numpy as np
import tensorflow as tf

from jtln_tf import files
from jtln_tf.backbones import usual_image_size
from jtln_tf.config import SIDES, InputError
from jtln_tf.data import Domain, load_domains
from jtln_tf.experiment.choices import explain_choices, format_command
from jtln_tf.experiment.mean_plan import explain_no_plan, read_mean_plan
from jtln_tf.experiment.workdir import REPORT_FILE, Run
from jtln_tf.report.curves import Curve
from jtln_tf.report.images import read_images
from jtln_tf.report.mistakes import ShownMistake, read_mistakes
from jtln_tf.report.run_page import MatchedPair, RunFacts, build_run_page
from jtln_tf.report.transport_plan import find_shares

_LOG = logging.getLogger("jtln_tf")
_MOST_PAIRS, _SAMPLES = 24, 3
# Decoded to this many pixels a side.
_DECODED = 160


def write_run_report(folder: str | os.PathLike, output: str | os.PathLike | None = None) -> pathlib.Path:
    """Writes the page of a run, which may be unfinished, and returns its path.

    Decodes only the images that are shown, and passes none through a network.

    Args:
        folder: Folder of the run.
        output: The file; None is `report.html` in the folder.

    Raises:
        InputError: If the folder holds no run, or one that cannot be read. If images are gone, the page says so.
    """
    path = pathlib.Path(output or pathlib.Path(folder) / REPORT_FILE)
    files.write_whole(path, build_run_page(gather_facts(Run.open(folder))))
    return path


def try_write_run_report(folder: str | os.PathLike) -> pathlib.Path | None:
    """Writes the page of a run that has just ended; if that fails, says so and returns None: the result counts."""
    _LOG.info("drawing the report ...")
    try:
        return write_run_report(folder)
    except Exception as error:
        _LOG.warning("the result is written, but its report could not be drawn: %s", files.first_line(error))
        return None


def gather_facts(run: Run) -> RunFacts:
    """Reads what the page of a run tells."""
    config, result, costs = run.config, run.read_result() or {}, run.read_costs()
    evaluation = _read_evaluation(run)
    plan = read_mean_plan(run.folder, costs) if result and costs is not None else None
    warnings = list(_find_warnings(result))
    try:
        domains = _open_domains(run, result)
        mistakes, pairs = _read_mistakes(domains["target"], evaluation), _read_pairs(domains, costs)
        matches = _read_matches(domains, plan)
    except (InputError, OSError, tf.errors.OpError) as error:
        warnings.append(
            f"The pictures are missing, because the data cannot be read any more: {files.first_line(error)}"
        )
        mistakes = pairs = matches = ()
    data = config.data
    return RunFacts(
        title=f"{config.method.title}: {data.source.text} → {data.target.text}",
        command=format_command(config, str(run.folder)),
        result=result,
        evaluation=evaluation,
        about=_describe(config, result),
        choices=explain_choices(config, result, costs),
        curves=read_curves(run.metrics),
        options=config.to_values(),
        costs=costs,
        pairs=pairs,
        plan=plan,
        matches=matches,
        no_plan=explain_no_plan(costs, result) if costs is not None and plan is None else "",
        mistakes=mistakes,
        warnings=tuple(warnings),
    )


def read_curves(path: pathlib.Path) -> dict[str, Curve]:
    """Returns the steps and values of everything in a `metrics.jsonl`, by name; skips what is no number."""
    curves = {}
    lines = path.read_text("utf-8", "replace").splitlines() if path.is_file() else []
    for line in lines:
        try:
            entry = json.loads(line)
        except (ValueError, RecursionError):
            # The line that a kill cut short.
            continue
        step = entry.pop("step", None) if isinstance(entry, dict) else None
        if not isinstance(step, int):
            continue
        for name, value in entry.items():
            if isinstance(value, int | float):
                steps, values = curves.setdefault(name, ([], []))
                steps.append(step)
                values.append(value)
    return curves


def read_values(path: pathlib.Path) -> dict | None:
    """Returns the JSON object in a file, or None if there is none that can be read."""
    try:
        values = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError, RecursionError):
        return None
    return values if isinstance(values, dict) else None


def _read_evaluation(run):
    """Returns what `evaluation.json` says of the target; an empty dict if it cannot be read."""
    target = (read_values(run.folder / "evaluation.json") or {}).get("target")
    try:
        count = len([(row["class"], row["accuracy"], row["images"]) for row in target["classes"]])
        mistakes = [(one["image"], one["probability"]) for one in target.get("mistakes", ())]
        labels = [one[kind] for one in target.get("mistakes", ()) for kind in ("label", "predicted")]
        fits = np.asarray(target["confusion"], np.int64).shape == (count, count)
        fits &= all(0 <= label < count for label in labels) and all(image < target["images"] for image, _ in mistakes)
    except (TypeError, ValueError, KeyError, AttributeError):
        fits = False
    return target if fits else {}


def _open_domains(run, result):
    """Returns the domains of a run, their files undecoded; unless images were left out, which only decoding finds."""
    config, is_whole = run.config, not result.get("bad_images_left_out")
    default_size = usual_image_size(config.network.backbone)
    options = {"seed": config.training.seed, "default_size": default_size, "is_known": lambda split: is_whole}
    domains = dict(zip(SIDES, load_domains(config.data, **options), strict=True))
    run.check_classes({side: domain.class_names for side, domain in domains.items()})
    return domains


def _read_mistakes(target: Domain, evaluation: dict) -> tuple[ShownMistake, ...]:
    # Images that came or went since have moved the others.
    if len(target.test) != evaluation.get("images"):
        return ()
    return read_mistakes(target.test, target.class_names, evaluation.get("mistakes", ()))


def _read_pairs(domains, costs):
    if costs is None:
        return ()
    best, values = costs.values.argmin(axis=0), costs.values.min(axis=0)
    return _pair(domains, costs, best, values, np.argsort(values, kind="stable"))


def _read_matches(domains, plan):
    if plan is None:
        return ()
    shares, order = find_shares(plan.values), np.argsort(-plan.values.sum(axis=0), kind="stable")
    shares = np.nan_to_num(shares)
    best, values = shares.argmax(axis=0), shares.max(axis=0)
    return _pair(domains, plan, best, values, [column for column in order if values[column]])


def _pair(domains, matrix, rows, values, columns):
    """Returns the target classes at `columns` with the source classes at `rows` [m], and their `values` [m]."""
    named = [(matrix.target_classes[one], matrix.source_classes[rows[one]], values[one]) for one in columns]
    named = named[:_MOST_PAIRS]
    targets = _read_samples(domains["target"], [target for target, _, _ in named])
    sources = _read_samples(domains["source"], list(dict.fromkeys(source for _, source, _ in named)))
    return tuple(
        MatchedPair(
            target, source, float(value), {"target": targets.get(target, []), "source": sources.get(source, [])}
        )
        for target, source, value in named
    )


def _read_samples(domain, names):
    """Returns a few training images of classes, by name."""
    places = {name: label for label, name in enumerate(domain.class_names)}
    rows = {
        name: np.flatnonzero(domain.train.labels == places[name])[:_SAMPLES].tolist()
        for name in names
        if name in places
    }
    pictures = iter(read_images(domain.train, [row for own in rows.values() for row in own], _DECODED))
    return {name: [next(pictures) for _ in own] for name, own in rows.items()}


def _describe(config, result):
    data, training = config.data, config.training
    counts = {side: result.get(f"{side}_train_images") for side in SIDES}
    images = {side: "" if count is None else f", {count:,} training images" for side, count in counts.items()}
    about = {
        "method": config.method.title,
        "source": f"{data.source.text}{images['source']}",
        "target": f"{data.target.text}{images['target']}",
        "labels of each target class": str(data.labels_per_class or data.target.per_class or "all there are"),
        "augmentation": f"source {data.source_augmentation.text}; target {data.target_augmentation.text}",
        "images in a step": f"{data.source_batch} source, {data.target_batch} target",
        "seed": str(training.seed),
    }
    if versions := result.get("versions"):
        about["versions"] = ", ".join(f"{name} {version}" for name, version in versions.items())
    return about


def _find_warnings(result):
    for side in SIDES:
        if count := result.get(f"target_test_images_in_{side}_train"):
            yield (
                f"{count} of the {result['target_test_images']} test images are also training images of the {side}: "
                "the test accuracy is too high."
            )
    if result and not result.get("target_validation_images"):
        yield "There were no validation images, so nothing but the test images says how the network does on new ones."
    if count := result.get("bad_images_left_out"):
        yield f"{count} images could not be read and were left out."
