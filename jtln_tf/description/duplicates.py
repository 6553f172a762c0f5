"""Images of a domain that stand in two places, or in another domain too."""

import collections
from typing import NamedTuple

from jtln_tf.data import DividedDomain, Split

_PAIRS = (("train", "validation"), ("train", "test"), ("validation", "test"))
# The name of a split, and a row in it.
Place = tuple[str, int]


class Content(NamedTuple):
    """The images of a domain by split, and a digest of the pixels of each, None if it is bad."""

    splits: dict[str, Split]
    digests: dict[str, list[bytes | None]]

    def places(self) -> dict[bytes, list[Place]]:
        """Returns the places of each image, by its digest."""
        places = {}
        for name, digests in self.digests.items():
            for row, digest in enumerate(digests):
                if digest is not None:
                    places.setdefault(digest, []).append((name, row))
        return places


def name_image(domain: DividedDomain, split: str, row: int) -> dict[str, str]:
    """Returns the name, the split and the class of an image."""
    examples = domain.splits[split]
    class_name = domain.listing.class_names[examples.labels[row]]
    return {"image": str(examples.names[row]), "split": split, "class": class_name}


def describe_duplicates(domain: DividedDomain, content: Content) -> dict:
    """Returns `duplicates`, the groups of equal images in two or more places of a domain, and their numbers.

    Groups with different labels come first, then those in several splits.
    """
    groups = [places for places in content.places().values() if len(places) > 1]
    counts = [collections.Counter(name for name, _ in places) for places in groups]
    labels = [{domain.splits[name].labels[row] for name, row in places} for places in groups]
    order = sorted(range(len(groups)), key=lambda one: (len(labels[one]) == 1, len(counts[one]) == 1))
    return {
        "repeated_images": {split: sum(max(0, count[split] - 1) for count in counts) for split in content.splits},
        "leaks": {
            f"{second}_in_{first}": sum(count[second] for count in counts if count[first]) for first, second in _PAIRS
        },
        "contradictions": sum(len(found) > 1 for found in labels),
        "duplicates": [
            {
                "images": [name_image(domain, *place) for place in groups[one]],
                "same_file": _are_same_files(content, groups[one]),
            }
            for one in order
        ],
    }


def describe_shared(domain: DividedDomain, content: Content, against: DividedDomain, other: Content) -> dict:
    """Describes the images of a domain that stand in another one too.

    Returns `num_images` of the first domain that are shared, their `counts` by split in both domains, and `shared`, the
    groups of equal images.
    """
    theirs = other.places()
    groups = [(places, theirs[digest]) for digest, places in content.places().items() if digest in theirs]
    counts = {name: dict.fromkeys(other.splits, 0) for name in content.splits}
    for places, their_places in groups:
        for name, _ in places:
            for their_name in {one for one, _ in their_places}:
                counts[name][their_name] += 1
    return {
        "domain": against.spec.text,
        "num_images": sum(len(places) for places, _ in groups),
        "counts": counts,
        "shared": [
            {
                "images": [name_image(domain, *place) for place in places],
                "against_images": [name_image(against, *place) for place in their_places],
                "same_file": _are_same_files(content, places, other, their_places),
            }
            for places, their_places in groups
        ],
    }


def _are_same_files(content, places, other=None, other_places=()):
    """Returns whether images in one or two domains are equal byte by byte; None if one has no file."""
    found = [(content.splits[name].images, row) for name, row in places]
    found += [(other.splits[name].images, row) for name, row in other_places]
    if any(images.is_decoded for images, _ in found):
        return None
    return len({images.digest([row])[0] for images, row in found}) == 1
