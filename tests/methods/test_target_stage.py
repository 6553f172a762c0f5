"""What all methods with a penalty in the target stage have in common."""

import keras
import numpy as np
import pytest
import tensorflow as tf

import jtln_tf as jt
from jtln_tf.config import InputError, NetworkConfig
from jtln_tf.experiment.config import ExperimentConfig
from jtln_tf.methods import METHODS
from jtln_tf.trainer.checkpoints import Checkpoints, TrainingState
from tests.methods.conftest import make_moment, make_network, make_setup

# Those that hold something besides the weights: a state, or a teacher.
NAMES = ["lwf", "l2_sp", "delta", "stochnorm", "co_tuning", "bi_tuning"]


def make_model(name, seed):
    model = jt.JointModel(make_network(seed), method=METHODS[name]())
    model.compile(keras.optimizers.SGD(0.05, momentum=0.9))
    return model


def make_pairs(method):
    images, labels = (tensor[:12] for tensor in next(iter(make_setup().inputs["target"].train.batches(18))))
    views = (255 - images,) if method.uses_second_view else ()
    return tf.data.Dataset.from_tensors({"target": (images, labels, *views)}).repeat()


@pytest.mark.parametrize("name", NAMES)
def test_a_resumed_stage_goes_on_as_if_it_had_not_stopped(name, tmp_path):
    model = make_model(name, seed=0)
    pairs, stage = make_pairs(model.method), model.method.stages(8)[1]
    model.begin_stage(stage, make_setup())
    model.fit(pairs, steps_per_epoch=2, verbose=0)
    Checkpoints(tmp_path, model, TrainingState(step=2), model.network).save_last()
    other = make_model(name, seed=1)
    other.stage = stage
    Checkpoints(tmp_path, other, TrainingState(step=2), other.network).restore_last()
    expected, found = (each.fit(pairs, steps_per_epoch=3, verbose=0).history for each in (model, other))
    assert expected == found and all(np.isfinite(value[0]) for value in expected.values())
    states = [each.method_state.variables if each.method_state else [] for each in (model, other)]
    for ours, theirs in zip(model.variables + states[0], other.variables + states[1], strict=True):
        np.testing.assert_array_equal(ours, theirs, err_msg=ours.path)


@pytest.mark.parametrize("name", [*NAMES, "bss"])
def test_what_makes_no_sense_for_a_frozen_trunk_is_refused(name):
    network = make_network()
    for layer in network.get_layer("backbone").layers:
        layer.trainable = False
    with pytest.raises(InputError, match=f"`method`={name} needs a .* trained.*Received: .* Hint: an earlier --freeze"):
        METHODS[name]().make_state(network)


@pytest.mark.parametrize("name", ["delta", "stochnorm"])
def test_a_comparison_on_a_frozen_backbone_is_refused_before_its_first_run(name):
    network = NetworkConfig(backbone="ResNet50", weights="imagenet", neck="whitened", start="strong")
    config = ExperimentConfig(network=network, method=METHODS[name]())
    with pytest.raises(InputError, match=f"`method`={name} needs a backbone layer that is trained. .*'all'"):
        config.resolve()
    assert config.resolve(has_gpu=True).network.freeze_until == ""


@pytest.mark.parametrize("name", ["delta", "co_tuning"])
def test_a_stage_that_looks_at_images_needs_them(name):
    method, network = METHODS[name](), make_network()
    with pytest.raises(InputError, match=f"`begin_stage` needs a `setup` for method={name}"):
        method.begin_stage(method.stages(4)[1], make_moment(network, method.make_state(network)))
