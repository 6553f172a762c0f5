"""Requests that TensorFlow Serving sends to a new model before it serves it."""

import pathlib

import tensorflow as tf

from jtln_tf.export.layout import WARMUP_NAME

# Protocol buffers of TensorFlow Serving: PredictionLog.predict_log.request, PredictRequest.model_spec and inputs (whose
# entries hold a key and a value), ModelSpec.name and signature_name.
_PREDICT_LOG, _REQUEST, _MODEL_SPEC, _INPUTS, _KEY, _VALUE, _NAME, _SIGNATURE_NAME = 6, 1, 1, 2, 1, 2, 1, 3
_IS_LENGTH_DELIMITED = 2


def write_warmup(folder: pathlib.Path, model_name: str, image_size: int) -> None:
    """Writes requests for all signatures that take image bytes into the folder of a SavedModel."""
    blank = tf.zeros([image_size, image_size, 3], tf.uint8)
    # The last one has the reason why it is refused found, which is another part of the graph.
    images = [tf.io.encode_jpeg(blank).numpy(), tf.io.encode_png(blank).numpy(), b""]
    path = folder / WARMUP_NAME
    path.parent.mkdir()
    with tf.io.TFRecordWriter(str(path)) as writer:
        for signature in ("serving_default", "probabilities", "features"):
            writer.write(_predict_log(model_name, signature, images))


def _predict_log(model_name, signature, images):
    """Returns the bytes of a `PredictionLog` of one request."""
    tensor = tf.make_tensor_proto(images, tf.string).SerializeToString()
    model_spec = _field(_NAME, model_name.encode()) + _field(_SIGNATURE_NAME, signature.encode())
    inputs = _field(_KEY, b"image_bytes") + _field(_VALUE, tensor)
    request = _field(_MODEL_SPEC, model_spec) + _field(_INPUTS, inputs)
    return _field(_PREDICT_LOG, _field(_REQUEST, request))


def _field(number, content):
    return bytes([number << 3 | _IS_LENGTH_DELIMITED]) + _varint(len(content)) + content


def _varint(value):
    digits = []
    while value > 127:
        digits.append(value & 127 | 128)
        value >>= 7
    return bytes([*digits, value])
