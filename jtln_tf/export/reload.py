"""Answers with exported files in a process of its own; a script that imports nothing of this package.

    python -I reload.py images.npy network.tflite probabilities.npy network.onnx others.npy

Prints JSON: why a file gave no answer, by its name.
"""

import json
import sys

import numpy as np

_BATCH = 64


def main():
    """Reads the images, and writes the probabilities of the target head, float32 [N, m], for each network."""
    # What an import of them would do here, it would do where they are not installed.
    sys.modules["jtln_tf"] = sys.modules["keras"] = None
    images, *arguments = sys.argv[1:]
    images = np.load(images)
    batches = [images[start : start + _BATCH].astype(np.float32) for start in range(0, len(images), _BATCH)]
    reasons = {}
    for path, output in zip(arguments[::2], arguments[1::2], strict=True):
        try:
            answer = _load_onnx(path) if path.endswith(".onnx") else _load_litert(path)
            np.save(output, np.concatenate([answer(batch) for batch in batches]))
        # Runtimes raise errors of many kinds.
        except Exception as error:
            reasons[path] = f"{type(error).__name__}: {error}"
    print(json.dumps(reasons))


def _load_litert(path):
    try:
        from ai_edge_litert.interpreter import Interpreter
    except ImportError:
        import tensorflow as tf

        Interpreter = tf.lite.Interpreter
    runner = Interpreter(model_path=path).get_signature_runner("pixels")
    return lambda images: runner(image=images)["target"]


def _load_onnx(path):
    import onnxruntime

    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    return lambda images: session.run(["target"], {"image": images})[0]


if __name__ == "__main__":
    main()
