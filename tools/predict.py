"""Predicts the classes of image files with an exported network.

    python -m tools.predict --model=runs/digits/export image.png another.jpg

Prints one JSON line for each image: the likeliest classes of the chosen head with their probabilities.
"""

import pathlib

from absl import flags

from jtln_tf.config import InputError, MissingInputError
from jtln_tf.files import to_json
from tools.program import load_tensorflow, require_flags, run_program

flags.DEFINE_string("model", "", "Folder of the export.")
flags.DEFINE_enum("head", "target", ["source", "target"], "Head whose classes are predicted.")
flags.DEFINE_integer("top", 3, "Classes to print for each image.", lower_bound=1)


def main(arguments):
    """Reads the images, predicts and prints."""
    values = flags.FLAGS
    require_flags("model")
    for path in arguments:
        if not pathlib.Path(path).is_file():
            raise MissingInputError(f"`images` must name existing files. Received: {path!r}.")

    load_tensorflow()
    import tensorflow as tf

    from jtln_tf.export.saved_model import load_export

    signatures, class_names = load_export(values.model)
    names = class_names[values.head]
    for path in arguments:
        encoded = tf.constant([pathlib.Path(path).read_bytes()])
        try:
            probabilities = signatures["serve_bytes"](encoded=encoded)[values.head][0].numpy()
        # TensorFlow's message may hold bytes of the file, which are no text.
        except (tf.errors.InvalidArgumentError, UnicodeDecodeError) as error:
            raise InputError(f"`images` must be JPEG, PNG, WebP, GIF or BMP files. Received: {path!r}.") from error
        best = probabilities.argsort()[::-1][: values.top]
        classes = [{"class": names[index], "probability": round(float(probabilities[index]), 6)} for index in best]
        print(to_json({"image": path, "classes": classes}), flush=True)


if __name__ == "__main__":
    run_program(main, __doc__, positional="images")
