"""The functions that an export serves."""

import pathlib
from collections.abc import Callable, Iterable

import keras
import tensorflow as tf

from jtln_tf.data import decode_or_explain
from jtln_tf.network import outputs_model


class Classifier(tf.Module):
    """From images to features and probabilities, with the heads that are kept.

    Attributes:
        shape: `(height, width, channels)` of the images.
        pixels: `tf.function` from `image`, float32 [B, H, W, C] in 0..255, to `features` and the probabilities by side.
    """

    def __init__(self, network: keras.Model, sides: Iterable[str]):
        super().__init__()
        self.shape = tuple(network.input_shape[1:])
        logits = outputs_model(network)
        model = keras.Model(logits.input, {name: logits.output[name] for name in ("features", *sides)})
        self.weights = [variable.value for variable in model.variables]

        def pixels(image):
            outputs = {name: tf.cast(values, tf.float32) for name, values in model(image, training=False).items()}
            return {name: values if name == "features" else tf.nn.softmax(values) for name, values in outputs.items()}

        image = tf.TensorSpec([None, *self.shape], tf.float32, name="image")
        self.pixels = tf.function(pixels, input_signature=[image], autograph=False)


def build_signatures(
    classifier: Classifier, class_names: dict[str, list[str]], *, crop_bottom: int, top_k: int
) -> dict[str, Callable]:
    """Returns the functions to serve by the name of their signature; see `export_network`."""
    size, _, channels = classifier.shape
    target_names = tf.constant(class_names["target"])
    num_best = min(top_k, len(class_names["target"]))
    encoded = tf.TensorSpec([None], tf.string, name="image_bytes")

    def look(images):
        # Some operations take no empty batch.
        count = tf.shape(images)[0]
        padded = tf.pad(images, [[0, tf.cast(count == 0, tf.int32)], [0, 0], [0, 0], [0, 0]])
        return {name: values[:count] for name, values in classifier.pixels(padded).items()}

    # One graph of it serves all signatures: it is large.
    @tf.function(input_signature=[encoded], autograph=False)
    def read(image_bytes):
        images, errors = decode_or_explain(tf.ensure_shape(image_bytes, [None]), size, channels, crop_bottom)
        is_read = (errors == "")[:, None]
        # JSON has no NaN.
        outputs = {name: tf.where(is_read, values, 0.0) for name, values in look(tf.cast(images, tf.float32)).items()}
        return {**outputs, "error": errors}

    def serving_default(image_bytes):
        outputs = read(image_bytes)
        scores, best = tf.math.top_k(outputs["target"], num_best)
        labels = tf.where((outputs["error"] == "")[:, None], tf.gather(target_names, best), "")
        return {"labels": labels, "scores": scores, "error": outputs["error"]}

    def probabilities(image_bytes):
        return {name: values for name, values in read(image_bytes).items() if name != "features"}

    def features(image_bytes):
        outputs = read(image_bytes)
        return {name: outputs[name] for name in ("features", "error")}

    def pixels(image):
        # A signature of a loaded export takes a tensor of any shape, and a convolution would abort the process.
        return look(tf.ensure_shape(image, [None, *classifier.shape]))

    image = tf.TensorSpec([None, *classifier.shape], tf.float32, name="image")
    specs = {serving_default: encoded, probabilities: encoded, features: encoded, pixels: image}
    return {
        function.__name__: tf.function(function, input_signature=[spec], autograph=False)
        for function, spec in specs.items()
    }


def save_signatures(
    classifier: Classifier,
    signatures: dict[str, Callable],
    folder: pathlib.Path,
    classes_file: pathlib.Path | None = None,
) -> None:
    """Writes a SavedModel with some signatures, and a file of class names as its asset."""
    module = tf.Module()
    # What is not reachable is not written: the variables, and the functions with what they captured.
    module.weights, module.functions = classifier.weights, signatures
    if classes_file is not None:
        module.classes = tf.saved_model.Asset(str(classes_file))
    tf.saved_model.save(module, str(folder), signatures=signatures)
