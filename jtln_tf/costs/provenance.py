"""The images and the backbone that a cost matrix was built from."""

import typing

from jtln_tf.config import InputError
from jtln_tf.costs.matrix import CostMatrix

if typing.TYPE_CHECKING:
    from jtln_tf.data.domain import Domain

_HINT = "Hint: build it again, or save it as .csv, which is not checked."


def describe_domain(domain: "Domain") -> dict:
    """Returns what identifies the training images of a domain, as JSON values."""
    return {"domain": domain.name, "fingerprint": domain.fingerprint, "images": len(domain.train)}


def check_provenance(matrix: CostMatrix, source: "Domain", target: "Domain", backbone: str) -> None:
    """Raises `InputError` if a matrix from a file was built from other images or another backbone than those of a run.

    A matrix without provenance, from a `.csv` or another program, passes: its author knows.
    """
    for side, domain in (("source", source), ("target", target)):
        built, present = matrix.data.get(side), describe_domain(domain)
        if built and built.get("fingerprint") != present["fingerprint"]:
            raise InputError(
                f"`cost_matrix` must be built from the {side} training images of this run: {present['images']} images "
                f"of {present['domain']!r} ({present['fingerprint']}). Received: {built.get('images')} images of "
                f"{built.get('domain')!r} ({built.get('fingerprint')}). {_HINT}"
            )
    if matrix.backbone and backbone and matrix.backbone != backbone:
        raise InputError(
            f"`cost_matrix` must be built by the backbone of this run, {backbone!r}. Received: one by "
            f"{matrix.backbone!r}. {_HINT}"
        )
