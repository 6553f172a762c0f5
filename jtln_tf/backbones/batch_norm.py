"""BatchNormalization in a network that sees images of two domains."""

import contextlib
import contextvars
from collections.abc import Iterator

import keras

from jtln_tf.backbones.cloning import clone_model, is_inner_model
from jtln_tf.config import SIDES, InputError

_domain = contextvars.ContextVar("domain", default="target")


@contextlib.contextmanager
def images_of(domain: str) -> Iterator[None]:
    """Tells the `DomainBatchNormalization` layers of models called inside which domain the images come from.

    Args:
        domain: `source` or `target`; outside of any such context it is `target`.
    """
    token = _domain.set(domain)
    try:
        yield
    finally:
        _domain.reset(token)


@keras.saving.register_keras_serializable(package="jtln_tf")
class DomainBatchNormalization(keras.layers.Layer):
    """BatchNormalization whose statistics, scale and offset are separate for each domain.

    Reference:
        Chang et al., 2019, Domain-specific batch normalization for unsupervised domain adaptation, arXiv:1906.03950.
    """

    def __init__(self, norm: dict, **kwargs) -> None:
        """Creates the layer.

        Args:
            norm: Configuration of a `keras.layers.BatchNormalization`.
            **kwargs: Passed on to `keras.layers.Layer`.
        """
        super().__init__(**kwargs)
        self.norm = norm
        self.norms = {domain: keras.layers.BatchNormalization.from_config({**norm, "name": domain}) for domain in SIDES}

    def build(self, input_shape):
        """Creates the variables."""
        for norm in self.norms.values():
            norm.build(input_shape)

    def call(self, inputs, training=None, mask=None):
        """Normalizes [B, ..., C] with the statistics of the domain that `images_of` names."""
        return self.norms[_domain.get()](inputs, training=training, mask=mask)

    def compute_output_shape(self, input_shape):
        """Returns the shape of the inputs."""
        return input_shape

    def get_config(self):
        """Returns the arguments, for saving."""
        return {**super().get_config(), "norm": self.norm}


def set_batchnorm_policy(backbone: keras.Model, policy: str) -> keras.Model:
    """Sets what the BatchNormalization layers of a backbone do in training.

    Args:
        backbone: Functional `keras.Model` named `backbone`, with one image input.
        policy: `train`: normalize a batch of both domains with its own statistics. `frozen`: use and keep the moving
            statistics, scales and offsets. `per_domain`: keep separate ones for each domain, with the same first
            values.

    Returns:
        The backbone, or for `per_domain` a clone of it.

    Raises:
        InputError: If the layers cannot be separate for each domain.
    """
    norms = _flat_layers(backbone, keras.layers.BatchNormalization)
    if policy == "frozen":
        for layer in norms:
            layer.trainable = False
    if policy != "per_domain" or not norms:
        return backbone
    hidden = {id(layer) for layer in norms} - {id(layer) for layer in _replaceable_norms(backbone)}
    if hidden:
        path = next(layer.path for layer in norms if id(layer) in hidden)
        raise InputError(
            "`batchnorm` must be train or frozen for a backbone with BatchNormalization inside other layers. "
            f"Received: 'per_domain' and {len(hidden)} of {len(norms)}, such as {path}."
        )
    image = keras.Input(backbone.input.shape[1:], name=backbone.input.name)
    try:
        clone = clone_model(backbone, image, image, replace=_domain_norm)
    except (NotImplementedError, TypeError) as error:
        raise InputError(
            "`batchnorm` must be train or frozen for a backbone with layers that do not return their configuration. "
            f"Received: 'per_domain' ({' '.join(str(error).split())[:120]})."
        ) from error
    return keras.Model(clone.input, clone.output, name=backbone.name)


def has_domain_norms(model: keras.Model) -> bool:
    """Returns whether a model's outputs depend on the domain that `images_of` names."""
    return bool(_flat_layers(model, DomainBatchNormalization))


def _flat_layers(model, kind):
    """Returns the layers of a kind, also those inside models and other layers."""
    return [layer for layer in model._flatten_layers() if isinstance(layer, kind)]


def _replaceable_norms(model):
    """Yields the layers that `clone_model` reaches."""
    for layer in model.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            yield layer
        elif is_inner_model(layer):
            yield from _replaceable_norms(layer)


def _domain_norm(layer):
    if not isinstance(layer, keras.layers.BatchNormalization):
        return None
    norm = DomainBatchNormalization({**layer.get_config(), "trainable": True}, name=layer.name)
    norm.build(layer.input.shape)
    for each in norm.norms.values():
        each.set_weights(layer.get_weights())
    return norm
