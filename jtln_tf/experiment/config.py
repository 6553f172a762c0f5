"""The configuration of one experiment: what is trained, on which data, how. Imports no TensorFlow."""

import dataclasses
import json

from jtln_tf.config.augmentation_spec import AUGMENTATIONS, parse_augmentation
from jtln_tf.config.cost_spec import COST_METRICS, ONLINE, PIXEL_METRICS, parse_cost_spec
from jtln_tf.config.domain_spec import parse_domain_spec
from jtln_tf.config.errors import InputError
from jtln_tf.config.options import option, section_from_dict, validate_options

BATCHNORM_POLICIES = ("train", "frozen", "per_domain")
METHODS = ("jtln", "joint", "consecutive", "target_only")


@dataclasses.dataclass(frozen=True)
class DataConfig:
    """The two domains and how their images reach the network."""

    source: str = option(
        "",
        "Source domain: builtin:, folder:, list:, records: or tfds:NAME, with ?classes=&per_class=&exclude=.",
    )
    target: str = option("", "Target domain, written like --source.")
    data_root: str = option("", "Folder that relative paths of domains, and tfds: data, are looked up in.")
    labels_per_class: int = option(0, "Training images drawn from each target class; 0 takes all.", minimum=0)
    image_size: int = option(
        0, "Side of the square input image in pixels; 0: 28 for builtin, 227 for alexnet, else 224.", minimum=0
    )
    channels: int = option(3, "Colour channels of the input: 1 gray, 3 RGB.", minimum=1, maximum=3)
    source_batch: int = option(64, "Source images in a training step.", minimum=1)
    target_batch: int = option(32, "Target images in a training step.", minimum=1)
    source_augmentation: tuple[str, ...] = option(
        ("crop", "flip"),
        f"What is done to source training images: some of {', '.join(AUGMENTATIONS)}, comma separated, with numbers as "
        "in randaugment:2:0.3,mixup:0.2; or none. No flip for digits and letters.",
    )
    target_augmentation: tuple[str, ...] = option(
        ("crop", "flip"), "What is done to target training images, written like --source_augmentation."
    )
    cache: str = option(
        "memory",
        "memory: decode every image once and keep it; disk: keep it in a file that other runs read too; none: decode "
        "in every step.",
        choices=("memory", "disk", "none"),
    )
    cache_dir: str = option("", "Folder of what is kept on the disk; empty: .jtln_cache in --data_root.")
    skip_bad_images: bool = option(False, "Leave out unreadable images (they are counted) instead of stopping.")

    def __post_init__(self):
        validate_options(self)
        if self.channels == 2:
            raise InputError("`channels` must be 1 or 3. Received: 2.")
        for text in filter(None, (self.source, self.target)):
            parse_domain_spec(text)
        if self.target:
            parse_domain_spec(self.target, per_class=self.labels_per_class or None)
        for name in ("source_augmentation", "target_augmentation"):
            parse_augmentation(getattr(self, name), name)


@dataclasses.dataclass(frozen=True)
class NetworkConfig:
    """The shared backbone and the two heads."""

    backbone: str = option(
        "small_cnn",
        "small_cnn, alexnet, the name of a keras.applications model, PATH.keras, or kerashub: with the name or the "
        "folder of a KerasHub preset.",
    )
    weights: str = option(
        "none",
        "Weights of a named backbone: none, imagenet, or the path of a .weights.h5 file (of alexnet: see "
        "tools.import_alexnet_weights). PATH.keras and kerashub: bring their own.",
    )
    pixel_range: str = option(
        "0_255", "Input range that a PATH.keras backbone was trained on.", choices=("0_255", "0_1", "-1_1")
    )
    freeze_until: str = option("", "Name of the last backbone layer that is not trained; empty trains all.")
    batchnorm: str = option(
        "train",
        "BatchNormalization of the backbone. train: by the statistics of a batch of both domains; frozen: by those it "
        "came with; per_domain: each domain has its own.",
        choices=BATCHNORM_POLICIES,
    )
    cache_features: bool = option(
        False, "Compute what the layers up to --freeze_until make of the images once, and train the rest on that."
    )
    cached_views: int = option(
        8, "Views of a training image that --cache_features keeps at most: itself, and augmented ones.", minimum=1
    )
    head_hidden_units: tuple[int, ...] = option(
        (), "Sizes of the hidden layers of each head, comma separated.", minimum=1
    )
    head_dropout: float = option(0.0, "Dropout rate on the features that enter each head.", minimum=0.0, maximum=0.95)

    def __post_init__(self):
        validate_options(self)
        if self.cache_features and not self.freeze_until:
            raise InputError(
                "`cache_features` needs `freeze_until`, the last layer that is not trained. Received: nothing."
            )


@dataclasses.dataclass(frozen=True)
class ObjectiveConfig:
    """The three terms of the loss."""

    source_weight: float = option(1.0, "Weight of the source classification loss.", minimum=0.0)
    transport_weight: float = option(1.0, "Weight of the optimal transport loss.", minimum=0.0)
    transport_images: str = option(
        "source", "Images on which the transport loss is taken.", choices=("source", "target", "both")
    )
    transport_gradient: str = option(
        "target", "Head whose prediction the transport loss moves.", choices=("source", "target", "both")
    )
    transport_source_marginal: str = option(
        "prediction",
        "Source side of the transport: the source head's prediction, or the smoothed label of source images.",
        choices=("prediction", "label"),
    )
    transport_label_smoothing: float = option(
        0.1, "Mass spread evenly over all classes by --transport_source_marginal=label.", minimum=0.0, maximum=1.0
    )
    transport_temperature: float = option(1.0, "Temperature of both softmaxes inside the transport loss.", above=0.0)
    transport_start_step: int = option(0, "Step at which the transport loss sets in.", minimum=0)
    transport_ramp_steps: int = option(0, "Steps over which its weight then grows linearly.", minimum=0)
    epsilon: float = option(
        0.05, "Entropic regularization, in units of the cost matrix: mkmmd and uniform span 0 to 1.", above=0.0
    )
    sinkhorn_threshold: float = option(1e-3, "L1 error of the marginals at which Sinkhorn stops.", above=0.0)
    sinkhorn_max_iterations: int = option(1000, "Most Sinkhorn iterations in a step.", minimum=1)

    def __post_init__(self):
        validate_options(self)
        if self.transport_source_marginal == "label" and self.transport_images != "source":
            raise InputError(
                "`transport_source_marginal`=label needs `transport_images`=source: only those have one. "
                f"Received: transport_images={self.transport_images!r}."
            )
        if self.transport_source_marginal == "label" and self.transport_gradient != "target":
            raise InputError(
                "`transport_source_marginal`=label needs `transport_gradient`=target: a label cannot be moved. "
                f"Received: transport_gradient={self.transport_gradient!r}."
            )


@dataclasses.dataclass(frozen=True)
class CostConfig:
    """Where the class cost matrix comes from."""

    cost_matrix: str = option(
        "mkmmd",
        f"Path of a .npz or .csv cost matrix, or a metric: {', '.join(COST_METRICS)}; online finds it while training; "
        "0.7*mkmmd+0.3*text combines, shuffled:mkmmd is a control.",
    )
    cost_refresh_steps: int = option(
        0,
        "Estimate the matrix anew this often while training, by the source head's predictions; 0: once, before, by the "
        "backbone.",
        minimum=0,
    )
    cost_images_per_class: int = option(
        50, "Most images of a class that a metric looks at; fewer are filled up with augmented views.", minimum=1
    )
    cost_layer: str = option("", "Backbone layer whose output the metrics compare; empty: its last.")
    cost_estimator: str = option(
        "auto",
        "mkmmd over all pairs of images, or in linear time by random features; auto: by the number of pairs.",
        choices=("auto", "exact", "linear"),
    )
    cost_whitening: bool = option(
        True, "Let mkmmd and wasserstein compare features in which all directions vary alike inside a class."
    )
    cost_centring: str = option(
        "double",
        "What is taken off a metric's values: row and column means, dual potentials, nothing.",
        choices=("double", "dual", "none"),
    )
    cost_scale: str = option(
        "max",
        "What the values, shifted to start at 0, are divided by.",
        choices=("max", "mean", "median", "std"),
    )
    cost_class_table: str = option(
        "", "CSV with the class in its first column, for text and taxonomy; empty: classes.csv of the folder: domains."
    )
    cost_text: str = option(
        "tfidf", "How text is encoded: tfidf, a word vector file (.txt, .vec), or sentence-transformers:NAME."
    )
    cost_taxonomy: str = option(
        "",
        "Tree of the classes: columns:NEAR,FAR of the class table, wordnet:FOLDER, or a CSV of child,parent.",
    )
    cost_taxonomy_distance: str = option(
        "path", "Edges between two classes, or Wu-Palmer.", choices=("path", "wu_palmer")
    )

    def __post_init__(self):
        validate_options(self)
        spec = parse_cost_spec(self.cost_matrix)
        if self.cost_refresh_steps and not spec.looks_through_network:
            raise InputError(
                "`cost_refresh_steps` needs a `cost_matrix` that looks through the network. "
                f"Received: cost_matrix={self.cost_matrix!r}."
            )
        if ONLINE in spec.metrics and not self.cost_refresh_steps:
            raise InputError("`cost_matrix`=online needs `cost_refresh_steps` above 0. Received: 0.")
        if "taxonomy" in spec.metrics and not self.cost_taxonomy:
            raise InputError("`cost_matrix`=taxonomy needs `cost_taxonomy`. Received: nothing.")


@dataclasses.dataclass(frozen=True)
class TrainingConfig:
    """The method, its budget and the optimizer."""

    method: str = option("jtln", "jtln, or a baseline under the same number of steps.", choices=METHODS)
    steps: int = option(500, "Training steps (consecutive: half on the source, half on the target).", minimum=1)
    steps_per_epoch: int = option(100, "Steps between two validations and checkpoints.", minimum=1)
    optimizer: str = option("adamw", "Optimizer.", choices=("adamw", "sgd"))
    head_learning_rate: float = option(1e-3, "Peak learning rate of the two heads.", above=0.0)
    backbone_learning_rate: float = option(1e-3, "Peak learning rate of the backbone.", above=0.0)
    momentum: float = option(0.9, "Momentum of sgd.", minimum=0.0, maximum=0.9999)
    weight_decay: float = option(1e-4, "Decoupled weight decay.", minimum=0.0)
    schedule: str = option("cosine", "Learning rate over the steps.", choices=("constant", "cosine", "step"))
    step_boundaries: tuple[float, ...] = option(
        (0.5, 0.75), "Shares of the steps at which --schedule=step decays.", minimum=0.0, maximum=1.0
    )
    step_factor: float = option(0.1, "Factor of each decay of --schedule=step.", above=0.0, maximum=1.0)
    warmup_steps: int = option(0, "Steps over which the learning rate grows from 0 to its peak.", minimum=0)
    clip_norm: float = option(0.0, "Largest global norm of the gradient; 0 does not clip.", minimum=0.0)
    early_stopping_epochs: int = option(
        0,
        "Stop after this many epochs without a better target validation accuracy, keep the best; 0: never.",
        minimum=0,
    )
    log_steps: int = option(10, "Steps between two entries of metrics.jsonl and TensorBoard.", minimum=1)
    seed: int = option(0, "Seed of the label draw, the initial weights, the order and the augmentation.", minimum=0)

    def __post_init__(self):
        validate_options(self)
        if self.method == "consecutive" and self.steps < 2:
            raise InputError(f"`steps` must be at least 2 for method=consecutive. Received: {self.steps}.")


@dataclasses.dataclass(frozen=True)
class ExperimentConfig:
    """Everything that decides the result of a run. Written to `config.json`."""

    data: DataConfig = dataclasses.field(default_factory=DataConfig)
    network: NetworkConfig = dataclasses.field(default_factory=NetworkConfig)
    objective: ObjectiveConfig = dataclasses.field(default_factory=ObjectiveConfig)
    cost: CostConfig = dataclasses.field(default_factory=CostConfig)
    training: TrainingConfig = dataclasses.field(default_factory=TrainingConfig)

    def __post_init__(self):
        first = self.objective.transport_start_step or self.cost.cost_refresh_steps
        if self.training.method == "jtln" and self.cost.cost_matrix == ONLINE and first >= self.training.steps:
            raise InputError(
                "`cost_matrix`=online must find costs before the last step: after `transport_start_step`, or the first "
                f"`cost_refresh_steps` where that is 0. Received: {first} of {self.training.steps} steps."
            )
        is_refreshed = self.training.method == "jtln" and self.cost.cost_refresh_steps
        pixel_metrics = set(parse_cost_spec(self.cost.cost_matrix).metrics) & set(PIXEL_METRICS)
        if self.network.cache_features and is_refreshed and pixel_metrics:
            raise InputError(
                "`cost_matrix` must not look at pixels where `cache_features` is on and `cost_refresh_steps` above 0: "
                f"training sees none. Received: {self.cost.cost_matrix!r}."
            )
        for name in ("source_augmentation", "target_augmentation"):
            policy = getattr(self.data, name)
            if self.network.cache_features and parse_augmentation(policy).mixup:
                raise InputError(
                    f"`{name}` must be without mixup where `cache_features` is on: to mix activations is another "
                    f"method. Received: {','.join(policy)!r}."
                )

    def to_json(self):
        """Returns the configuration as indented JSON text."""
        # NumPy's whole numbers are valid values, which JSON does not know.
        return json.dumps(dataclasses.asdict(self), indent=2, default=lambda number: number.item()) + "\n"

    @classmethod
    def from_json(cls, text):
        """Reads what `to_json` wrote.

        Raises:
            InputError: If the text is no JSON, has unknown options, or a value does not fit.
        """
        try:
            values = json.loads(text)
        except ValueError as error:
            raise InputError(f"A configuration must be JSON. Received: {error}.") from error
        sections = {field.name: field.type for field in dataclasses.fields(cls)}
        if not isinstance(values, dict) or set(values) != set(sections):
            received = sorted(values) if isinstance(values, dict) else values
            raise InputError(f"A configuration must hold {', '.join(sections)}. Received: {received!r}.")
        return cls(**{name: section_from_dict(kind, values[name]) for name, kind in sections.items()})

    def require_domains(self):
        """Raises `InputError` unless both domains are named."""
        for name in ("source", "target"):
            if not getattr(self.data, name):
                raise InputError(f"`{name}` must name a domain, for example builtin:mnist5k. Received: nothing.")


def describe_differences(ours, theirs):
    """Lists the options in which two configurations differ, as `name: ours -> theirs` texts."""
    differences = []
    for section in dataclasses.fields(ExperimentConfig):
        left, right = getattr(ours, section.name), getattr(theirs, section.name)
        for field in dataclasses.fields(left):
            before, after = getattr(left, field.name), getattr(right, field.name)
            if before != after:
                differences.append(f"{field.name}: {before!r} -> {after!r}")
    return differences
