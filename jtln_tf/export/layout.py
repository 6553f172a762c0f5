"""What an export holds, and its options. Imports no TensorFlow."""

import dataclasses

import numpy as np

from jtln_tf.config import SIDES, InputError

KIND = "export"
# Beside the folder while it is written.
UNFINISHED_KIND = "unfinished export"
UNFINISHED_NAMES = (KIND, f"{KIND}/*")
# TensorFlow Serving looks for folders of whole numbers and serves the largest.
VERSION = "1"
CLASSES_NAME, WARMUP_NAME = "classes.json", "assets.extra/tf_serving_warmup_requests"
CLASSES_FILE = f"{VERSION}/assets/{CLASSES_NAME}"
CARD_FILE, README_FILE, CHECKSUM_FILE = "model_card.json", "README.md", "SHA256SUMS"
SIGNATURES = ("serving_default", "probabilities", "features", "pixels")
# Other formats, with the files of each.
FORMATS = {
    "litert": ("litert/float32.tflite", "litert/float16.tflite", "litert/int8.tflite"),
    "onnx": ("onnx/network.onnx",),
    "keras": ("network.keras",),
}
HEADS = ("both", "target")
_SAVED_MODEL_NAMES = ("assets", "fingerprint.pb", "saved_model.pb", "variables", "variables/variables.*")
# Paths of everything that is written into the folder, or shell patterns of them.
OWN_NAMES = (
    *(CARD_FILE, README_FILE, CHECKSUM_FILE, VERSION, CLASSES_FILE),
    *(f"{VERSION}/{name}" for name in (*_SAVED_MODEL_NAMES, "assets.extra", WARMUP_NAME)),
    *(name for files in FORMATS.values() for name in (*files, *(one.partition("/")[0] for one in files))),
    # Exports of earlier versions can be replaced.
    *(CLASSES_NAME, *_SAVED_MODEL_NAMES),
)


@dataclasses.dataclass(frozen=True)
class ExportOptions:
    """What is exported.

    Attributes:
        heads: `both`, or `target` to drop the source head.
        top_k: Most classes that `serving_default` returns for an image.
        also: Formats beside the SavedModel, of `FORMATS`.
    """

    heads: str = "both"
    top_k: int = 5
    also: tuple[str, ...] = ()

    def __post_init__(self):
        if self.heads not in HEADS:
            raise InputError(f"`heads` must be one of {', '.join(HEADS)}. Received: {self.heads!r}.")
        if not self.top_k >= 1:
            raise InputError(f"`top_k` must be at least 1. Received: {self.top_k}.")
        for name in self.also:
            if name not in FORMATS:
                raise InputError(f"`also` must be among {', '.join(FORMATS)}. Received: {name!r}.")

    @property
    def sides(self) -> tuple[str, ...]:
        """Heads that are kept."""
        return SIDES if self.heads == "both" else (self.heads,)


@dataclasses.dataclass(frozen=True, eq=False)
class Samples:
    """Images by which other formats are measured.

    Attributes:
        representative: Images that span the activations of an int8 network, uint8 [N, H, W, C].
        images: Images that are compared, uint8 [M, H, W, C].
        labels: Their target classes, [M].
    """

    representative: np.ndarray
    images: np.ndarray
    labels: np.ndarray
