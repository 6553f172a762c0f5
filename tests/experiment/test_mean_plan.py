"""The mean transport plan, against plain NumPy solutions of the saved network's predictions."""

import functools
import types

import numpy as np
import pytest

from jtln_tf.costs.matrix import CostMatrix, load_cost_matrix
from jtln_tf.data.reading.split import Split
from jtln_tf.experiment.assembly import load_trained
from jtln_tf.experiment.mean_plan import explain_no_plan, find_mean_plan
from jtln_tf.experiment.run import run_experiment
from jtln_tf.experiment.run_report import write_run_report
from jtln_tf.experiment.workdir import Run
from jtln_tf.methods import find_method
from jtln_tf.monitoring.samples import sample_domain
from tests.experiment.runs import make_config
from tests.reference import sinkhorn, unbalanced_sinkhorn
from tests.report.pages import PageReader


@pytest.mark.parametrize("penalty", [0.0, pytest.param(0.3, marks=pytest.mark.slow)])
def test_the_plan_is_the_mean_of_those_of_the_network_that_is_kept(penalty, bars, tmp_path):
    costs = tmp_path / "costs.npz"
    CostMatrix(1 - np.eye(4, 3), ("s0", "s1", "s2", "s3"), ("t0", "t1", "t2")).save(costs)
    options = {"transport_gate": "none", "epsilon": 0.1, "transport_temperature": 2.0, "sinkhorn_threshold": 1e-6}
    options["transport_marginal_penalty"] = penalty
    config = make_config(bars, "jtln", cost=(str(costs), 0), options=options)
    run_experiment(config, tmp_path / "run", export=False)
    plan = load_cost_matrix(tmp_path / "run" / "mean_plan.npz")
    network, domains = load_trained(Run.open(tmp_path / "run"))
    images = np.concatenate([batch for batch, _ in domains["source"].validation.batches(64)])
    assert plan.parameters == {"source validation": len(images)} and plan.target_classes == ("t0", "t1", "t2")
    predicted = network.predict(images.astype(np.float32), verbose=0)
    logs = [np.log(np.float64(predicted[side])) / 2 for side in ("source", "target")]
    logs = [one - np.log(np.exp(one).sum(axis=1, keepdims=True)) for one in logs]
    solve = functools.partial(unbalanced_sinkhorn, tau_a=penalty, tau_b=penalty) if penalty else sinkhorn
    plans = [solve(*pair, 1 - np.eye(4, 3), 0.1).plan for pair in zip(*logs, strict=True)]
    # With a penalty plans have any mass, and count alike.
    np.testing.assert_allclose(plan.values, np.mean([one / one.sum() for one in plans], axis=0), atol=1e-5)
    page = PageReader(write_run_report(tmp_path / "run").read_text("utf-8"))
    assert "matched source class" in page.text and "mean transport plan: rows are source classes" in page.pictures


def test_a_transport_that_is_not_trusted_has_no_plan_and_a_reason():
    state = types.SimpleNamespace(costs_in_use=lambda: np.eye(2), source_weights=np.zeros(2))
    model = types.SimpleNamespace(method=find_method("jtln")(), method_state=state)
    assert find_mean_plan(types.SimpleNamespace(model=model), 32) is None
    doubted = CostMatrix(np.eye(2), "ab", "cd", parameters={"trust": 0.0})
    assert "the images do not confirm the class costs" in explain_no_plan(doubted, {"transport_agreement": 0.0})
    assert "This run kept no" in explain_no_plan(doubted, {"transport_agreement": 0.5})


def test_a_sample_takes_all_classes_in_turn():
    labels = np.array([0] * 6 + [2] * 2 + [1] * 4)
    split = Split(np.arange(12, dtype=np.uint8)[:, None, None, None], labels, 1, 1)
    domain = type("Domain", (), {"validation": split.take([]), "split": lambda self, name: split})()
    name, sample = sample_domain(domain, 5)
    assert (name, sample.images.values.ravel().tolist()) == ("train", [0, 1, 6, 8, 9])
