"""Measures training on the cached activations of a frozen trunk against fine-tuning the whole network on the images.

    python -m benchmarks.cached_trunk --preset=grocery --data_root=DIR --backbone=PATH.keras --freeze_until=LAYER

Blocks of --block_steps steps of the whole network, and --cached_steps behind the trunk, take turns. Prints the images a
second of both, the time to fill the cache, and the share of a step's time that it waits for its batch.
"""

import dataclasses
import json
import pathlib
import statistics
import time

from absl import flags

from benchmarks.parts import compiled_model, prepare_setup, training_batches
from flags import config_from_flags, define_config_flags
from jtln_tf.config import InputError
from tools.program import load_tensorflow, run_program

define_config_flags()
flags.DEFINE_integer("warm_steps", 5, "Steps at the start of each block that are not measured.", lower_bound=1)
flags.DEFINE_integer("rounds", 5, "Blocks of each.", lower_bound=1)
flags.DEFINE_integer("block_steps", 10, "Steps of a block of the whole network.", lower_bound=1)
flags.DEFINE_integer("cached_steps", 100, "Steps of a block behind the trunk.", lower_bound=1)
flags.DEFINE_string("json", "", "Where the figures are written as JSON.")


def main():
    """Checks the flags, then measures."""
    values = flags.FLAGS
    config = config_from_flags().resolve()
    config.require_domains()
    if not config.network.freeze_until:
        raise InputError("`freeze_until` must name the last layer of the frozen trunk. Received: nothing.")
    if any(len(stage.domains) < 2 for stage in config.method.stages(config.training.steps)):
        raise InputError(f"`method` must train on both domains at once. Received: {config.method.name!r}.")
    if config.data.cache == "disk":
        raise InputError("`cache` must be memory or none: on the disk the next call finds it full. Received: 'disk'.")
    load_tensorflow()
    figures = measure(config, values)
    print(f"whole network       {figures['images_per_second']:9,.1f} images a second")
    print(f"behind the trunk    {figures['cached_images_per_second']:9,.1f} images a second")
    print(
        f"{figures['cached_trunk_speedup']:.1f} times as many; with the {figures['seconds_to_fill']:.0f} s to fill the "
        f"cache, {figures['speedup_of_run']:.1f} times over the {config.training.steps} steps of the run"
    )
    print(
        f"waiting for data    {100 * figures['data_wait_share']:.2f} % of a step of the whole network, at most "
        f"{100 * figures['data_wait_most']:.2f} %"
    )
    if values.json:
        pathlib.Path(values.json).write_text(json.dumps(figures, indent=1))


def measure(config, values):
    """Returns the figures of one configuration, a dict."""
    from jtln_tf.features.activations import cache_trunk

    whole = dataclasses.replace(
        config, network=dataclasses.replace(config.network, freeze_until="", cache_features=False)
    )
    frozen = dataclasses.replace(config, network=dataclasses.replace(config.network, cache_features=True))
    setup, trunk = prepare_setup(frozen, cached=True)
    costs = config.method.prepare(setup)
    begun = time.perf_counter()
    inputs = cache_trunk(
        trunk,
        setup.domains,
        config.data,
        dict.fromkeys(setup.domains, config.training.steps),
        most_views=config.network.cached_views,
        seed=config.training.seed,
    )
    seconds_to_fill = time.perf_counter() - begun

    seconds, waits = {"whole": [], "cached": []}, []
    steppers = {
        "whole": _stepper(whole, prepare_setup(whole)[0].network, setup.domains, costs),
        "cached": _stepper(frozen, setup.trained, inputs, costs),
    }
    for _ in range(values.rounds):
        for name, count in (("whole", values.block_steps), ("cached", values.cached_steps)):
            # The buffers were filled while the other took its turn.
            for _ in range(values.warm_steps):
                steppers[name]()
            taken = [steppers[name]() for _ in range(count)]
            seconds[name].append(sum(map(sum, taken)) / count)
            if name == "whole":
                waits += [waiting / (waiting + working) for waiting, working in taken]
    images = config.data.source_batch + config.data.target_batch
    whole_seconds, cached_seconds = (statistics.median(seconds[name]) for name in ("whole", "cached"))
    steps = config.training.steps
    return {
        "images_per_second": images / whole_seconds,
        "cached_images_per_second": images / cached_seconds,
        "cached_trunk_speedup": whole_seconds / cached_seconds,
        "speedup_of_run": steps * whole_seconds / (steps * cached_seconds + seconds_to_fill),
        "seconds_to_fill": seconds_to_fill,
        "data_wait_share": statistics.mean(waits),
        "data_wait_most": max(waits),
    }


def _stepper(config, network, domains, costs):
    """Returns a function that takes a step and returns the seconds that it waited for its batch, and that it took."""
    import tensorflow as tf

    model, pairs = compiled_model(config, network, costs), training_batches(config, domains)
    train = tf.function(model.train_step)

    def step():
        begun = time.perf_counter()
        batch = next(pairs)
        received = time.perf_counter()
        train(batch)
        # On a GPU it comes when the step has been taken.
        int(model.steps_seen.numpy())
        return received - begun, time.perf_counter() - received

    return step


if __name__ == "__main__":
    run_program(main, __doc__)
