"""Figures that describe a domain, its bad files, and its images that stand in two places."""

import collections
from collections.abc import Callable

import numpy as np

from jtln_tf.data import DividedDomain, digest_pixels, open_split
from jtln_tf.description.duplicates import Content, describe_duplicates, describe_shared, name_image
from jtln_tf.description.headers import read_headers

# Called with a title, the number of images done, and the number of all images.
Progress = Callable[[str, int, int], object]


def describe_domain(
    domain: DividedDomain, against: DividedDomain | None = None, *, progress: Progress | None = None
) -> dict:
    """Describes a domain as a run would use it, as a dict for JSON; docs/data.md explains its keys.

    Decodes every image once, and keeps none. Two images are the same if their pixels are, at the size and in the
    channels that a run takes by default. The name, the format and the comments of a file make no difference. The images
    of the domain are looked for in `against`. `progress` is called after each chunk of images.
    """
    both = [one for one in (domain, against) if one]
    # Both are decoded to one size and number of channels, as in a run.
    image_size = max(one.listing.image_size for one in both)
    channels = max(one.listing.channels for one in both)
    content, headers = _open(domain, image_size, channels), []
    add = _count_up(progress, f"headers of {domain.spec.text}", domain.num_images)
    for examples in domain.splits.values():
        headers += read_headers(examples.images, add)
    bad = _decode(domain, content, progress)
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
        _decode(against, other, progress)
        description["against"] = describe_shared(domain, content, against, other)
    return description


def _open(domain, image_size, channels):
    crop, parts = domain.spec.crop_bottom, domain.splits.items()
    return Content({name: open_split(part, image_size, channels, crop_bottom=crop) for name, part in parts}, {})


def _decode(domain, content, progress):
    """Adds a digest of every image to `content`; returns the split and the row of each bad image."""
    add = _count_up(progress, f"images of {domain.spec.text}", domain.num_images)
    bad = []
    for name, split in content.splits.items():
        content.digests[name], rows = digest_pixels(split, add)
        # Bad images were not counted with those that were decoded.
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


def _describe_classes(domain):
    names = domain.listing.class_names
    counts = {name: np.bincount(split.labels, minlength=len(names)) for name, split in domain.splits.items()}
    return {
        # A class without training images has no ratio.
        "imbalance": round(float(counts["train"].max() / counts["train"].min()), 2) if counts["train"].all() else None,
        "splits": {
            name: {
                "images": int(found.sum()),
                "classes": int((found > 0).sum()),
                "missing_classes": [names[label] for label in np.flatnonzero(found == 0)],
            }
            for name, found in counts.items()
        },
        "classes": [
            {"class": class_name, **{name: int(found[label]) for name, found in counts.items()}}
            for label, class_name in enumerate(names)
        ],
    }


def _describe_headers(headers):
    known = [header for header in headers if header]
    # Ordered by the shorter side, to which an image is resized.
    sizes = sorted(((one.width, one.height) for one in known), key=lambda size: (min(size), max(size)))
    positions = {"smallest": 0, "median": (len(sizes) - 1) // 2, "largest": -1}
    formats = collections.Counter(header.format if header else "unknown" for header in headers)
    num_gray = sum(header.is_gray for header in known)
    return {
        "sizes": {name: list(sizes[position]) for name, position in positions.items()} if sizes else None,
        "formats": dict(formats.most_common()),
        "gray_images": num_gray,
        "colour_images": len(known) - num_gray,
    }
