"""BatchNormalization in a network that sees images of two domains."""

import contextlib
import contextvars
import typing
from collections.abc import Iterator

import keras

from jtln_tf.backbones.cloning import clone_model
from jtln_tf.config import SIDES, InputError
from jtln_tf.files import first_line

if typing.TYPE_CHECKING:
    import tensorflow as tf

_domain = contextvars.ContextVar("domain", default="target")


@contextlib.contextmanager
def images_of(domain: "str | tf.Tensor") -> Iterator[None]:
    """Tells layers called inside of which domain the images are: `source` or `target`, the default.

    A bool tensor [B], whether each image is of the target, is for layers that take images of both domains at once.
    """
    token = _domain.set(domain)
    try:
        yield
    finally:
        _domain.reset(token)


def current_domain() -> "str | tf.Tensor":
    """Returns what `images_of` was told."""
    return _domain.get()


@keras.saving.register_keras_serializable(package="jtln_tf")
class DomainBatchNormalization(keras.layers.Layer):
    """BatchNormalization whose statistics, scale and offset are separate for each domain.

    `norm` is the configuration of a `keras.layers.BatchNormalization`.

    Reference:
        Chang et al., 2019, Domain-specific batch normalization for unsupervised domain adaptation, arXiv:1906.03950.
    """

    def __init__(self, norm: dict, **kwargs) -> None:
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

    def get_config(self):
        """Returns the arguments, for saving."""
        return {**super().get_config(), "norm": self.norm}


def set_batchnorm_policy(backbone: keras.Model, policy: str) -> keras.Model:
    """Sets what the BatchNormalization layers of a backbone do in training, and returns it or a clone of it.

    `train` normalizes a batch of both domains with its own statistics, `frozen` uses and keeps the moving statistics,
    scales and offsets. `per_domain` clones the backbone with separate ones for each domain, which begin with the same
    values; it is an `InputError` if that cannot be done.
    """
    norms = _flat_layers(backbone, keras.layers.BatchNormalization)
    if policy == "frozen":
        for layer in norms:
            layer.trainable = False
    if policy != "per_domain" or not norms:
        return backbone
    image = keras.Input(backbone.input.shape[1:], name=backbone.input.name)
    try:
        clone = clone_model(backbone, image, image, _domain_norm)
    except (NotImplementedError, TypeError) as error:
        raise InputError(
            "`batchnorm` must be train or frozen for a backbone with layers that do not return their configuration. "
            f"Received: 'per_domain' ({first_line(error, 120)})."
        ) from error
    replaced = {id(norm) for each in _flat_layers(clone, DomainBatchNormalization) for norm in each.norms.values()}
    hidden = [layer.path for layer in _flat_layers(clone, keras.layers.BatchNormalization) if id(layer) not in replaced]
    if hidden:
        raise InputError(
            "`batchnorm` must be train or frozen for a backbone with BatchNormalization inside other layers. "
            f"Received: 'per_domain' and {len(hidden)} of {len(norms)}, such as {hidden[0]}."
        )
    return clone


def has_domain_norms(model: keras.Model) -> bool:
    """Returns whether a model's outputs depend on the domain that `images_of` names."""
    return bool(_flat_layers(model, DomainBatchNormalization))


def _flat_layers(model, kind):
    """Returns the layers of a kind, also those inside models and other layers."""
    return [layer for layer in model._flatten_layers() if isinstance(layer, kind)]


def _domain_norm(layer):
    if not isinstance(layer, keras.layers.BatchNormalization):
        return None
    norm = DomainBatchNormalization({**layer.get_config(), "trainable": True}, name=layer.name)
    norm.build(layer.input.shape)
    for each in norm.norms.values():
        each.set_weights(layer.get_weights())
    return norm
