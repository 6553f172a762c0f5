"""How well two sets of classes agree, by their costs alone: how far the transport can be trusted, class by class."""

import dataclasses
import functools

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
    by_chance, spread = _agreement_by_chance(*costs.shape)
    excess = shares.sum(axis=0).mean() - by_chance
    return Agreement(shares, float(np.clip((excess / max(spread, 1e-6) - 0.5) / 2.0, 0.0, 1.0)))


@functools.lru_cache(maxsize=16)
def _agreement_by_chance(num_sources, num_targets):
    """Returns mean and standard deviation of the mean share of random costs."""
    generator = np.random.default_rng(0)
    draws = [_shares(generator.normal(size=(num_sources, num_targets))) for _ in range(_NUM_DRAWS)]
    means = [shares.sum(axis=0).mean() for shares in draws]
    return np.mean(means), np.std(means)


def _shares(costs):
    nearness = centre_both(-np.asarray(costs, np.float64))
    nearness *= _SHARPNESS / max(nearness.std(), 1e-12)
    return scipy.special.softmax(nearness, axis=1) * scipy.special.softmax(nearness, axis=0)
