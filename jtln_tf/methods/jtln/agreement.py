"""How well two sets of classes agree, by their costs alone: how far the transport can be trusted, class by class."""

import dataclasses

import numpy as np
import scipy.special

from jtln_tf.costs.numerics.support import centre_both

# Of the costs' standard deviation: the sharpness of both choices. At 2 a clear partner takes nearly all.
_SHARPNESS = 2.0
_NUM_DRAWS = 100


@dataclasses.dataclass(frozen=True, eq=False)
class Agreement:
    """How far source and target classes choose each other.

    Attributes:
        shares: How far source class i and target class j choose each other, in [0, 1], [n, m].
        strength: How much clearer the choices are than those of unrelated classes, in [0, 1].
    """

    shares: np.ndarray
    strength: float

    @property
    def source_weights(self) -> np.ndarray:
        """Weight of the transport for images of each source class [n], in [0, 1]."""
        return self.strength * np.minimum(self.shares.sum(axis=1), 1.0)

    def trusted(self, trust: float) -> "Agreement":
        """Returns the agreement by costs that are trusted only so far, in [0, 1]."""
        return dataclasses.replace(self, strength=trust * self.strength)


def find_agreement(costs: np.ndarray) -> Agreement:
    """Finds how far classes choose each other, from costs [n, m].

    Each class spreads its choice over the classes of the other side by a softmax of the centred costs; the share of a
    pair is the product of both choices. Their mean over the target classes is compared with that of random costs: up to
    half a standard deviation above its mean the strength is 0, from two and a half it is 1. With two classes on one
    side and fewer than about nine on the other it is 0, since any costs match them.
    """
    shares = _shares(costs)
    generator = np.random.default_rng(0)
    by_chance = [_shares(generator.normal(size=costs.shape)).sum(axis=0).mean() for _ in range(_NUM_DRAWS)]
    excess = shares.sum(axis=0).mean() - np.mean(by_chance)
    spread = max(np.std(by_chance), 1e-6)
    return Agreement(shares, float(np.clip((excess / spread - 0.5) / 2.0, 0.0, 1.0)))


def _shares(costs):
    nearness = centre_both(-np.asarray(costs, np.float64))
    nearness *= _SHARPNESS / max(nearness.std(), 1e-12)
    return scipy.special.softmax(nearness, axis=1) * scipy.special.softmax(nearness, axis=0)
