"""Augmentation policies, written `crop,flip,randaugment:2:0.3,mixup:0.2`: their names, numbers and limits."""

import dataclasses
import math
from typing import NamedTuple

from jtln_tf.config.errors import InputError

NO_AUGMENTATION = "none"
MIXUP = "mixup"


class _Argument(NamedTuple):
    """A number of an operation: above 0 or at least `minimum`, at most `maximum`."""

    name: str
    default: float
    maximum: float
    minimum: float = 0
    above: bool = True
    is_whole: bool = False


# In the order in which messages list them.
_ARGUMENTS = {
    "crop": (),
    "flip": (),
    "rotate": (_Argument("DEGREES", 15.0, 180),),
    "zoom": (_Argument("SHARE", 0.2, 0.9),),
    "colour": (_Argument("STRENGTH", 0.3, 1), _Argument("HUE", 0.0, 0.5, above=False)),
    "erase": (_Argument("PROBABILITY", 0.5, 1),),
    "randaugment": (
        _Argument("OPERATIONS", 2, 10, minimum=1, above=False, is_whole=True),
        _Argument("MAGNITUDE", 0.3, 1),
    ),
    # The float32 gamma draws behind a smaller ALPHA underflow.
    MIXUP: (_Argument("ALPHA", 0.2, 10, minimum=0.05, above=False),),
}
AUGMENTATIONS = tuple(_ARGUMENTS)


@dataclasses.dataclass(frozen=True)
class AugmentationSpec:
    """A parsed augmentation policy.

    Attributes:
        text: The policy as text, `none` if it augments nothing.
        operations: `(name, numbers)` of the operations on single images, in this order.
        mixup: Alpha of the mixing of a batch's images at the end; 0 mixes none.
    """

    text: str = NO_AUGMENTATION
    operations: tuple[tuple[str, tuple[float, ...]], ...] = ()
    mixup: float = 0.0


def parse_augmentation(policy: str | tuple[str, ...] | AugmentationSpec, option: str = "policy") -> AugmentationSpec:
    """Parses a policy, `NAME[:NUMBER...],...`; numbers that are left out take their defaults.

    Args:
        policy: A text such as `crop,randaugment:2:0.3`, or a tuple of its parts; an empty one, or `none`, augments
            nothing. A parsed policy is returned unchanged.
        option: Name of the argument, for messages.

    Raises:
        InputError: If a name is unknown or stands twice, or a number does not fit.
    """
    if isinstance(policy, AugmentationSpec):
        return policy
    parts = tuple(filter(None, policy.split(","))) if isinstance(policy, str) else tuple(policy)
    found = {}
    for text in () if parts == (NO_AUGMENTATION,) else parts:
        name, *numbers = text.split(":")
        if name not in _ARGUMENTS:
            raise InputError(
                f"`{option}` must be {NO_AUGMENTATION}, or some of {', '.join(AUGMENTATIONS)}. Received: {text!r}."
            )
        if name in found:
            raise InputError(f"`{option}` must name each operation once. Received: {name!r} twice.")
        arguments = _ARGUMENTS[name]
        if len(numbers) > len(arguments):
            form = ":".join([name, *(argument.name for argument in arguments)])
            raise InputError(f"`{option}` must have no more numbers than {form}. Received: {text!r}.")
        given = [_parse_number(*pair, text, option) for pair in zip(arguments, numbers, strict=False)]
        found[name] = (*given, *(argument.default for argument in arguments[len(given) :]))
    (mixup,) = found.pop(MIXUP, (0.0,))
    return AugmentationSpec(",".join(parts) or NO_AUGMENTATION, tuple(found.items()), mixup)


def _parse_number(argument, number, text, option):
    try:
        value = int(number) if argument.is_whole else float(number)
    except ValueError:
        value = math.nan
    is_below = value <= argument.minimum if argument.above else value < argument.minimum
    if math.isnan(value) or is_below or value > argument.maximum:
        kind = "whole number" if argument.is_whole else "number"
        limits = f"{'above' if argument.above else 'of at least'} {argument.minimum} and at most {argument.maximum}"
        raise InputError(
            f"`{option}` must have a {kind} {limits} as {argument.name} of {text.partition(':')[0]}. "
            f"Received: {number!r} in {text!r}."
        )
    return value
