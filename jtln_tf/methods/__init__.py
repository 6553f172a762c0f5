"""Training methods: one file or folder each. Nothing outside this room tests a method's name.

A method's file imports no TensorFlow until a step is traced, because the flags of the programs are made from the
options of all methods.
"""

from jtln_tf.config import InputError
from jtln_tf.methods.base import Method, Stage, Term
from jtln_tf.methods.bi_tuning.method import BiTuning
from jtln_tf.methods.bss import BSS
from jtln_tf.methods.co_tuning.method import CoTuning
from jtln_tf.methods.consecutive import Consecutive
from jtln_tf.methods.delta.method import Delta
from jtln_tf.methods.joint import Joint
from jtln_tf.methods.jtln.method import Jtln
from jtln_tf.methods.l2_sp import L2SP
from jtln_tf.methods.linear_probe import LinearProbe, LpFt
from jtln_tf.methods.lwf import LwF
from jtln_tf.methods.nearest_mean import NearestMean
from jtln_tf.methods.stochnorm import StochNorm
from jtln_tf.methods.target_only import TargetOnly

# In the order of tables: from the plainest to ours.
METHODS: dict[str, type[Method]] = {
    method.name: method
    for method in (
        *(NearestMean, LinearProbe, LpFt, TargetOnly, Consecutive),
        *(LwF, L2SP, Delta, BSS, StochNorm, CoTuning, BiTuning),
        *(Joint, Jtln),
    )
}
DEFAULT_METHOD = Jtln
# What a comparison runs if it is not told; without a neck, only what does not need one.
COMPARED_METHODS = (LinearProbe.name, TargetOnly.name, Consecutive.name, Joint.name, Jtln.name)
# Tables say how far the others are above these: what people try first, and what they do for transfer learning.
YARDSTICKS = (LinearProbe.name, Consecutive.name)


def find_method(name: str) -> type[Method]:
    """Returns the method of a name; raises `InputError`, which lists the names, if there is none."""
    if name not in METHODS:
        raise InputError(f"`method` must be one of {', '.join(METHODS)}. Received: {name!r}.")
    return METHODS[name]
