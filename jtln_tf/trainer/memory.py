"""Memory that TensorFlow would keep of a run until the process ends."""

import contextlib
from collections.abc import Iterator

from tensorflow.python.framework import ops

# How `tf.custom_gradient` calls what it registers.
_PREFIX = "CustomGradient-"


@contextlib.contextmanager
def gradients_released() -> Iterator[None]:
    """Releases, at the end of the block, the gradient functions that were registered inside.

    Every operation with a gradient of its own that stands in a graph (Keras's optimizers sum gradients by one) is
    registered for good, and holds its graph and all that the graph holds: 7 to 28 MB for each training step that is
    traced. No step that was traced inside the block may be differentiated once more after it.
    """
    before = _registered()
    try:
        yield
    finally:
        registry = ops.gradient_registry._registry
        for name in _registered() - before:
            del registry[name]


def _registered():
    return {name for name in ops.gradient_registry.list() if name.startswith(_PREFIX)}
