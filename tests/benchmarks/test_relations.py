"""Whether cost matrices relate classes as people would: on real images, of which nothing is told."""

import dataclasses
import subprocess
import sys

import pytest

import jtln_tf as jt
from jtln_tf.config import DataConfig, TrainingConfig
from jtln_tf.costs.config import CostConfig
from jtln_tf.experiment.cost_matrix import build_costs
from jtln_tf.experiment.run import run_experiment
from jtln_tf.methods import find_method
from tests.conftest import make_image_folder


@pytest.mark.slow
def test_a_backbone_that_knows_mnist_relates_other_scans_of_the_same_digit(tmp_path):
    crop = {"source_augmentation": "crop", "target_augmentation": "crop"}
    data = DataConfig(source="builtin:mnist5k", target="builtin:mnist5k", channels=1, **crop)
    training = TrainingConfig(steps=500, head_learning_rate=3e-3, backbone_learning_rate=3e-3)
    config = jt.ExperimentConfig(data=data, training=training, method=find_method("target_only")())
    run_experiment(config, tmp_path / "run", export=False)
    for seed in range(2):
        config = jt.ExperimentConfig(
            data=dataclasses.replace(data, target="builtin:optdigits?per_class=10"),
            training=TrainingConfig(seed=seed),
            cost=CostConfig(matrix="mkmmd"),
        )
        nearest = build_costs(config, workdir=tmp_path / "run").nearest(1)
        assert sum(found == [digit] for digit, found in nearest.items()) >= 9, seed


def count_relations(repository, *arguments):
    command = [sys.executable, "-m", "benchmarks.relations", *map(str, arguments)]
    result = subprocess.run(command, cwd=repository, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    return {line.split()[0]: (int(line.split()[-3]), int(line.split()[-1])) for line in result.stdout.splitlines()}


@pytest.mark.slow
def test_relations_are_counted_by_a_column_of_the_class_table(repository, tmp_path):
    make_image_folder(tmp_path / "source", ["oak", "elm", "cat"], 3)
    make_image_folder(tmp_path / "target", ["lynx", "ash", "fern"], 3)
    table = "class,kind,description\noak,tree,\nelm,tree,\ncat,animal,\nlynx,animal,{}\nash,tree,{}\nfern,herb,\n"
    for name in ("source", "target"):
        (tmp_path / name / "classes.csv").write_text(table.format("a cat", "a cat too"))
    flags = ["--source=folder:source", "--target=folder:target", f"--data_root={tmp_path}", "--image_size=16"]
    flags += ["--metrics=text,taxonomy", "--cost_taxonomy=columns:kind", "--cost_centring=none", "--kind=kind"]
    # The text takes the ash for a cat; there is no herb in the source.
    assert count_relations(repository, *flags) == {"text": (1, 2), "taxonomy": (2, 2)}
