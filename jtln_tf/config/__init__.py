"""Configuration: frozen, validated, to and from JSON. Floor 0: imports no TensorFlow."""

from jtln_tf.config.augmentation_spec import AUGMENTATIONS, AugmentationSpec, parse_augmentation
from jtln_tf.config.cost_spec import COST_METRICS, ONLINE, CostSpec, parse_cost_spec
from jtln_tf.config.domain_spec import DomainSpec, domain_options, parse_domain_spec
from jtln_tf.config.errors import InputError, MissingInputError, NonFiniteLossError, RunStoppedError
from jtln_tf.config.experiment import (
    BATCHNORM_POLICIES,
    METHODS,
    CostConfig,
    DataConfig,
    ExperimentConfig,
    NetworkConfig,
    ObjectiveConfig,
    TrainingConfig,
    describe_differences,
)

__all__ = [
    "AUGMENTATIONS",
    "BATCHNORM_POLICIES",
    "COST_METRICS",
    "METHODS",
    "ONLINE",
    "AugmentationSpec",
    "CostConfig",
    "CostSpec",
    "DataConfig",
    "DomainSpec",
    "ExperimentConfig",
    "InputError",
    "MissingInputError",
    "NetworkConfig",
    "NonFiniteLossError",
    "ObjectiveConfig",
    "RunStoppedError",
    "TrainingConfig",
    "describe_differences",
    "domain_options",
    "parse_augmentation",
    "parse_cost_spec",
    "parse_domain_spec",
]
