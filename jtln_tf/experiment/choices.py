"""What a run's configuration stands for: the command that repeats it, and why its values are what they are.

Imports no TensorFlow.
"""

import dataclasses
import shlex

from jtln_tf.config import SIDES, options_of
from jtln_tf.config.pretrained import resolve_learning_rate, resolve_start, resolve_steps
from jtln_tf.costs.matrix import CostMatrix
from jtln_tf.experiment.config import SECTIONS, ExperimentConfig
from jtln_tf.methods.jtln.agreement import find_agreement

Choice = tuple[str, str, str]
_GIVEN = "as given"


def format_command(config: ExperimentConfig, workdir: str = "DIR") -> str:
    """Returns the command that trains with a configuration."""
    return join_words("jtln train", [*list_flags(config).values(), f"--workdir={workdir}"])


def join_words(program: str, words: list[str]) -> str:
    """Returns a command with its words, each quoted for a shell and in a line of its own."""
    return " \\\n    ".join([program, *map(shlex.quote, words)])


def list_flags(config: ExperimentConfig) -> dict[str, str]:
    """Returns the flags of a configuration by name: the method's, and one for each option that is not at its default.

    Examples:
        >>> list_flags(ExperimentConfig())
        {'method': '--method=jtln'}
    """
    flags = {"method": f"--method={config.method.name}"}
    for section in (*(getattr(config, name) for name in SECTIONS), config.method):
        values = section.to_values()
        for field in options_of(type(section)):
            value, name = values[field.name], section.prefix + field.name
            if value != field.default and not (field.default is None and value == ""):
                flags[name] = _format_flag(name, value)
    return flags


def _format_flag(name, value):
    if isinstance(value, bool):
        return f"--{name}" if value else f"--no{name}"
    text = ",".join(map(str, value)) if isinstance(value, tuple) else str(value)
    return f"--{name}={text}"


def explain_choices(config: ExperimentConfig, result: dict, costs: CostMatrix | None) -> list[Choice]:
    """Returns what was chosen for a run, by a person or by `auto`: name, value and reason.

    `result` is that of the run, or empty; `costs` are those it used last, or None.
    """
    choices = [*_explain_network(config), *_explain_steps(config, result)]
    if costs is not None:
        choices += _explain_costs(config.cost, costs, result)
    return choices


def _explain_network(config):
    network, data = config.network, config.data
    weights = "random weights" if network.weights == "none" else f"weights: {network.weights}"
    is_builtin = all(getattr(data, side).kind == "builtin" for side in SIDES)
    reason = "a pretrained network knows what few labels cannot teach" if network.is_pretrained else _GIVEN
    if is_builtin and network.backbone == "small_cnn":
        reason = "the built-in digits need no pretrained network"
    yield "backbone", f"{network.backbone} ({weights})", reason
    auto = dataclasses.replace(network, start="auto", neck="auto", freeze_until="auto")
    for_cpu, for_gpu = (resolve_start(auto, has_gpu=has_gpu) for has_gpu in (False, True))
    is_auto = (network.start, network.neck) == (for_cpu.start, for_cpu.neck)
    reason = "heads begin with the class means behind the neck" if network.start == "strong" else "heads are drawn"
    yield "start", f"{network.start}, neck: {network.neck}", f"{reason}{'; the value of auto' if is_auto else ''}"
    frozen = {"all": "frozen", "": "trained as a whole"}.get(
        network.freeze_until, f"frozen up to {network.freeze_until}"
    )
    reason = _GIVEN
    if network.freeze_until == for_gpu.freeze_until == for_cpu.freeze_until:
        reason = "random weights must be trained"
    elif network.freeze_until == for_cpu.freeze_until:
        reason = "each image passes a frozen backbone once; the value of auto without a GPU"
    elif network.freeze_until == for_gpu.freeze_until:
        reason = "the value of auto with a GPU"
    yield "layers of the backbone", frozen, reason
    training = config.training
    is_auto = resolve_learning_rate(network, dataclasses.replace(training, backbone_learning_rate=0.0)) == training
    # Behind a frozen backbone it is that of the neck.
    part = "neck" if network.freeze_until == "all" else "backbone"
    rates = f"heads {training.head_learning_rate:g}, {part} {training.backbone_learning_rate:g}"
    suits = "pretrained weights" if network.is_pretrained else "random weights"
    yield "learning rates", rates, f"the {part}'s suits {suits}" if is_auto else _GIVEN


def _explain_steps(config, result):
    training, planned = config.training, config.training.steps
    if not config.method.stages(max(planned, 1)):
        yield "steps", "0", f"{config.method.title} sets the head in closed form, or by a solver of its own"
        return
    counts = {side: result.get(f"{side}_train_images") for side in SIDES}
    reason = _GIVEN
    if all(counts.values()):
        auto = resolve_steps(config.data, config.network, dataclasses.replace(training, steps=0), counts)
        if auto.steps == planned:
            reason = f"the value of auto for {counts['source']:,} source and {counts['target']:,} target images"
    yield "steps", f"{planned:,}", reason
    if not result:
        return
    stopped = result["steps"] < planned
    best, last = result.get("best_validation_accuracy"), result.get("validation_accuracy")
    if best is not None and result.get("best_step"):
        kept = f"step {result['best_step']}" if last == best else f"step {result['steps']}"
        reason = "the best of the target's validation images" if last == best else "the last one"
        reason += f"; stopped early, at step {result['steps']}" if stopped else ""
        yield "weights that were kept", kept, reason


def _explain_costs(cost, costs, result):
    every = cost.refresh_steps
    yield "class costs", costs.metric, f"found anew every {every:,} steps" if every else "found before training"
    trust = costs.parameters.get("trust", 1.0)
    strength = find_agreement(costs.values).trusted(trust).strength
    weight = result.get("transport_agreement")
    gate = "" if weight is None else f"; the transport of a source class weighs {weight:.2f} on average"
    reason = "how much clearer classes choose each other than unrelated ones would: 0 not at all, 1 clearly"
    yield "agreement of the classes", f"{strength:.2f}{gate}", reason
    if trust < 1:
        yield "trust in the costs", f"{trust:.2f}", "how far the images confirm which classes belong together"
    shrinkage = costs.parameters.get("neck_shrinkage")
    if shrinkage is not None:
        reason = "share of the covariance replaced by its mean: the better classes agree, the less the neck whitens"
        yield "shrinkage of the neck", f"{shrinkage:.2f}", reason
    if result.get("namesakes"):
        value = f"{result['namesakes_nearest']} of {result['namesakes']}"
        yield "namesakes", value, "target classes whose nearest source class has the same name"
