"""StochNorm: fine-tuning whose BatchNormalization does not follow the few target images alone."""

import dataclasses
import random

from jtln_tf.config import InputError, option
from jtln_tf.methods.consecutive import Consecutive


@dataclasses.dataclass(frozen=True)
class StochNorm(Consecutive):
    """Trains like `Consecutive`; on the target, BatchNormalization mixes the statistics of batch and past.

    In each step, each channel of each trained BatchNormalization layer is normalized with the statistics of the batch
    with probability stochnorm_probability, else with the moving statistics, which begin the target stage as those of
    the source. The moving statistics follow the batches with the layer's own momentum. Formula and reference:
    `StochasticNormalization`.
    """

    name = "stochnorm"
    needs_trained_backbone = True
    title = "consecutive with StochNorm"

    stochnorm_probability: float = option(
        0.5,
        "stochnorm: probability that a channel is normalized with the statistics of the batch.",
        minimum=0.0,
        maximum=1.0,
        tuned=(0.1, 1.0),
    )

    def make_state(self, network, cost=None):
        """Changes the layers of the network, and returns the present probability; `InputError` if there are none."""
        import keras

        from jtln_tf.backbones import mix_statistics
        from jtln_tf.network import features_model

        state = keras.layers.Layer(name="stochastic_norm", trainable=False)
        state.share = state.add_weight(shape=(), initializer="ones", trainable=False, name="share")
        state.seed = state.add_weight(shape=(), initializer="zeros", trainable=False, dtype="int64", name="seed")
        # Drawn from the seed of the run.
        state.seed.assign(random.randrange(2**31))
        if not mix_statistics(features_model(network), state.share, state.seed):
            raise InputError(
                f"`method`={self.name} needs a backbone with BatchNormalization that is trained. Received: none. Hint: "
                "an earlier --freeze_until and --batchnorm=train, or another --backbone."
            )
        return state

    def begin_stage(self, stage, moment):
        """Mixes the statistics from the target stage on; the source stage takes those of the batch alone."""
        moment.state.share.assign(1.0 if "source" in stage.domains else self.stochnorm_probability)
