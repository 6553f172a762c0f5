"""The type of number that layers compute in."""

import contextlib
from collections.abc import Iterator

import keras


@contextlib.contextmanager
def computing_in(precision: str) -> Iterator[None]:
    """Lets layers that are made inside compute in a mixed type, with float32 variables; float32 changes nothing."""
    before = keras.config.dtype_policy()
    if precision != "float32":
        keras.config.set_dtype_policy(precision)
    try:
        yield
    finally:
        keras.config.set_dtype_policy(before)


def scales_loss(model: keras.Model) -> bool:
    """Returns whether gradients of a model may underflow, so that its loss must be scaled: it computes in float16."""
    return any(layer.compute_dtype == "float16" for layer in model._flatten_layers())
