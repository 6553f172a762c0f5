import keras
import numpy as np
import pytest
import tensorflow as tf

from jtln_tf.config import DataConfig, DeviceConfig, InputError, NetworkConfig
from jtln_tf.distribution import Replicas, open_replicas, predict, replicas_of
from jtln_tf.experiment.config import ExperimentConfig
from jtln_tf.experiment.run import check_devices


@pytest.mark.parametrize("count", [1, 5, 8])
def test_images_are_looked_at_once_whatever_their_number(two_cpus, count):
    images = np.random.default_rng(0).normal(size=(count, 3)).astype(np.float32)
    with two_cpus.scope():
        model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2)])
    assert replicas_of(model).count == 2
    kernel, bias = model.get_weights()
    np.testing.assert_allclose(predict(model, images), images @ kernel + bias, rtol=1e-5, atol=1e-6)


def test_one_device_traces_a_model_once_for_batches_of_any_size():
    traced = []

    class Spy(keras.layers.Layer):
        def call(self, images):
            traced.append(images.dtype)
            return images[:, 0] / 2

    image = keras.Input((3,))
    model = keras.Model(image, {"half": Spy()(image)})
    traced.clear()
    for images in (np.arange(12, dtype=np.uint8).reshape(4, 3), np.full((2, 3), 9, np.uint8)):
        np.testing.assert_array_equal(predict(model, images)["half"], images[:, 0] / 2)
    assert traced == ["float32"]
    np.testing.assert_array_equal(predict(model, np.ones((1, 3), np.float32))["half"], [0.5])


def test_local_replicas_get_the_slices_of_each_batch_in_order(two_cpus):
    batches = tf.data.Dataset.range(16).batch(8, drop_remainder=True).map(lambda x: {"target": (x, -x)})
    distributed = iter(Replicas(two_cpus).distribute(batches))
    for first in (0, 8):
        parts = two_cpus.experimental_local_results(next(distributed)["target"][0])
        assert [part.numpy().tolist() for part in parts] == [list(range(at, at + 4)) for at in (first, first + 4)]


@pytest.mark.parametrize("config", ["[", "[]", '{"cluster": 3}'])
def test_a_tf_config_that_describes_no_workers_is_refused(monkeypatch, config):
    monkeypatch.setenv("TF_CONFIG", config)
    with pytest.raises(InputError, match="TF_CONFIG"):
        open_replicas.__wrapped__(DeviceConfig(strategy="multi_worker"))


def test_devices_that_are_not_there_are_refused():
    with pytest.raises(InputError, match="`strategy`=multi_worker needs TF_CONFIG, or a Slurm step"):
        open_replicas.__wrapped__(DeviceConfig(strategy="multi_worker"))
    with pytest.raises(InputError, match="`logical_cpus` must be the same for all runs of a process. Received: 5"):
        open_replicas.__wrapped__(DeviceConfig(logical_cpus=5))


def test_what_several_replicas_cannot_train_is_refused(two_cpus):
    replicas, data = Replicas(two_cpus), {"source": "builtin:mnist5k", "target": "builtin:optdigits"}
    with pytest.raises(InputError, match="`target_batch` must be divisible by the 2 replicas. Received: 7."):
        check_devices(ExperimentConfig(data=DataConfig(**data, target_batch=7)), DeviceConfig(), replicas)
    config = ExperimentConfig(data=DataConfig(**data), network=NetworkConfig(precision="mixed_float16"))
    with pytest.raises(InputError, match="`precision` must be float32 or mixed_bfloat16 with several replicas"):
        check_devices(config, DeviceConfig(), replicas)
    with pytest.raises(InputError, match="`jit` must be auto or off with several replicas"):
        check_devices(ExperimentConfig(data=DataConfig(**data)), DeviceConfig(jit="on"), replicas)


@pytest.mark.parametrize("steps", [(3,), (5, 4), (1, 2, 3)])
def test_a_profile_has_a_first_and_a_last_step(steps):
    with pytest.raises(InputError, match="`profile_steps` must be a first and a last step"):
        DeviceConfig(profile_steps=steps)
