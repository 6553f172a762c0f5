"""A domain to the figures that describe it, its bad files, and its images that stand in two places."""

import collections
from typing import NamedTuple

import numpy as np

from jtln_tf.config import DomainSpec, parse_domain_spec
from jtln_tf.data import Examples, Listing, digest_pixels, divide_listing, list_domain, open_split
from jtln_tf.description.duplicates import Content, describe_duplicates, describe_shared, name_image
from jtln_tf.description.headers import Header, read_headers


class DividedDomain(NamedTuple):
    """A domain as a run uses it, before any image is read.

    Attributes:
        spec: `DomainSpec`.
        listing: `Listing`.
        splits: `Examples` by `train`, `validation` and `test`.
    """

    spec: DomainSpec
    listing: Listing
    splits: dict[str, Examples]

    @property
    def num_images(self):
        """Number of images in all splits."""
        return sum(map(len, self.splits.values()))


def divide_domain(spec, *, data_root="", cache_dir="", seed=0):
    """Lists a domain and divides it as a run does; the arguments are those of `load_domain`.

    Returns:
        `DividedDomain`.

    Raises:
        MissingInputError: If a folder does not exist.
        InputError: If the specification does not fit the data.
    """
    spec = parse_domain_spec(spec)
    listing = list_domain(spec, data_root=data_root, cache_dir=cache_dir)
    return DividedDomain(spec, listing, divide_listing(listing, spec, seed))


def describe_domain(domain, against=None, *, progress=None):
    """Describes a domain as a run would use it: every image is decoded once, and none is kept.

    Images are the same where their pixels are, at the size and in the channels that a run takes by default: another
    name, format or comment in the file makes no other image.

    Args:
        domain: `DividedDomain`.
        against: Another one, whose images are looked for in the first; or None.
        progress: Called with a title, the images done and all images, or None.

    Returns:
        A dict for JSON; docs/data.md says what its keys are.
    """
    both = [one for one in (domain, against) if one]
    # As a run on the two: one size, one number of channels.
    image_size = max(one.listing.image_size for one in both)
    channels = 1 if all(one.spec.kind == "builtin" for one in both) else 3
    content, headers = _open(domain, image_size, channels), []
    add = _count_up(progress, f"headers of {domain.spec.text}", domain.num_images)
    for name, examples in domain.splits.items():
        headers += _find_headers(examples, content.splits[name], add)
    bad = _look_through(domain, content, progress)
    description = {
        "domain": domain.spec.text,
        "num_images": domain.num_images,
        "num_classes": len(domain.listing.class_names),
        **_describe_classes(domain),
        **_describe_headers(headers),
        "bad_files": [
            {**name_image(domain, name, row), "reason": content.splits[name].find_reason(row)} for name, row in bad
        ],
        "compared_image_size": image_size,
        **describe_duplicates(domain, content),
    }
    if against:
        other = _open(against, image_size, channels)
        _look_through(against, other, progress)
        description["against"] = describe_shared(domain, content, against, other)
    return description


def _open(domain, image_size, channels):
    crop = domain.spec.crop_bottom
    splits = {
        name: open_split(domain.listing, examples, image_size, channels, crop_bottom=crop)
        for name, examples in domain.splits.items()
    }
    return Content(splits, {})


def _look_through(domain, content, progress):
    """Decodes every image, keeps the digests in `content`, and returns the bad ones as (name of the split, row)."""
    add = _count_up(progress, f"images of {domain.spec.text}", domain.num_images)
    bad = []
    for name, split in content.splits.items():
        content.digests[name], rows = digest_pixels(split, add)
        add(len(rows))
        bad += [(name, row) for row in rows]
    return bad


def _count_up(progress, title, total):
    done = 0

    def add(count):
        nonlocal done
        done += count
        if progress and count:
            progress(title, done, total)

    return add


def _find_headers(examples, split, add):
    if not split.is_decoded:
        return read_headers(split, add)
    height, width, channels = examples.images.shape[1:]
    add(len(examples))
    return [Header(width, height, "pixels", "L" if channels == 1 else "RGB")] * len(examples)


def _describe_classes(domain):
    names = domain.listing.class_names
    counts = {name: np.bincount(split.labels, minlength=len(names)) for name, split in domain.splits.items()}
    return {
        "imbalance": round(float(counts["train"].max() / counts["train"].min()), 2),
        "splits": {
            name: {
                "images": int(found.sum()),
                "classes": int((found > 0).sum()),
                "missing_classes": [names[label] for label in np.flatnonzero(found == 0)],
            }
            for name, found in counts.items()
        },
        "classes": [
            {"class": names[label], **{name: int(found[label]) for name, found in counts.items()}}
            for label in range(len(names))
        ],
    }


def _describe_headers(headers):
    known = [header for header in headers if header]
    # An image is resized by its shorter side.
    sizes = sorted(((one.width, one.height) for one in known), key=lambda size: (min(size), max(size)))
    middle = {"smallest": 0, "median": (len(sizes) - 1) // 2, "largest": -1}
    formats = collections.Counter(header.format if header else "unknown" for header in headers)
    return {
        "sizes": {name: list(sizes[position]) for name, position in middle.items()} if sizes else None,
        "formats": dict(formats.most_common()),
        "gray_images": sum(header.is_gray for header in known),
        "colour_images": sum(not header.is_gray for header in known),
    }
