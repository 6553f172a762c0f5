"""The page of one run. Takes values and knows no run."""

import dataclasses
import json

import numpy as np

from jtln_tf.costs.matrix import CostMatrix
from jtln_tf.report.confusion import draw_confusion, find_confused
from jtln_tf.report.cost_matrix import build_figure
from jtln_tf.report.curves import Curve, draw_curves
from jtln_tf.report.elements import Element, build_page, cards, element, paragraph, plot, section, table
from jtln_tf.report.images import show_image
from jtln_tf.report.mistakes import ShownMistake
from jtln_tf.report.transport_plan import build_plan_figure, describe_images

# In pixels.
_MISTAKE, _SAMPLE = 140, 56
_CONFUSED_PAIRS = 12
# A picture of more classes shows nothing but its diagonal, and costs seconds.
_MOST_DRAWN = 400
# In a picture.
_ACCURACY_NAMES = {
    "target_validation_accuracy": "target, validation",
    "source_validation_accuracy": "source, validation",
    "target_train_accuracy": "target, while training",
    "source_train_accuracy": "source, while training",
}


@dataclasses.dataclass(frozen=True, eq=False)
class MatchedPair:
    """A target class and its source class, with training images, pixels [H, W, C], of both.

    Attributes:
        target: Name of the target class.
        source: Name of the source class.
        value: Cost of the pair, or share of the target class's mass.
        images: Pixels by side; None for an image that is missing.
    """

    target: str
    source: str
    value: float
    images: dict[str, list[np.ndarray | None]]


@dataclasses.dataclass(frozen=True, eq=False)
class RunFacts:
    """What a page tells of a run.

    Attributes:
        title: What was trained on what.
        command: The command that repeats the run.
        result: `result.json`, or an empty dict for a run that is not finished.
        evaluation: Of `evaluation.json`, what the target's test images gave; or an empty dict.
        about: What was trained, by name.
        choices: What was chosen: name, value, reason.
        curves: Curves by name, as in `metrics.jsonl`.
        options: All options by section.
        costs: Class costs that the run used last, or None.
        pairs: Related classes, the cheapest pairs first.
        plan: Mean transport plan of the trained network, in the form of class costs and with their names, or None.
        matches: Target classes with the source class that most of their mass comes from, those with most mass first.
        no_plan: Why there is no plan, if the run has costs.
        mistakes: The most confident mistakes.
        warnings: What a reader should know before he trusts the figures.
    """

    title: str
    command: str
    result: dict
    evaluation: dict
    about: dict[str, str]
    choices: list[tuple[str, str, str]]
    curves: dict[str, Curve]
    options: dict[str, dict]
    costs: CostMatrix | None = None
    pairs: tuple[MatchedPair, ...] = ()
    plan: CostMatrix | None = None
    matches: tuple[MatchedPair, ...] = ()
    no_plan: str = ""
    mistakes: tuple[ShownMistake, ...] = ()
    warnings: tuple[str, ...] = ()


def build_run_page(facts: RunFacts) -> str:
    """Returns the HTML of the page of a run."""
    return build_page(
        facts.title,
        element("h1", facts.title),
        _tell_figures(facts.result),
        *(paragraph(warning, css="warning") for warning in facts.warnings),
        section(
            "What was trained",
            table((), facts.about.items()),
            paragraph("This command repeats the run, into another --workdir:"),
            element("pre", facts.command),
        ),
        _tell_choices(facts.choices),
        _draw_curves(facts),
        *(_tell_evaluation(facts.evaluation) if facts.evaluation else ()),
        _show_mistakes(facts),
        _show_costs(facts),
        section(
            "All options",
            element(
                "details",
                element("summary", "show them"),
                element("pre", json.dumps(facts.options, indent=2, ensure_ascii=False)),
            ),
        ),
    )


def format_share(share: float | None) -> str:
    """Returns a share in [0, 1] in percent; None is unknown."""
    return "unknown" if share is None else f"{100 * share:.1f} %"


def _tell_figures(result: dict) -> Element:
    if not result:
        return paragraph("This run is not finished, so it has no test accuracy yet.", css="warning")
    tested, validated = result.get("target_test_images"), result.get("target_validation_images")
    figures = {f"target test accuracy ({tested} images)": format_share(result["target_accuracy"])}
    if result.get("validation_accuracy") is not None:
        figures[f"target validation accuracy ({validated} images)"] = format_share(result["validation_accuracy"])
    figures["mean over the classes"] = format_share(result.get("target_macro_accuracy"))
    figures["steps"] = f"{result['steps']:,}"
    figures["training time"] = f"{result['train_seconds']:.0f} s"
    return cards(figures)


def _tell_choices(choices):
    return section("What was chosen, and why", table(("what", "choice", "why"), choices)) if choices else None


def _draw_curves(facts):
    accuracies = {name: facts.curves[key] for key, name in _ACCURACY_NAMES.items() if key in facts.curves}
    losses = {
        name.removesuffix("_loss").replace("loss", "all terms").replace("_", " "): curve
        for name, curve in facts.curves.items()
        if name == "loss" or name.endswith("_loss")
    }
    if not accuracies and not losses:
        return section("Curves", paragraph("This method takes no training steps, so there are no curves."))
    best = facts.result.get("best_step")
    parts = [
        plot(draw_curves(accuracies, "accuracy, %", factor=100, best_step=best), "accuracies over the steps")
        if accuracies
        else None,
        plot(draw_curves(losses, "loss"), "terms of the loss over the steps") if losses else None,
    ]
    note = (
        "Accuracies while training are of augmented images, before each step. The transport term is a regularized cost "
        "and may be negative."
    )
    return section("Curves", *parts, paragraph(note))


def _tell_evaluation(evaluation):
    confusion, rows = np.asarray(evaluation["confusion"]), evaluation["classes"]
    names = [row["class"] for row in rows]
    parts = []
    if len(names) <= _MOST_DRAWN:
        parts.append(plot(draw_confusion(confusion, names), "confusion matrix of the target's test images"))
    confused = find_confused(confusion, _CONFUSED_PAIRS)
    if confused:
        parts.append(paragraph("The most frequent confusions:"))
        lines = [(names[true], names[said], str(count)) for true, said, count in confused]
        parts.append(table(("true class", "predicted class", "images"), lines, numbers=(2,)))
    yield section("Confusion matrix of the test images", *parts)
    rows = sorted(rows, key=lambda row: 2.0 if row["accuracy"] is None else row["accuracy"])
    lines = [
        (row["class"], "no images" if row["accuracy"] is None else format_share(row["accuracy"]), str(row["images"]))
        for row in rows
    ]
    heads = ("class", "test accuracy", "test images")
    yield section("Classes, the hardest first", table(heads, lines, numbers=(1, 2)))


def _show_mistakes(facts):
    if not facts.mistakes:
        return None
    shown = [
        element(
            "div",
            show_image(one.pixels, _MISTAKE, one.image),
            element("br"),
            "is ",
            element("b", one.label),
            element("br"),
            "taken for ",
            element("b", one.predicted),
            f" ({100 * one.probability:.0f} %)",
        )
        for one in facts.mistakes
    ]
    note = "Test images whose class the network got wrong with the highest probability. Look for wrong labels first."
    return section("The worst mistakes", paragraph(note), element("div", *shown, css="grid"))


def _show_costs(facts):
    if facts.costs is None:
        return None
    is_drawn, plan = max(facts.costs.values.shape) <= _MOST_DRAWN, None
    parts = []
    if is_drawn:
        figure = build_figure(facts.costs, most_pixels=1200)
        parts.append(plot(figure, "class costs: rows are source classes, columns target classes"))
    if facts.plan is not None and is_drawn:
        plan = plot(build_plan_figure(facts.plan, facts.costs), "mean transport plan: rows are source classes")
    parts = [element("div", *parts, plan, css="beside")]
    if facts.no_plan:
        parts.append(paragraph(facts.no_plan))
    count = len(facts.costs.target_classes)
    if facts.pairs:
        some = _tell_some(facts.pairs, count, "the cheapest first")
        parts.append(paragraph(f"Each target class{some} and the source class that costs least, with training images:"))
        parts.append(_tabulate(facts.pairs, ("nearest source class", "cost"), ".3g"))
    if facts.matches:
        some = _tell_some(facts.matches, count, "those with most mass first")
        parts.append(
            paragraph(
                "The trained network's transport moves the source head's prediction of an image to that of the target "
                f"head. On average over {describe_images(facts.plan)}, most of the mass of each target class{some} "
                "comes from this source class:"
            )
        )
        parts.append(_tabulate(facts.matches, ("matched source class", "share of its mass"), ".0%"))
    return section("Which classes are related", *parts)


def _tell_some(pairs, count, order):
    return f" ({len(pairs)} of {count}, {order})" if len(pairs) < count else ""


def _tabulate(pairs, heads, form):
    rows = [
        (pair.target, _show_samples(pair, "target"), pair.source, _show_samples(pair, "source"), f"{pair.value:{form}}")
        for pair in pairs
    ]
    return table(("target class", "", heads[0], "", heads[1]), rows, numbers=(4,))


def _show_samples(pair, side):
    name = getattr(pair, side)
    images = [show_image(pixels, _SAMPLE, name) for pixels in pair.images.get(side, ()) if pixels is not None]
    return element("span", *images, css="pair")
