"""Predicts the classes of image files with an exported network.

    jtln predict --model=runs/digits/export image.png another.jpg

Prints one JSON line for each image: the likeliest classes of the chosen head with their probabilities. Images that
cannot be read are named at the end.
"""

import os
import pathlib

from absl import flags

from jtln_tf.config import InputError, MissingInputError, NonFiniteLossError
from jtln_tf.files import to_json
from jtln_tf.tools.program import load_tensorflow, require_flags, run_program

# Bad images that the error names.
_NAMED = 20

flags.DEFINE_string("model", "", "Folder of the export.")
flags.DEFINE_enum("head", "target", ["source", "target"], "Head whose classes are predicted.")
flags.DEFINE_integer("top", 3, "Classes to print for each image.", lower_bound=1, upper_bound=100_000)


def main(arguments):
    """Reads the images, predicts and prints."""
    values = flags.FLAGS
    require_flags("model")
    for path in arguments:
        if not os.path.lexists(path):
            raise MissingInputError(f"`images` must name existing files. Received: {path!r}.")
        # A pipe or a device would be waited for.
        if not os.path.isfile(path):
            raise InputError(f"`images` must be plain files. Received: {path!r}.")

    load_tensorflow()
    import numpy as np
    import tensorflow as tf

    from jtln_tf.data import explain_error, to_png
    from jtln_tf.export.saved_model import load_export
    from jtln_tf.files import first_line

    signatures, class_names = load_export(values.model)
    if values.head not in class_names:
        raise InputError(f"`head` must be {' or '.join(class_names)}, which the export has. Received: {values.head!r}.")
    names = class_names[values.head]
    refused = []
    for path in arguments:
        try:
            encoded = tf.constant([to_png(pathlib.Path(path).read_bytes())])
            answer = signatures["probabilities"](image_bytes=encoded)
            if answer["error"][0] != "":
                raise ValueError(answer["error"][0].numpy().decode())
            probabilities = answer[values.head][0].numpy()
        except (tf.errors.OpError, OSError, ValueError) as error:
            reason = explain_error(error) if isinstance(error, tf.errors.OpError) else first_line(error)
            refused.append(f"{path!r} ({reason})")
            continue
        if not np.isfinite(probabilities).all():
            raise NonFiniteLossError(f"`model` must give finite probabilities. Received: NaN for {path!r}.")
        best = probabilities.argsort()[::-1][: values.top]
        classes = [{"class": names[index], "probability": round(float(probabilities[index]), 6)} for index in best]
        print(to_json({"image": path, "classes": classes}), flush=True)
    if refused:
        more = f" and {len(refused) - _NAMED} more" if refused[_NAMED:] else ""
        rule = "`images` must be JPEG, PNG, WebP, GIF, BMP or TIFF files"
        raise InputError(f"{rule}. Received: {', '.join(refused[:_NAMED])}{more}.")


def run():
    """Runs the program."""
    run_program(main, __doc__, positional="images")


if __name__ == "__main__":
    run()
