import types

import numpy as np
import pytest

from jtln_tf.costs import CostMatrix
from jtln_tf.monitoring import LogTraining, log_costs


def log_steps(converged_by_step, caplog):
    """Warnings of a run whose steps solved these shares of the transport."""
    entries = []
    log = types.SimpleNamespace(write=lambda step, scalars: entries.append((step, scalars)))
    state = types.SimpleNamespace(step=0)
    callback = LogTraining(state, log, every_steps=2, count_passes=lambda step: {"source": step / 10})
    optimizer = types.SimpleNamespace(learning_rate=0.1)
    callback.set_model(
        types.SimpleNamespace(optimizer=optimizer, backbone_optimizer=None, metrics=[], transport_weight=lambda: 0.5)
    )
    for converged in converged_by_step:
        state.step += 1
        solved = {} if converged is None else {"transport_converged": converged, "marginal_error": 2e-3}
        callback.on_train_batch_end(state.step, {"loss": 1.0, **solved})
    assert [step for step, _ in entries] == list(range(2, len(converged_by_step) + 1, 2))
    return [record.getMessage() for record in caplog.records]


def test_a_transport_that_is_not_solved_is_told_once(caplog):
    (message,) = log_steps([1.0, 1.0, 0.5, 0.985, 0.2, 0.3], caplog)
    assert "only 98.5 % of the last images before step 4 (mean marginal error 2.0e-03)" in message
    assert "--epsilon" in message and "--sinkhorn_max_iterations" in message


@pytest.mark.parametrize("converged", [[1.0, 0.99, 1.0, 0.99], [None] * 4])
def test_a_transport_that_is_solved_or_left_out_is_not_told(converged, caplog):
    assert log_steps(converged, caplog) == []


def test_costs_are_drawn_where_what_they_say_has_changed():
    scalars, images = [], []
    log = types.SimpleNamespace(
        write=lambda step, values: scalars.append((step, values)),
        write_image=lambda step, name, pixels: images.append((step, name, pixels.dtype, pixels.ndim)),
    )
    first = np.array([[0.0, 1.0], [1.0, 0.0], [0.5, 0.5]], np.float32)
    same, other = first + 0.1, first[[1, 0, 2]]
    before = None
    for step, values in enumerate((first, same, other)):
        log_costs(log, step, CostMatrix(values, ("a", "b", "c"), ("d", "e")), before)
        before = values
    assert [step for step, _ in scalars] == [1, 2]
    assert scalars[0][1] == {"cost_drift": pytest.approx(0.1), "cost_nearest_changed": 0.0}
    assert scalars[1][1]["cost_nearest_changed"] == 1.0
    assert images == [(0, "cost_matrix", np.uint8, 3), (2, "cost_matrix", np.uint8, 3)]
