"""A program that trains one run of each method on the devices at hand, for `test_several_replicas.py`.

    python -m tests.experiment.several_methods FOLDER LOGICAL_CPUS METHOD ...

Starting TensorFlow takes longer than all runs, so all of them share a process.
"""

import logging
import pathlib
import sys

from jtln_tf.config import DataConfig, DeviceConfig, NetworkConfig, TrainingConfig
from jtln_tf.costs.config import CostConfig
from jtln_tf.experiment.config import ExperimentConfig
from jtln_tf.experiment.run import run_experiment
from jtln_tf.methods import find_method

# All that a method can ask of several replicas: costs found online, both heads moved. At the default threshold an image
# may stop anywhere within it, by the rounding of its logits.
_OPTIONS = {
    "jtln": {
        "transport_gate": "none",
        "transport_gradient": "both",
        "transport_images": "both",
        "sinkhorn_threshold": 1e-6,
    }
}


def make_config(method: str) -> ExperimentConfig:
    """Returns a configuration that draws for the whole batch: order, augmentation, mixup, dropout.

    XLA compiles the solver for each device and each number of images, so those of both domains are equal if it is used.
    """
    return ExperimentConfig(
        data=DataConfig(
            source="builtin:optdigits?classes=0,1,2,3,4&per_class=8",
            target="builtin:optdigits?classes=5,6,7,8,9&per_class=4&validation_fraction=0.3",
            channels=1,
            source_batch=8 if method in _OPTIONS else 16,
            target_batch=8,
            source_augmentation="crop,rotate,mixup:0.4",
            target_augmentation="randaugment",
        ),
        network=NetworkConfig(backbone="small_cnn", head_dropout=0.3),
        training=TrainingConfig(steps=8, steps_per_epoch=4, log_steps=2, clip_norm=0.5),
        cost=CostConfig(matrix="online", refresh_steps=2),
        method=find_method(method)(**_OPTIONS.get(method, {})),
    )


def main(folder: str, logical_cpus: str, *methods: str) -> None:
    """Trains a run in a subfolder for each method."""
    logging.basicConfig(level=logging.INFO)
    devices = DeviceConfig(logical_cpus=int(logical_cpus))
    for method in methods:
        run_experiment(make_config(method), pathlib.Path(folder) / method, export=False, devices=devices)


if __name__ == "__main__":
    main(*sys.argv[1:])
