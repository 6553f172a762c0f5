"""Images known by their content, whatever they are called: the same in two places, or in two splits."""

import concurrent.futures
import hashlib
import os

import numpy as np

from jtln_tf.data.reading.loading import decode_all

# Records are read one by one, and all of each: of so many (a few seconds) and no more.
_MOST_RECORDS = 20_000
_RECORDS_AT_ONCE = 256
# Rows of pixels, spread over the image, and bytes at the end of a file, that tell most images apart.
_SAMPLED_ROWS, _SAMPLED_BYTES = 4, 512


def digest_pixels(split, progress=None):
    """Decodes every image of a split once, and keeps none.

    Args:
        split: `Split`.
        progress: Called with the number of images of each batch that is done, or None.

    Returns:
        A list of one digest an image, equal where all pixels are, None where it cannot be decoded; and the positions
        of the latter, an array.
    """
    digests = [None] * len(split)
    with concurrent.futures.ThreadPoolExecutor() as pool:

        def keep(rows, images):
            for row, digest in zip(rows, pool.map(_digest, images), strict=True):
                digests[row] = digest
            if progress:
                progress(len(rows))

        bad = decode_all(split, keep)
    return digests, bad


def digest_files(split, rows):
    """Returns one digest for each image at `rows` of a split that is not decoded, equal where all bytes are: a list."""
    return [_digest(encoded) for encoded in read_files(split, rows)]


def read_files(split, rows):
    """Yields the bytes of the files of the images at `rows` of a split that is not decoded."""
    if split.reader is not None:
        for start in range(0, len(rows), _RECORDS_AT_ONCE):
            yield from split.reader.read(split.images[rows[start : start + _RECORDS_AT_ONCE]])
        return
    for row in rows:
        image = split.images[row]
        if isinstance(image, str):
            with open(image, "rb") as file:
                yield file.read()
        else:
            yield image


def find_shared(split, other):
    """Finds the images of a split that stand in another one too.

    Where both are decoded their pixels are compared, where neither is their files byte by byte. Only images of which a
    part is the same are compared as a whole: that costs a look at each.

    Args:
        split: `Split` of images.
        other: Another one.

    Returns:
        Positions in `split`, ascending; or None where they were not looked for: only one of the two is decoded, or too
        many records would have to be read.
    """
    if not len(split) or not len(other):
        return np.array([], int)
    if split.is_decoded != other.is_decoded:
        return None
    if any(one.reader is not None for one in (split, other)) and len(split) + len(other) > _MOST_RECORDS:
        return None
    samples, other_samples = _sample_all(split), _sample_all(other)
    known, found = set(other_samples), set(samples)
    rows = [row for row, sample in enumerate(samples) if sample in known]
    other_rows = [row for row, sample in enumerate(other_samples) if sample in found]
    digests = set(_digest_all(other, other_rows))
    return np.array([row for row, digest in zip(rows, _digest_all(split, rows), strict=True) if digest in digests], int)


def _digest_all(split, rows):
    if not split.is_decoded:
        return digest_files(split, rows)
    with concurrent.futures.ThreadPoolExecutor() as pool:
        return list(pool.map(lambda row: _digest(split.images[row]), rows))


def _sample_all(split):
    if split.is_decoded:
        # Not from the border, which is often blank.
        lines = np.linspace(0, split.image_size - 1, _SAMPLED_ROWS + 2)[1:-1].astype(int)
        return [hash(image[lines].tobytes()) for image in split.images]
    if split.reader is not None:
        return [_sample_bytes(encoded) for encoded in read_files(split, np.arange(len(split)))]
    return [_sample_file(image) if isinstance(image, str) else _sample_bytes(image) for image in split.images]


def _sample_bytes(encoded):
    return len(encoded), encoded[-_SAMPLED_BYTES:]


def _sample_file(path):
    with open(path, "rb") as file:
        size = os.fstat(file.fileno()).st_size
        file.seek(max(0, size - _SAMPLED_BYTES))
        return size, file.read()


def _digest(content):
    data = content if isinstance(content, bytes) else np.ascontiguousarray(content).data
    return hashlib.sha256(data).digest()
