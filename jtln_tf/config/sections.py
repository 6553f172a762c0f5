"""The sections of a configuration that every method shares: data, network, training."""

import dataclasses

from jtln_tf.config.augmentation_spec import AUGMENTATIONS, AugmentationSpec, parse_augmentation
from jtln_tf.config.domain_spec import KINDS, MOST_IMAGES, DomainSpec, parse_domain_spec
from jtln_tf.config.errors import InputError
from jtln_tf.config.options import Section, option

BATCHNORM_POLICIES = ("train", "frozen", "per_domain")
PIXEL_RANGES = ("0_255", "0_1", "-1_1")
NECKS = ("none", "identity", "whitened")
CACHES = ("memory", "disk", "none")
PRECISIONS = ("float32", "mixed_bfloat16", "mixed_float16")
# The value of `early_stopping_epochs` that leaves the choice to the validation accuracies.
AUTO_EARLY_STOPPING = -1
FEATURE_CACHES = ("auto", "memory", "disk", "none")
# Far above what anybody means, so that a slip of the hand is told in one line and not by the memory or a library.
MOST_SEED, MOST_SIDE, MOST_STEPS = 2**32 - 1, 4096, 10**9
# Of weights, learning rates and the like.
MOST_FACTOR = 1e9
_MOST_BATCH, _WIDEST_LAYER, _MOST_LAYERS = 2**16, 2**16, 20


def _parse_domain(text, name):
    return parse_domain_spec(text) if text else None


@dataclasses.dataclass(frozen=True)
class DataConfig(Section):
    """The two domains and how their images reach the network."""

    source: DomainSpec | None = option(
        "",
        f"Source domain: one of {', '.join(KINDS)}, a colon and a name or path, with ?classes=&per_class=&exclude=.",
        parse=_parse_domain,
    )
    target: DomainSpec | None = option("", "Target domain, written like --source.", parse=_parse_domain)
    data_root: str = option("", "Folder that relative paths of domains, and tfds: data, are looked up in.")
    labels_per_class: int = option(
        0, "Training images drawn from each target class; 0 takes all.", minimum=0, maximum=MOST_IMAGES
    )
    image_size: int = option(
        0,
        "Side of the square input image in pixels; 0: the backbone's own, else 28 for builtin, or 224.",
        minimum=0,
        maximum=MOST_SIDE,
    )
    channels: int = option(3, "Colour channels of the input: 1 gray, 3 RGB.", minimum=1, maximum=3)
    source_batch: int = option(64, "Source images in a training step.", minimum=1, maximum=_MOST_BATCH)
    target_batch: int = option(32, "Target images in a training step.", minimum=1, maximum=_MOST_BATCH)
    source_augmentation: AugmentationSpec = option(
        "crop,flip",
        f"Augmentation of source training images: some of {', '.join(AUGMENTATIONS)}, comma separated, with numbers as "
        "in randaugment:2:0.3,mixup:0.2; or none. No flip for digits and letters.",
        parse=parse_augmentation,
    )
    target_augmentation: AugmentationSpec = option(
        "crop,flip",
        "Augmentation of target training images, written like --source_augmentation.",
        parse=parse_augmentation,
    )
    cache: str = option(
        "memory",
        "memory: decode every image once and keep it; disk: keep it in a file that later runs read too; none: decode "
        "in every step.",
        choices=CACHES,
    )
    cache_dir: str = option("", "Folder of what is kept on the disk; empty: .jtln_cache in --data_root.")
    skip_bad_images: bool = option(False, "Leave out unreadable images (they are counted) instead of stopping.")

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.channels == 2:
            raise InputError("`channels` must be 1 or 3. Received: 2.")
        if self.target:
            self.target.with_labels(self.labels_per_class)

    @property
    def augmentation(self) -> dict[str, AugmentationSpec]:
        """Augmentation policy by side."""
        return {"source": self.source_augmentation, "target": self.target_augmentation}


@dataclasses.dataclass(frozen=True)
class NetworkConfig(Section):
    """The shared backbone and the two heads."""

    backbone: str = option(
        "auto",
        "auto: small_cnn for builtin: digits, else a network with ImageNet weights (efficientnet_lite0 if its package "
        "is installed, else EfficientNetV2B0). Or efficientnet_lite0, small_cnn, alexnet, the name of a "
        "keras.applications model, PATH.keras, or kerashub: with the name or the folder of a KerasHub preset.",
    )
    weights: str = option(
        "none",
        "Weights of a named backbone: none, imagenet, or the path of a .weights.h5 file (of alexnet: see "
        "jtln import-alexnet). PATH.keras and kerashub: bring their own.",
    )
    pixel_range: str = option("0_255", "Input range that a PATH.keras backbone was trained on.", choices=PIXEL_RANGES)
    start: str = option(
        "auto",
        "First weights of the heads. strong: the class means of the training images; random; auto: strong for a "
        "pretrained backbone, else random.",
        choices=("auto", "strong", "random"),
    )
    neck: str = option(
        "auto",
        "What brings the features of both domains together before the heads. whitened: one mean for each domain, and "
        "a map in which all directions vary alike inside a class; identity: the means alone; none; auto: "
        "whitened for a pretrained backbone, else none.",
        choices=("auto", *NECKS),
    )
    freeze_until: str = option(
        "auto",
        "Name of the last backbone layer that is not trained (jtln layers lists them); all: no layer is; empty: every "
        "layer is; auto: all for a pretrained backbone on a machine without a GPU, else empty.",
    )
    batchnorm: str = option(
        "train",
        "BatchNormalization of the backbone. train: by the statistics of a batch of both domains; frozen: by the "
        "statistics it came with; per_domain: each domain has its own.",
        choices=BATCHNORM_POLICIES,
    )
    precision: str = option(
        "float32",
        "Type of number that the layers compute in. mixed_bfloat16: half the memory and up to several times as fast on "
        "GPUs from Ampere on; mixed_float16: for older GPUs, with loss scaling. Weights, heads, losses and transport "
        "stay float32.",
        choices=PRECISIONS,
    )
    cache_features: str = option(
        "auto",
        "Where the output of the layers up to --freeze_until is kept, so that the rest trains on that. disk: in "
        "--cache_dir, where all runs find it; memory: computed once a run; none: computed in every step; auto: the "
        "first of these that has room.",
        choices=FEATURE_CACHES,
    )
    cached_views: int = option(
        1,
        "Most views of a training image that --cache_features keeps: itself, and augmented ones, of which each takes a "
        "pass through the frozen layers.",
        minimum=1,
        maximum=1_000,
    )
    cache_limit_gib: float = option(
        20.0,
        "Size of the outputs kept in --cache_dir, in GiB, above which auto keeps none there, and above which those are "
        "removed that were not used for longest.",
        minimum=0.0,
        maximum=MOST_FACTOR,
    )
    head_hidden_units: tuple[int, ...] = option(
        (), "Sizes of the hidden layers of each head, comma separated.", minimum=1, maximum=_WIDEST_LAYER
    )
    head_dropout: float = option(0.0, "Dropout rate on the features that enter each head.", minimum=0.0, maximum=0.95)

    @property
    def is_pretrained(self) -> bool:
        """Whether the backbone begins with weights that have learnt something."""
        return self.weights != "none" or self.backbone.endswith(".keras") or self.backbone.startswith("kerashub:")

    @property
    def has_neck(self) -> bool:
        """Whether there is a neck before the heads."""
        return self.neck in ("identity", "whitened")

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.start == "strong" and self.neck == "none":
            raise InputError("`start`=strong needs a `neck`, whitened or identity. Received: neck='none'.")
        if len(self.head_hidden_units) > _MOST_LAYERS:
            raise InputError(
                f"`head_hidden_units` must be at most {_MOST_LAYERS} sizes. Received: {len(self.head_hidden_units)}."
            )
        if self.has_neck and self.head_hidden_units:
            raise InputError(
                f"`head_hidden_units` must be empty with a `neck`. Received: {self.head_hidden_units}. "
                "Hint: --neck=none --start=random."
            )
        if self.precision != "float32" and (self.backbone.endswith(".keras") or self.backbone.startswith("kerashub:")):
            raise InputError(
                "`precision` must be float32 for a `backbone` that brings its own layers, which compute as they were "
                f"saved. Received: precision={self.precision!r}, backbone={self.backbone!r}."
            )
        if self.cache_features in ("memory", "disk") and not self.freeze_until:
            raise InputError(
                f"`cache_features`={self.cache_features} needs `freeze_until`, the last layer that is not trained. "
                "Received: nothing."
            )


@dataclasses.dataclass(frozen=True)
class TrainingConfig(Section):
    """The budget and the optimizer."""

    steps: int = option(
        0,
        "Training steps, over all stages of the method; 0: by the number of images, 50 to 500 for a frozen backbone "
        "with the strong start, else 500 to 5000.",
        minimum=0,
        maximum=MOST_STEPS,
    )
    steps_per_epoch: int = option(
        0,
        "Steps between two validations and checkpoints; 0: a fifth of the steps, from 25 to 100.",
        minimum=0,
        maximum=MOST_STEPS,
    )
    optimizer: str = option("adamw", "Optimizer.", choices=("adamw", "sgd"))
    head_learning_rate: float = option(
        1e-3, "Peak learning rate of the two heads.", above=0.0, maximum=MOST_FACTOR, tuned=(1e-4, 1e-2)
    )
    backbone_learning_rate: float = option(
        0.0,
        "Peak learning rate of the backbone and the neck; 0: 0.0001 for a pretrained backbone, else 0.001.",
        minimum=0.0,
        maximum=MOST_FACTOR,
        tuned=(1e-5, 3e-3),
    )
    momentum: float = option(0.9, "Momentum of sgd.", minimum=0.0, maximum=0.9999)
    weight_decay: float = option(1e-4, "Decoupled weight decay.", minimum=0.0, maximum=MOST_FACTOR)
    schedule: str = option("cosine", "Learning rate over the steps.", choices=("constant", "cosine", "step"))
    step_boundaries: tuple[float, ...] = option(
        (0.5, 0.75), "Shares of the steps at which --schedule=step decays.", minimum=0.0, maximum=1.0
    )
    step_factor: float = option(0.1, "Factor of each decay of --schedule=step.", above=0.0, maximum=1.0)
    warmup_steps: int = option(
        0, "Steps over which the learning rate grows from 0 to its peak.", minimum=0, maximum=MOST_STEPS
    )
    clip_norm: float = option(
        0.0, "Largest global norm of the gradient; 0 does not clip.", minimum=0.0, maximum=MOST_FACTOR
    )
    early_stopping_epochs: int = option(
        AUTO_EARLY_STOPPING,
        "Stop after this many epochs without a better target validation accuracy, keep the best; 0: never, keep the "
        "last; -1: keep the last unless, on at least 50 images, it is worse than the best by more than chance.",
        minimum=AUTO_EARLY_STOPPING,
        maximum=MOST_STEPS,
    )
    log_steps: int = option(
        10, "Steps between two entries of metrics.jsonl and TensorBoard.", minimum=1, maximum=MOST_STEPS
    )
    debug_nans: bool = option(
        False, "Check loss, gradients and weights in every step, and name the layer that breaks first; slow."
    )
    seed: int = option(
        0, "Seed of the label draw, the initial weights, the order and the augmentation.", minimum=0, maximum=MOST_SEED
    )
