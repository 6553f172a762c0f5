"""On what a run computes: options that change its speed, not its result."""

import dataclasses

from jtln_tf.config.errors import InputError
from jtln_tf.config.options import Section, option

STRATEGIES = ("auto", "one_device", "mirrored", "multi_worker")
_MOST_CPUS = 64


@dataclasses.dataclass(frozen=True)
class DeviceConfig(Section):
    """The devices that train, and what is measured on them. No part of `config.json`: a run may go on elsewhere."""

    strategy: str = option(
        "auto",
        "Devices that share each batch. one_device; mirrored: all GPUs of this machine; multi_worker: all processes "
        "that TF_CONFIG names, or Slurm; auto: multi_worker if several are named, else mirrored if there are several "
        "GPUs, else one_device.",
        choices=STRATEGIES,
    )
    logical_cpus: int = option(
        0,
        "Split the CPU into so many devices, to try --strategy=mirrored without GPUs; 0: one.",
        minimum=0,
        maximum=_MOST_CPUS,
    )
    jit: str = option(
        "auto",
        "Whether XLA compiles the training step. auto: no; the solver of the transport always is. on: tried where a "
        "GPU spends its time on starting kernels; on a CPU it slows depthwise convolutions down tenfold.",
        choices=("auto", "on", "off"),
    )
    profile_steps: tuple[int, ...] = option(
        (), "First and last step of which a profile is written for TensorBoard, such as 10,20.", minimum=1
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.profile_steps and (len(self.profile_steps) != 2 or self.profile_steps[0] > self.profile_steps[1]):
            raise InputError(
                f"`profile_steps` must be a first and a last step, such as 10,20. Received: {self.profile_steps}."
            )
