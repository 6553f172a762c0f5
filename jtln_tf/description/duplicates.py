"""Images of a domain that stand in two places, or in another domain too."""

import collections
from typing import NamedTuple

from jtln_tf.data import Split, digest_files
from jtln_tf.description.divided_domain import DividedDomain

_PAIRS = (("train", "validation"), ("train", "test"), ("validation", "test"))
# The name of a split, and a row in it.
Place = tuple[str, int]


class Content(NamedTuple):
    """The images of a domain.

    Attributes:
        splits: The images, by name of the split.
        digests: A digest of the pixels of each image, None if it is bad, by name of the split.
    """

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
    """Describes the images that stand in two or more places of a domain.

    Args:
        domain: The domain.
        content: Its images.

    Returns:
        `duplicates`, the groups of equal images, and their numbers. Groups with different labels come first, then those
        in several splits.
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
                "same_file": _are_same_files([(content, place) for place in groups[one]]),
            }
            for one in order
        ],
    }


def describe_shared(domain: DividedDomain, content: Content, against: DividedDomain, other: Content) -> dict:
    """Describes the images of a domain that stand in another one too.

    Args:
        domain: The domain.
        content: Its images.
        against: The other domain.
        other: The images of the other domain.

    Returns:
        `num_images` of the first domain that are shared, their `counts` by split in both domains, and `shared`, the
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
                "same_file": _are_same_files(
                    [(content, place) for place in places] + [(other, place) for place in their_places]
                ),
            }
            for places, their_places in groups
        ],
    }


def _are_same_files(images):
    """Returns whether images, pairs of a `Content` and a place, are equal byte by byte; None if one has no file."""
    splits = [(content.splits[name], row) for content, (name, row) in images]
    if any(split.is_decoded for split, _ in splits):
        return None
    return len({digest_files(split, [row])[0] for split, row in splits}) == 1
