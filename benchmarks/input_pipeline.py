"""Measures the stream of training batches against the bare decoder of TensorFlow on the same JPEG files.

    python -m benchmarks.input_pipeline --domain=folder:grocery --data_root=DIR

All streams take turns and read the domain's training images --passes times, without augmentation; a figure is the best
of the rounds, from the second batch on. The bare decoder is the shortest program that makes images of that size from
files: tf.io.read_file, tf.io.decode_jpeg and tf.image.resize, without order, crop, labels or checks.
"""

import json
import pathlib
import time

from absl import flags

from jtln_tf.config import InputError
from jtln_tf.tools.program import load_tensorflow, run_program

flags.DEFINE_string("domain", "", "folder: or list: domain of JPEG files.")
flags.DEFINE_string("data_root", "", "Folder that relative paths are looked up in.")
flags.DEFINE_integer("image_size", 128, "Side of the images in pixels.", lower_bound=1)
flags.DEFINE_integer("batch", 32, "Images in a batch.", lower_bound=1)
flags.DEFINE_integer("passes", 3, "Times that every image is read in a measurement.", lower_bound=1)
flags.DEFINE_integer("rounds", 7, "Measurements of each.", lower_bound=1)
flags.DEFINE_string("json", "", "Where the figures are written as JSON.")


def main():
    """Checks the flags, then measures."""
    values = flags.FLAGS
    if not values.domain:
        raise InputError("`domain` must be given. Received: nothing.")
    load_tensorflow()
    figures = measure(values)
    for name, rate in figures["rates"].items():
        print(f"{name:<42} {rate:9,.0f} images a second")
    print(
        f"our pipeline gives {100 * figures['ratio']:.0f} % of the images of the bare decoder, "
        f"{100 * figures['ratio_to_decoding']:.0f} % of decoding alone; {figures['cached_ratio']:.1f} times as many "
        "from the memory cache"
    )
    if values.json:
        pathlib.Path(values.json).write_text(json.dumps(figures, indent=1))


def measure(values):
    """Returns the figures of one run, a dict."""
    from jtln_tf.data import Files, load_domain

    options = {"image_size": values.image_size, "data_root": values.data_root}
    domains = {"none": load_domain(values.domain, cache="none", **options)}
    train = domains["none"].train
    if not isinstance(train.images, Files):
        raise InputError(f"`domain` must be of images in files of their own. Received: {values.domain!r}.")
    if len(train) < 2 * values.batch:
        raise InputError(
            f"`domain` must have training images for two batches of {values.batch}. Received: {len(train)} images."
        )
    domains["memory"] = load_domain(values.domain, cache="memory", **options)
    paths = train.images.values.tolist()
    steps = values.passes * (len(paths) // values.batch)
    streams = _bare_streams(paths, values.image_size, values.batch, steps) | _own_streams(domains, values.batch, steps)
    seconds = {name: [] for name in streams}
    for _ in range(values.rounds):
        for name, stream in streams.items():
            batches = iter(stream)
            # The first batch comes when the stream has been set up, which a run does once.
            next(batches)
            begun = time.perf_counter()
            for _ in batches:
                pass
            seconds[name].append(time.perf_counter() - begun)
    rates = {name: (steps - 1) * values.batch / min(taken) for name, taken in seconds.items()}
    ours = rates["our pipeline"]
    return {
        "images_per_second": ours,
        "decoder_images_per_second": rates["bare decoder"],
        "ratio": ours / rates["bare decoder"],
        "ratio_to_decoding": ours / rates["decoding alone"],
        "cached_images_per_second": rates["our pipeline, --cache=memory"],
        "cached_ratio": rates["our pipeline, --cache=memory"] / ours,
        "rates": rates,
        "images": steps * values.batch,
        "image_size": values.image_size,
    }


def _bare_streams(paths, size, batch, steps):
    """Returns `tf.data.Dataset`s of batches that are only read, decoded and resized, by name."""
    import tensorflow as tf

    def decode(path):
        return tf.io.decode_jpeg(tf.io.read_file(path), channels=3)

    def resize(path, antialias):
        resized = tf.image.resize(decode(path), [size, size], antialias=antialias)
        return tf.cast(tf.round(resized), tf.uint8)

    readers = {
        # One pixel of each: images of several sizes make no batch.
        "decoding alone": lambda path: decode(path)[0, 0],
        "bare decoder": lambda path: resize(path, False),
        "bare decoder, antialiased": lambda path: resize(path, True),
    }
    files = tf.data.Dataset.from_tensor_slices(paths).repeat().take(steps * batch)
    return {
        name: files.map(read, num_parallel_calls=tf.data.AUTOTUNE).batch(batch).prefetch(1)
        for name, read in readers.items()
    }


def _own_streams(domains, batch, steps):
    from jtln_tf.batches import pair_domains

    names = {"none": "our pipeline", "memory": "our pipeline, --cache=memory"}
    options = {"source_batch": batch, "steps": steps, "source_augmentation": "none"}
    return {name: pair_domains(domains[cache], None, **options) for cache, name in names.items()}


if __name__ == "__main__":
    run_program(main, __doc__)
