"""Whether cost matrices relate classes as people would: on real images, of which nothing is told."""

import csv
import dataclasses
import os
import pathlib

import pytest

import jtln_tf as jt
from flags import preset_path
from jtln_tf.config import CostConfig, DataConfig, NetworkConfig, TrainingConfig
from jtln_tf.experiment import build_costs, run_experiment

SHARED = os.environ.get("JTLN_SHARED")


@pytest.mark.slow
def test_a_backbone_that_knows_mnist_relates_other_scans_of_the_same_digit(tmp_path):
    data = DataConfig(source="builtin:mnist5k", target="builtin:mnist5k", channels=1, random_flip=False)
    training = TrainingConfig(method="target_only", steps=500, head_learning_rate=3e-3, backbone_learning_rate=3e-3)
    run_experiment(jt.ExperimentConfig(data=data, training=training), tmp_path / "run", export=False)
    for seed in range(2):
        config = jt.ExperimentConfig(
            data=dataclasses.replace(data, target="builtin:optdigits?per_class=10"),
            training=TrainingConfig(seed=seed),
        )
        nearest = build_costs(config, workdir=tmp_path / "run").nearest(1)
        assert sum(found == [digit] for digit, found in nearest.items()) >= 9, seed


def read_preset(name):
    lines = [line for line in preset_path(name).read_text().splitlines() if line.startswith("--")]
    return dict(line[2:].split("=", 1) for line in lines)


@pytest.mark.slow
@pytest.mark.skipif(not SHARED, reason="JTLN_SHARED does not name the folder of the grocery images")
def test_products_are_nearest_to_their_own_kind():
    folder = pathlib.Path(SHARED)
    preset = read_preset("grocery_related")
    with (folder / "data" / "grocery" / "classes.csv").open() as file:
        kinds = {row["class"]: row["coarse_class"] for row in csv.DictReader(file)}
    config = jt.ExperimentConfig(
        data=DataConfig(
            source=preset["source"],
            target=preset["target"],
            data_root=str(folder / "data" / "grocery"),
            image_size=224,
            random_crop=False,
            random_flip=False,
        ),
        network=NetworkConfig(backbone=str(folder / "models" / "efficientnet_lite0_imagenet.keras")),
        cost=CostConfig(cost_images_per_class=1000),
    )
    matrix = build_costs(config)
    source_kinds = {kinds[name] for name in matrix.source_classes}
    nearest = matrix.nearest(1)
    with_sibling = [name for name in matrix.target_classes if kinds[name] in source_kinds]
    assert len(with_sibling) == 22
    found = sum(kinds[nearest[name][0]] == kinds[name] for name in with_sibling)
    assert found >= 19, f"{found} of 22"
