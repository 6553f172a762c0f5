"""DELTA: fine-tuning whose feature maps stay near those of the start, above all where they matter."""

import dataclasses

from jtln_tf.config import MOST_FACTOR, InputError, option
from jtln_tf.methods.base import Term, require_setup
from jtln_tf.methods.consecutive import Consecutive

# As in the authors' program: the last convolution of each of the four stages of a residual network.
_MOST_LAYERS = 4


@dataclasses.dataclass(frozen=True)
class Delta(Consecutive):
    """Trains like `Consecutive`, with penalties on how far feature maps move in the target stage.

        CE(y, p_t(x))  +  delta_alpha * sum over layers and channels of a_c C / (2 H W) |F_c(x) - F0_c(x)|^2
                       +  delta_beta / 2 * |w_t|^2

    with F(x) [H, W, C] the output of a convolution for an image, F0(x) that of the network when the target stage
    begins, and w_t the weights of the target head. The layers are the last trained convolution of each size of the
    maps, at most four. The attention a sums to 1 over the channels of a layer: the softmax of how much the loss of a
    linear classifier of the target grows if the filter is zero.

    As in the authors' program, the growths are brought to mean 0 and standard deviation 1 and divided by
    delta_temperature. It takes the sum over a batch of 64 images with the weight 0.01, which is 0.64 for our mean. The
    paper fits the linear classifier by gradient descent; here it is the logistic regression of the linear probe.

    Reference:
        Li, Xiong, Wang, Rao, Liu, Huan, 2019, DELTA: deep learning transfer using feature map with attention for
        convolutional networks, arXiv:1901.09229, the regularizer of section 3.
    """

    name = "delta"
    needs_trained_backbone = True
    title = "consecutive with DELTA"
    reports = (*Consecutive.reports, "feature_map_loss", "target_head_loss")
    uses_teacher = True

    delta_alpha: float = option(
        0.64,
        "delta: weight of the distance of the feature maps to their start.",
        minimum=0.0,
        maximum=MOST_FACTOR,
        tuned=(1e-3, 10.0),
    )
    delta_beta: float = option(
        0.01, "delta: weight of the size of the target head.", minimum=0.0, maximum=MOST_FACTOR, tuned=(1e-4, 1.0)
    )
    delta_temperature: float = option(
        5.0, "delta: temperature of the attention, in standard deviations of the loss.", minimum=1e-6, maximum=1e6
    )
    delta_images: int = option(
        32, "delta: most target images on which the attention is measured.", minimum=1, maximum=10**6
    )

    def watched_layers(self, network):
        """Returns the names of the convolutions whose maps are held; `InputError` if none is trained."""
        from jtln_tf.methods.delta.filters import last_convolutions
        from jtln_tf.network import features_model

        names = last_convolutions(features_model(network))[-_MOST_LAYERS:]
        if not names:
            raise InputError(
                f"`method`={self.name} needs a convolution of the backbone that is trained: it holds feature maps. "
                "Received: none. Hint: an earlier --freeze_until, or another --backbone."
            )
        return names

    def make_state(self, network, cost=None):
        """Returns the attention of the channels of each layer, uniform until the target stage begins."""
        import keras

        from jtln_tf.network import features_model, layer_output

        state = keras.layers.Layer(name="attention", trainable=False)
        for name in self.watched_layers(network):
            channels = layer_output(features_model(network), name).shape[-1]
            uniform = keras.initializers.Constant(1 / channels)
            state.add_weight(shape=(channels,), initializer=uniform, trainable=False, dtype="float32", name=name)
        return state

    def begin_stage(self, stage, moment):
        """Measures the attention, if it is the target stage."""
        if "source" in stage.domains:
            return
        from jtln_tf.methods.delta.filters import measure_filters

        domain, names = require_setup(self, moment).inputs["target"], self.watched_layers(moment.network)
        for attention, growths in zip(
            moment.state.weights, measure_filters(moment.network, names, domain, self.delta_images), strict=True
        ):
            attention.assign(find_attention(growths, self.delta_temperature))

    def losses(self, labels, outputs, moment):
        """Returns the cross-entropy and, on the target, the two penalties."""
        terms = super().losses(labels, outputs, moment)
        if "target" in outputs:
            from jtln_tf.methods.terms import squared_size
            from jtln_tf.network import head_variables

            one, names = outputs["target"], self.watched_layers(moment.network)
            parts = [
                map_distance(one.layers[name], one.teacher.layers[name], attention)
                for name, attention in zip(names, moment.state.weights, strict=True)
            ]
            size = squared_size([variable.value for variable in head_variables(moment.network, "target")])
            terms["feature_map_loss"] = Term(sum(parts), self.delta_alpha)
            terms["target_head_loss"] = Term(size / 2, self.delta_beta)
        return terms


def map_distance(maps, first_maps, attention):
    """Returns the weighted distance [B] of feature maps [B, H, W, C] to others, with the attention [C] of channels."""
    import tensorflow as tf

    moved = tf.reduce_mean(tf.square(maps - tf.stop_gradient(first_maps)), axis=(1, 2))
    return maps.shape[-1] / 2 * tf.linalg.matvec(moved, tf.convert_to_tensor(attention))


def find_attention(growths, temperature: float):
    """Returns the attention [C] of channels from how much the loss grows without each of them, [C]."""
    import numpy as np

    growths = np.asarray(growths, np.float64)
    scores = (growths - growths.mean()) / max(growths.std(), 1e-12) / temperature
    weights = np.exp(scores - scores.max())
    return weights / weights.sum()
