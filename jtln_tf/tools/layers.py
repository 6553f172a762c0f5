"""Lists the layers of a backbone, for --freeze_until.

    jtln layers --backbone=efficientnet_lite0

Prints each layer with the shape of its output and the number of its weights. With --cache_features, --freeze_until
takes the layers that are marked `cut`: all layers behind them see of an image is their output. Without it, any layer
will do. `all` stands for the whole backbone.
"""

import dataclasses
import json

from absl import flags

from jtln_tf.config import MOST_SIDE, DataConfig, NetworkConfig
from jtln_tf.config.pretrained import resolve_backbone
from jtln_tf.tools.program import load_tensorflow, require_flags, run_program

_SIDE = 224

flags.DEFINE_string("backbone", "", "As in jtln train: auto, a name, or PATH.keras.")
flags.DEFINE_integer(
    "image_size",
    0,
    f"Side of the image in pixels; 0: the backbone's own, or {_SIDE}.",
    lower_bound=0,
    upper_bound=MOST_SIDE,
)
flags.DEFINE_integer("channels", 3, "Colour channels of the image: 1 gray, 3 RGB.", lower_bound=1, upper_bound=3)
flags.DEFINE_bool("json", False, "Print the layers as JSON.")


def main():
    """Builds the backbone, without pretrained weights if it has a name, and lists its layers."""
    values = flags.FLAGS
    require_flags("backbone")
    # What `auto` stands for with photographs; the layers are the same without its weights.
    network = resolve_backbone(DataConfig(target="folder:photos"), NetworkConfig(backbone=values.backbone))
    config = dataclasses.replace(network, weights="none")

    load_tensorflow()
    from jtln_tf.backbones import build_backbone, usual_image_size
    from jtln_tf.network import describe_layers

    side = values.image_size or usual_image_size(config.backbone) or _SIDE
    layers = describe_layers(build_backbone(config, (side, side, values.channels)))
    if values.json:
        print(json.dumps(layers))
        return
    width = max(len(layer["name"]) for layer in layers)
    print(f"{'layer':{width}}  {'output':16}{'weights':>12}")
    for layer in layers:
        shape = " x ".join(map(str, layer["output_shape"]))
        print(f"{layer['name']:{width}}  {shape:16}{layer['num_weights']:12,}{'  cut' * layer['can_cut']}")


def run():
    """Runs the program."""
    run_program(main, __doc__)


if __name__ == "__main__":
    run()
