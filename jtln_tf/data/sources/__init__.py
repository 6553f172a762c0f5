"""Where labelled images come from: one file for each kind of domain, and one line for it in `config.KINDS`.

A lister takes a `DomainSpec`, the folder of relative paths (empty is the current one) and the cache folder. It returns
a `Listing` of the selected classes. It raises `MissingInputError` if the data is not there, and `InputError` if it does
not fit the specification.
"""

import importlib
from collections.abc import Callable

from jtln_tf.config import KINDS


def find_lister(kind: str) -> Callable:
    """Returns the lister of a kind of domain; its module, and what that needs, is imported now."""
    module, _, function = KINDS[kind].lister.partition(".")
    return getattr(importlib.import_module(f"{__name__}.{module}"), function)
