"""Images of a domain that stand in two places, or in another domain too."""

from typing import NamedTuple

from jtln_tf.data import Split, digest_files

_PAIRS = (("train", "validation"), ("train", "test"), ("validation", "test"))


class Content(NamedTuple):
    """The images of a domain.

    Attributes:
        splits: `Split` by name.
        digests: A digest of the pixels of each image, None where it is bad, by the name of the split.
    """

    splits: dict[str, Split]
    digests: dict[str, list[bytes | None]]

    def places(self):
        """Returns the places of each image, a list of (name of the split, row) by digest."""
        places = {}
        for name, digests in self.digests.items():
            for row, digest in enumerate(digests):
                if digest is not None:
                    places.setdefault(digest, []).append((name, row))
        return places


def name_image(domain, split, row):
    """Returns what an image of a `DividedDomain` is called: a dict of its name, split and class."""
    examples = domain.splits[split]
    class_name = domain.listing.class_names[examples.labels[row]]
    return {"image": str(examples.names[row]), "split": split, "class": class_name}


def describe_duplicates(domain, content):
    """Describes the images of a domain that stand in two or more places of it.

    Args:
        domain: `DividedDomain`.
        content: Its `Content`.

    Returns:
        Dict: `duplicates`, the groups of equal images, those with different labels first, then those in several
        splits; and their numbers.
    """
    groups = [places for places in content.places().values() if len(places) > 1]
    labels = [{domain.splits[name].labels[row] for name, row in places} for places in groups]
    spans = [{name for name, _ in places} for places in groups]
    order = sorted(range(len(groups)), key=lambda one: (len(labels[one]) == 1, len(spans[one]) == 1))
    return {
        "repeated_images": {
            split: sum(max(0, sum(name == split for name, _ in places) - 1) for places in groups)
            for split in content.splits
        },
        "leaks": {
            f"{second}_in_{first}": sum(
                sum(name == second for name, _ in places)
                for places, span in zip(groups, spans, strict=True)
                if first in span
            )
            for first, second in _PAIRS
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


def describe_shared(domain, content, against, other):
    """Describes the images of a domain that stand in another one too.

    Args:
        domain: `DividedDomain`.
        content: Its `Content`.
        against: The other `DividedDomain`.
        other: Its `Content`.

    Returns:
        Dict: `num_images` of the first domain, `counts` of them by their split and that of the other domain, and
        `shared`, the groups of equal images.
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
    """Returns whether images, pairs of a `Content` and a place, are equal byte by byte; None where one is no file."""
    splits = [(content.splits[name], row) for content, (name, row) in images]
    if any(split.is_decoded for split, _ in splits):
        return None
    return len({digest_files(split, [row])[0] for split, row in splits}) == 1
