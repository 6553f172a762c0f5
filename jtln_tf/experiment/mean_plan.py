"""The mean transport plan of a trained network: which classes its transport has matched."""

import contextlib
import dataclasses
import pathlib

import keras
import numpy as np
import tensorflow as tf

from jtln_tf.config import SIDES, InputError
from jtln_tf.costs.matrix import CostMatrix, load_cost_matrix
from jtln_tf.experiment.assembly import Assembly
from jtln_tf.experiment.workdir import MEAN_PLAN_FILE, Run
from jtln_tf.methods.base import Outputs
from jtln_tf.methods.jtln.method import Jtln
from jtln_tf.methods.jtln.transport import solve_transport
from jtln_tf.monitoring.samples import look_at, sample_domain
from jtln_tf.network import domain_view

# Of several plans, in memory at once.
_MOST_ENTRIES = 2**24


def write_mean_plan(run: Run, assembly: Assembly, most_images: int) -> CostMatrix | None:
    """Finds the mean plan of a run that has just ended, writes it into the run's folder, and returns it.

    If there is none, it returns None, and removes that of an earlier end.
    """
    plan, path = find_mean_plan(assembly, most_images), run.folder / MEAN_PLAN_FILE
    if plan is None:
        path.unlink(missing_ok=True)
    else:
        plan.save(path)
    return plan


def read_mean_plan(folder: pathlib.Path, costs: CostMatrix) -> CostMatrix | None:
    """Returns the mean plan in the folder of a run with its class costs; None if there is none that can be read."""
    with contextlib.suppress(InputError, OSError):
        plan = load_cost_matrix(folder / MEAN_PLAN_FILE)
        return plan.align(costs.source_classes, costs.target_classes)
    return None


def find_mean_plan(assembly: Assembly, most_images: int) -> CostMatrix | None:
    """Solves the transport of some images as training does, and returns the mean of their plans.

    The images are those of `sample_domain`, of the sides that the transport looks at, as they come.

    Args:
        assembly: What the run was trained with.
        most_images: Images that the mean is taken over.

    Returns:
        The plan [n, m], whose entries sum to 1, in the form of class costs, because their file needs no pickle and is
        checked before it is read. None if the method has no transport, or trusts no class.
    """
    method, state = assembly.model.method, assembly.model.method_state
    if not isinstance(method, Jtln) or not method.transport_weight:
        return None
    costs = state.costs_in_use()
    if costs is None or not keras.ops.convert_to_numpy(state.source_weights).any():
        return None
    sides = [side for side in SIDES if method.transport_images in (side, "both")]
    total, counts = np.zeros_like(costs), {}
    for side in sides:
        name, split = sample_domain(assembly.setup.inputs[side], most_images // len(sides))
        outputs = _predict(assembly.model.network, split, side)
        total += _sum_plans(method, split.labels, outputs, costs)
        counts[f"{side} {name}".replace("train", "training")] = len(split)
    names = (domain.class_names for domain in assembly.setup.domains.values())
    return CostMatrix(total / sum(counts.values()), *names, metric="mean transport plan", parameters=counts)


def explain_no_plan(costs: CostMatrix, result: dict) -> str:
    """Returns why a run with class costs has no mean plan."""
    if not result:
        return "The mean transport plan is found when the run ends."
    if result.get("transport_agreement") == 0:
        reason = "the classes choose each other no more clearly than unrelated ones would"
        if not costs.parameters.get("trust", 1.0):
            reason = "the images do not confirm the class costs, which are trusted by 0"
        return f"There is no mean transport plan: {reason}, so the transport was left out of training."
    return "This run kept no mean transport plan."


def _predict(network, split, side):
    """Returns `Outputs` of the images of a split, whose logits are logarithms of probabilities."""
    found, least = list(look_at(domain_view(network, side), split)), np.finfo(np.float32).tiny
    logits = {one: tf.math.log(tf.maximum(tf.concat([part[one] for part in found], 0), least)) for one in SIDES}
    return Outputs(features=None, **logits)


def _sum_plans(method, labels, outputs, costs):
    """Returns the sum of the plans of all images, [n, m], each of which sums to 1."""
    with _without_graphs():
        solved = solve_transport(method, tf.constant(labels), outputs, tf.constant(costs))
    total, step = np.zeros_like(costs), max(1, _MOST_ENTRIES // costs.size)
    for first in range(0, len(labels), step):
        part = slice(first, first + step)
        plans = dataclasses.replace(solved, f=solved.f[part], g=solved.g[part]).plan().numpy()
        # With a penalty in place of the marginals, a plan has any mass.
        total += (plans / plans.sum(axis=(1, 2), keepdims=True)).sum(axis=0)
    return total


@contextlib.contextmanager
def _without_graphs():
    """Lets TensorFlow run functions operation by operation: compiling them takes several times as long as one call."""
    before = tf.config.functions_run_eagerly()
    tf.config.run_functions_eagerly(True)
    try:
        yield
    finally:
        tf.config.run_functions_eagerly(before)
