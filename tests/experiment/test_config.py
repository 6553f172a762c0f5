import dataclasses
import json
import subprocess
import sys

import numpy as np
import pytest

from jtln_tf.config import DataConfig, InputError, NetworkConfig, TrainingConfig
from jtln_tf.costs.config import CostConfig
from jtln_tf.experiment.config import ExperimentConfig, describe_differences
from jtln_tf.methods import METHODS, find_method

LATE = find_method("jtln")(transport_start_step=500)
ONLINE = CostConfig(matrix="online", refresh_steps=10)
CACHED = NetworkConfig(cache_features="memory", freeze_until="pool2")
MIXED = DataConfig(target_augmentation="crop,mixup:0.3")


@pytest.mark.parametrize(
    ("message", "sections", "fitting"),
    [
        (
            "`cost_matrix`=online must find costs .*: 500 of 500",
            {"cost": ONLINE, "method": LATE, "training": TrainingConfig(steps=500)},
            {"steps": 501},
        ),
        ("`target_augmentation` must be without mixup", {"data": MIXED, "network": CACHED}, {"cache_features": "auto"}),
    ],
)
def test_sections_must_fit_each_other(message, sections, fitting):
    with pytest.raises(InputError, match=message):
        ExperimentConfig(**sections)
    sections = {"training": TrainingConfig(), **sections}
    for name, section in sections.items():
        own = {option: value for option, value in fitting.items() if hasattr(section, option)}
        sections[name] = dataclasses.replace(section, **own)
    ExperimentConfig(**sections)


@pytest.mark.parametrize("method", METHODS)
def test_json_round_trip(method):
    config = ExperimentConfig(
        data=DataConfig(source="folder:Übung?classes=Käse", target="builtin:optdigits", target_augmentation="colour"),
        network=NetworkConfig(head_hidden_units=(64, 32)),
        training=TrainingConfig(steps=np.int64(7), step_factor=np.float32(0.5), step_boundaries=(0.1, 0.9)),
        cost=CostConfig(matrix="uniform"),
        method=find_method(method)(),
    )
    assert ExperimentConfig.from_json(config.to_json()) == config
    values = json.loads(config.to_json())
    # An option that came later takes its default.
    del values["training"]["seed"]
    assert ExperimentConfig.from_json(json.dumps(values)).training.seed == 0


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda values: values["training"].update(stepz=3), "`TrainingConfig` must only hold .*steps.*Received: stepz"),
        (lambda values: values["training"].update(seed=float("nan")), "`seed` must be a whole number. Received: nan"),
        (lambda values: values["data"].update(source=3), "`source` must be a text. Received: 3"),
        (lambda values: values.update(network=[1, 2]), "`NetworkConfig` must be a JSON object"),
        (lambda values: values.pop("cost"), "must hold data, network, training, cost, method"),
        (lambda values: values.update(method="jtln"), "`method` must be a JSON object with a name"),
        (lambda values: values["method"].update(name="magic"), "`method` must be one of nearest_mean, .*'magic'"),
    ],
)
def test_json_that_does_not_fit(change, message):
    values = ExperimentConfig().to_values()
    change(values)
    with pytest.raises(InputError, match=message):
        ExperimentConfig.from_json(json.dumps(values))


def test_both_domains_are_required():
    for side, data in (("source", DataConfig()), ("target", DataConfig(source="builtin:mnist5k"))):
        with pytest.raises(InputError, match=f"`{side}` must name a folder or another domain"):
            ExperimentConfig(data=data).require_domains()


def test_differences_are_named_as_flags_are():
    sections = {"training": TrainingConfig(steps=7), "cost": CostConfig(layer="relu")}
    expected = ["steps: 0 -> 7", "cost_layer: '' -> 'relu'", "transport_start_step: 0 -> 500"]
    assert describe_differences(ExperimentConfig(), ExperimentConfig(**sections, method=LATE)) == expected
    other = ExperimentConfig(method=find_method("joint")())
    assert describe_differences(ExperimentConfig(), other) == ["method: 'jtln' -> 'joint'"]


def test_flags_are_read_and_checked_without_tensorflow():
    modules = "jtln_tf, jtln_tf.flags, jtln_tf.tools.program, jtln_tf.config, jtln_tf.experiment.workdir"
    program = f"import sys, {modules}; sys.exit(any(name in sys.modules for name in ('tensorflow', 'keras')))"
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0
