"""Options and specifications: frozen, validated, parsed once. Imports no TensorFlow."""

from jtln_tf.config.augmentation_spec import AUGMENTATIONS, AugmentationSpec, parse_augmentation
from jtln_tf.config.devices import DeviceConfig
from jtln_tf.config.domain_spec import (
    KINDS,
    MOST_IMAGES,
    SIDES,
    DomainSpec,
    domain_of_path,
    domain_options,
    parse_domain_spec,
)
from jtln_tf.config.errors import (
    InputError,
    MissingInputError,
    NonFiniteLossError,
    RunInterruptedError,
    RunStoppedError,
)
from jtln_tf.config.names import normalize_name
from jtln_tf.config.options import Section, option, options_of
from jtln_tf.config.sections import (
    AUTO_EARLY_STOPPING,
    BATCHNORM_POLICIES,
    CACHES,
    MOST_FACTOR,
    MOST_SEED,
    MOST_SIDE,
    MOST_STEPS,
    PIXEL_RANGES,
    DataConfig,
    NetworkConfig,
    TrainingConfig,
)
