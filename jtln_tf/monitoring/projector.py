"""The features of images of both domains, for TensorBoard's projector."""

import io
import pathlib
from collections.abc import Mapping

import keras
import numpy as np
from PIL import Image

from jtln_tf.data import Domain
from jtln_tf.data.reading.split import Split
from jtln_tf.files import escape_name, write_whole
from jtln_tf.monitoring.samples import look_at, sample_domain
from jtln_tf.network import domain_view

_CONFIG_FILE = "projector_config.pbtxt"
_FEATURES_FILE, _METADATA_FILE, _SPRITE_FILE = "projector_features.tsv", "projector_images.tsv", "projector_sprite.png"
# Side of an image in the sprite, in pixels.
_SIDE = 32


def write_projector(folder: pathlib.Path, network: keras.Model, domains: Mapping[str, Domain], most: int) -> None:
    """Writes the features of up to `most` images of each side, with their domains and classes.

    Small pictures of the images stand beside if all of them are decoded already.

    Args:
        folder: TensorBoard's folder of the run.
        network: What reads the images of `domains`, to features [B, D].
        domains: `Domain` by side.
        most: Images of each side.
    """
    from google.protobuf import text_format
    from tensorboard.plugins import projector

    features, rows, pictures = [], ["domain\tclass"], []
    for side, domain in domains.items():
        _, split = sample_domain(domain, most)
        features += [np.asarray(batch, np.float32) for batch in look_at(domain_view(network, side), split)]
        # A name with a tab would be two.
        rows += [f"{side}\t{''.join(escape_name(domain.class_names[label]))}" for label in split.labels]
        pictures.append(_shrink(split))
    text = io.StringIO()
    np.savetxt(text, np.concatenate(features), "%.4g", "\t")
    write_whole(folder / _FEATURES_FILE, text.getvalue())
    write_whole(folder / _METADATA_FILE, "\n".join(rows) + "\n")
    config = projector.ProjectorConfig()
    shown = config.embeddings.add(tensor_name="features", tensor_path=_FEATURES_FILE, metadata_path=_METADATA_FILE)
    if all(one is not None for one in pictures):
        write_whole(folder / _SPRITE_FILE, _tile(np.concatenate(pictures)))
        shown.sprite.image_path = _SPRITE_FILE
        shown.sprite.single_image_dim.extend((_SIDE, _SIDE))
    # Last: it names the others.
    write_whole(folder / _CONFIG_FILE, text_format.MessageToString(config))


def _shrink(split: Split) -> np.ndarray | None:
    """Returns the images of a split, uint8 [N, _SIDE, _SIDE, 3]; None if they are not decoded."""
    if split.is_decoded and split.holds_images:
        pixels = np.asarray(split.images.values)[: len(split)]
    elif split.origin.is_decoded:
        pixels = np.asarray(split.origin.values)
    else:
        return None
    images = [Image.fromarray(one[..., 0] if one.shape[-1] == 1 else one) for one in pixels]
    return np.stack([np.asarray(image.convert("RGB").resize((_SIDE, _SIDE))) for image in images])


def _tile(pictures):
    """Returns a PNG file with pictures [N, _SIDE, _SIDE, 3] in a square, row by row."""
    across = int(np.ceil(np.sqrt(len(pictures))))
    empty = np.full((across**2 - len(pictures), *pictures.shape[1:]), 255, np.uint8)
    grid = np.concatenate([pictures, empty]).reshape(across, across, _SIDE, _SIDE, 3)
    buffer = io.BytesIO()
    Image.fromarray(grid.transpose(0, 2, 1, 3, 4).reshape(across * _SIDE, across * _SIDE, 3)).save(buffer, "png")
    return buffer.getvalue()
