import numpy as np
import pytest

from jtln_tf.comparison.plan import check_variant, plan_variants
from jtln_tf.config import DataConfig, InputError, MissingInputError, TrainingConfig
from jtln_tf.costs.config import CostConfig
from jtln_tf.costs.matrix import CostMatrix
from jtln_tf.experiment.config import ExperimentConfig
from jtln_tf.methods import find_method

ONLINE = CostConfig(matrix="online", refresh_steps=100, centring="dual")


def configure(*methods, **sections):
    return [ExperimentConfig(method=find_method(method)(), **{"cost": ONLINE, **sections}) for method in methods]


def test_lines_of_the_table():
    variants = plan_variants(configure("joint", "jtln"), ("mkmmd", "shuffled:mkmmd", "0.5*mkmmd+d/a b.csv"))
    assert [(variant.title, variant.folder) for variant in variants] == [
        ("joint without OT", "joint"),
        ("JTLN, mkmmd", "jtln-mkmmd"),
        ("JTLN, shuffled:mkmmd", "jtln-shuffled-mkmmd"),
        ("JTLN, 0.5*mkmmd+d/a b.csv", "jtln-0.5-mkmmd-d-a-b.csv"),
    ]
    assert variants[0].configure(3).training.seed == 3
    assert [variant.folder for variant in plan_variants(configure("jtln", "joint"))] == ["jtln", "joint"]


@pytest.mark.parametrize(
    ("matrix", "refresh_steps"),
    [("mkmmd", 100), ("shuffled:prediction", 100), ("0.5*text+mkmmd", 100), ("text", 0), ("uniform", 0), ("a.csv", 0)],
)
def test_costs_that_may_change_are_estimated_as_often_as_the_configurations(matrix, refresh_steps):
    (variant,) = plan_variants(configure("jtln"), (matrix,))
    assert variant.configure(0).cost == CostConfig(matrix=matrix, refresh_steps=refresh_steps, centring="dual")


@pytest.mark.parametrize(("matrix", "refresh_steps"), [("online", 30), ("mkmmd", 0)])
def test_online_costs_are_estimated_every_epoch_if_no_steps_are_given(matrix, refresh_steps):
    configs = configure("jtln", cost=CostConfig(), training=TrainingConfig(steps_per_epoch=30))
    assert plan_variants(configs, (matrix,))[0].config.cost.refresh_steps == refresh_steps


@pytest.mark.parametrize(
    ("methods", "matrices"), [(["jtln"], ("a/b.csv", "a-b.csv")), (["joint", "joint"], ()), (["jtln"], ("text",) * 2)]
)
def test_lines_that_would_share_a_folder(methods, matrices):
    with pytest.raises(InputError, match="must be named once each. Received: '.*' repeatedly"):
        plan_variants(configure(*methods), matrices)


def test_files_of_costs(tmp_path):
    path = str(tmp_path / "cost.npz")
    (variant,) = plan_variants(configure("jtln", data=DataConfig(target="builtin:optdigits?per_class=3")), (path,))
    with pytest.raises(MissingInputError, match="`cost_matrix` must name an existing file"):
        check_variant(variant, 1)
    CostMatrix(np.zeros((1, 1)), ("a",), ("b",), data={"target": {"fingerprint": "1"}}).save(path)
    check_variant(variant, 1)
    with pytest.raises(InputError, match="`seeds` must be 1 with a cost matrix .* one draw of the labels. Received: 2"):
        check_variant(variant, 2)
