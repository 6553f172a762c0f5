"""What runs share changes no result. Oracle: the same run alone."""

import dataclasses
import gc

import keras
import numpy as np
import pytest
from PIL import Image

from jtln_tf.config import DataConfig, InputError, NetworkConfig, TrainingConfig
from jtln_tf.costs.config import CostConfig
from jtln_tf.data import decoded
from jtln_tf.experiment.config import ExperimentConfig
from jtln_tf.experiment.run import run_experiment
from jtln_tf.experiment.workshop import Workshop
from jtln_tf.methods import METHODS, find_method
from jtln_tf.network.neck import Neck


def configure(method, seed, folder):
    data = {"source": "builtin:mnist5k?per_class=4", "target": "builtin:optdigits", "channels": 1}
    is_probe = method in ("nearest_mean", "linear_probe", "lp_ft")
    network = {"neck": "whitened", "start": "strong"} if is_probe else {"head_dropout": 0.2}
    if method == "stochnorm":
        network |= {"backbone": save_norm_trunk(folder / "norm.keras"), "freeze_until": "", "neck": "none"}
    cost = {"matrix": "online", "refresh_steps": 3} if method == "jtln" else {"matrix": "uniform"}
    return ExperimentConfig(
        data=DataConfig(**data, labels_per_class=2 + seed, cache_dir=str(folder / "cache")),
        network=NetworkConfig(**{"backbone": "small_cnn", **network}),
        cost=CostConfig(**cost),
        training=TrainingConfig(steps=6, steps_per_epoch=4, seed=seed),
        method=find_method(method)(),
    )


def save_norm_trunk(path):
    """Saves a trunk with BatchNormalization, if it is not there, and returns its path."""
    if not path.exists():
        image = keras.Input((28, 28, 1))
        x = keras.layers.BatchNormalization()(keras.layers.Conv2D(4, 3, 4, activation="relu")(image))
        keras.Model(image, keras.layers.Flatten()(x)).save(path)
    return str(path)


def weights_of(folder):
    with np.load(folder / "checkpoints" / "last.npz") as arrays:
        return {name: arrays[name] for name in arrays.files if name not in ("state/seconds", "state/run")}


@pytest.mark.parametrize(
    "method", [name if name == "consecutive" else pytest.param(name, marks=pytest.mark.slow) for name in METHODS]
)
def test_a_run_that_shares_a_model_ends_as_one_alone(method, tmp_path):
    """Labels, weights, dropout, moments of the optimizers and the method's own state: all are the second run's own."""
    workshop = Workshop()
    for seed in (0, 1):
        run_experiment(configure(method, seed, tmp_path), tmp_path / f"{seed}", export=False, workshop=workshop)
    run_experiment(configure(method, 1, tmp_path), tmp_path / "alone", export=False)
    shared, alone = weights_of(tmp_path / "1"), weights_of(tmp_path / "alone")
    assert shared.keys() == alone.keys()
    for name, values in alone.items():
        np.testing.assert_array_equal(shared[name], values, err_msg=name)


@pytest.mark.slow
def test_a_run_behind_a_shared_trunk_ends_as_one_alone(tmp_path):
    """What TensorFlow has prepared is kept then, so neither its seed nor Keras's counts of names are set anew."""
    trunk, workshop = save_norm_trunk(tmp_path / "norm.keras"), Workshop()

    def run(seed, folder, **options):
        config = configure("jtln", seed, tmp_path)
        network = {"backbone": trunk, "freeze_until": "all", "head_dropout": 0.2, "neck": "whitened", "start": "random"}
        config = dataclasses.replace(config, network=NetworkConfig(**network))
        return run_experiment(config, tmp_path / folder, export=False, **options)

    for seed in (0, 1, 2):
        run(seed, f"{seed}", workshop=workshop)
    run(2, "alone")
    shared, alone = weights_of(tmp_path / "2"), weights_of(tmp_path / "alone")
    assert all((shared[name] == values).all() for name, values in alone.items()) and shared.keys() == alone.keys()


def test_images_are_decoded_once_for_all_runs_on_a_frozen_trunk(tmp_path, monkeypatch):
    generator = np.random.default_rng(0)
    for side, label, number in np.ndindex(2, 2, 12):
        path = tmp_path / ("source", "target")[side] / f"class{label}" / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(generator.integers(0, 256, (16, 16, 3), np.uint8)).save(path)
    counts = []
    decode_all = decoded.decode_all
    monkeypatch.setattr(decoded, "decode_all", lambda split, keep: counts.append(len(split)) or decode_all(split, keep))
    data = DataConfig(source="folder:source", target="folder:target", data_root=str(tmp_path), image_size=32)
    network = NetworkConfig(backbone="small_cnn", freeze_until="all", neck="identity", start="strong")
    config = ExperimentConfig(
        data=data, network=network, training=TrainingConfig(steps=2), method=find_method("joint")()
    )
    first = run_experiment(config, tmp_path / "first", export=False)
    assert sum(counts) == 48
    # Another process finds them too: what is known is on the disk.
    workshop = Workshop()
    second = run_experiment(config, tmp_path / "second", workshop=workshop)
    assert sum(counts) == 48 and first["target_accuracy"] == second["target_accuracy"]
    # Networks of earlier runs do not pile up behind the trunk that they share, nor do those of other kinds.
    monkeypatch.setattr("jtln_tf.experiment.workshop._MOST_MODELS", 2)
    for number, rate in enumerate((1e-3, 1e-3, 2e-3, 3e-3, 4e-3)):
        training = dataclasses.replace(config.training, head_learning_rate=rate)
        other = dataclasses.replace(config, training=training)
        run_experiment(other, tmp_path / f"again{number}", export=False, workshop=workshop)
    gc.collect()
    assert sum(counts) == 48 and sum(isinstance(each, Neck) for each in gc.get_objects()) <= 3
    (tmp_path / "list.csv").write_text("path,label\nsource/class0/0.png,a\nsource/class1/0.png,b\nsource/gone.png,a\n")
    lost = dataclasses.replace(config, data=dataclasses.replace(data, source="list:list.csv"))
    with pytest.raises(InputError, match="Every image must be readable. Received: 'source/gone.png"):
        run_experiment(lost, tmp_path / "lost")
    Image.new("RGB", (16, 16)).save(tmp_path / "target" / "class0" / "0.png")
    run_experiment(config, tmp_path / "third", export=False)
    assert sum(counts) > 48
