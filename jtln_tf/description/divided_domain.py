"""A domain as a run uses it, before any image is read."""

from typing import NamedTuple

from jtln_tf.config import DomainSpec, parse_domain_spec
from jtln_tf.data import Examples, Listing, divide_listing, list_domain


class DividedDomain(NamedTuple):
    """Images of a domain by split, with what is known of them.

    Attributes:
        spec: The parsed specification.
        listing: All images of the domain.
        splits: The images in use, as `train`, `validation` and `test`.
    """

    spec: DomainSpec
    listing: Listing
    splits: dict[str, Examples]

    @property
    def num_images(self) -> int:
        """Number of images in all splits."""
        return sum(map(len, self.splits.values()))


def divide_domain(spec: str | DomainSpec, *, data_root: str = "", cache_dir: str = "", seed: int = 0) -> DividedDomain:
    """Lists a domain and divides it as a run does; takes the arguments of `load_domain`.

    Raises:
        MissingInputError: If a folder does not exist.
        InputError: If the specification does not fit the data.
    """
    spec = parse_domain_spec(spec)
    listing = list_domain(spec, data_root=data_root, cache_dir=cache_dir)
    return DividedDomain(spec, listing, divide_listing(listing, spec, seed))
