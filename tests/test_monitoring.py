import types

import pytest

from jtln_tf.monitoring import LogTraining


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
