"""Measures training on the cached activations of a frozen trunk against fine-tuning the whole network on the images.

    python -m benchmarks.cached_trunk --preset=grocery --data_root=DIR --backbone=PATH.keras --freeze_until=LAYER

Blocks of --block_steps steps of the whole network, and --cached_steps behind the trunk, take turns. Prints the images a
second of both, the time to fill the cache, and the share of a step's time that it waits for its batch. Then times a
plain pass of all images of both domains through the trunk, a run that fills an empty cache folder, a second run that
finds everything there and, with --compared_methods, a comparison that begins with an empty one.
"""

import dataclasses
import json
import pathlib
import statistics
import tempfile
import time

from absl import flags

from benchmarks.parts import compiled_model, prepare_setup, training_batches
from jtln_tf.config import InputError
from jtln_tf.flags import config_from_flags, define_config_flags
from jtln_tf.methods import find_method
from jtln_tf.tools.program import load_tensorflow, run_program

define_config_flags()
flags.DEFINE_integer("warm_steps", 5, "Steps at the start of each block that are not measured.", lower_bound=1)
flags.DEFINE_integer("rounds", 5, "Blocks of each.", lower_bound=1)
flags.DEFINE_integer("block_steps", 10, "Steps of a block of the whole network.", lower_bound=1)
flags.DEFINE_integer("cached_steps", 100, "Steps of a block behind the trunk.", lower_bound=1)
flags.DEFINE_list("compared_methods", [], "Methods of a comparison that is timed too.")
flags.DEFINE_integer("compared_seeds", 5, "Its seeds.", lower_bound=1)
flags.DEFINE_list("compared_labels", ["1", "3", "10"], "Its labels a class.")
flags.DEFINE_string("json", "", "Where the figures are written as JSON.")


def main():
    """Checks the flags, then measures."""
    values = flags.FLAGS
    config = config_from_flags().resolve()
    config.require_domains()
    if not config.network.freeze_until:
        raise InputError("`freeze_until` must name the last layer of the frozen trunk. Received: nothing.")
    if any(len(stage.domains) < 2 for stage in config.method.stages(config.training.steps or 2)):
        raise InputError(f"`method` must train on both domains at once. Received: {config.method.name!r}.")
    load_tensorflow()
    figures = {**measure(config, values), **measure_runs(config, values)}
    print(f"whole network       {figures['images_per_second']:9,.1f} images a second")
    print(f"behind the trunk    {figures['cached_images_per_second']:9,.1f} images a second")
    print(
        f"{figures['cached_trunk_speedup']:.1f} times as many; with the {figures['seconds_to_fill']:.0f} s to fill the "
        f"cache, {figures['speedup_of_run']:.1f} times over the {figures['steps']} steps of the run"
    )
    print(
        f"waiting for data    {100 * figures['data_wait_share']:.2f} % of a step of the whole network, at most "
        f"{100 * figures['data_wait_most']:.2f} %"
    )
    print(f"a plain pass of {figures['images']:,} images through the trunk {figures['seconds_of_pass']:.1f} s")
    for name in ("first_run", "second_run", "comparison"):
        if f"seconds_of_{name}" in figures:
            seconds, passes = figures[f"seconds_of_{name}"], figures[f"{name}_in_passes"]
            print(f"the {name.replace('_', ' ')} {seconds:.1f} s, {passes:.2f} times the pass")
    if values.json:
        pathlib.Path(values.json).write_text(json.dumps(figures, indent=1))


def measure(config, values):
    """Returns the figures of one configuration, a dict."""
    from jtln_tf.features.activations import cache_trunk

    whole, frozen = (
        dataclasses.replace(config, network=dataclasses.replace(config.network, **options))
        for options in ({"freeze_until": "", "cache_features": "none"}, {"cache_features": "memory"})
    )
    config, setup, trunk = prepare_setup(frozen, cached=True)
    begun = time.perf_counter()
    steps = config.training.steps
    whole, frozen = (dataclasses.replace(one, training=config.training) for one in (whole, frozen))
    inputs = dict(cache_trunk(trunk, setup.domains, config.data, frozen.network, dict.fromkeys(setup.domains, steps)))
    seconds_to_fill = time.perf_counter() - begun
    costs = config.method.prepare(dataclasses.replace(setup, inputs=inputs))

    seconds, waits = {"whole": [], "cached": []}, []
    steppers = {
        "whole": _stepper(whole, prepare_setup(whole)[1].network, setup.domains, costs),
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
    return {
        "steps": steps,
        "images_per_second": images / whole_seconds,
        "cached_images_per_second": images / cached_seconds,
        "cached_trunk_speedup": whole_seconds / cached_seconds,
        "speedup_of_run": steps * whole_seconds / (steps * cached_seconds + seconds_to_fill),
        "seconds_to_fill": seconds_to_fill,
        "data_wait_share": statistics.mean(waits),
        "data_wait_most": max(waits),
    }


def measure_runs(config, values):
    """Returns the seconds of a pass of all images through the trunk, of a run with an empty cache, and of the next.

    If methods are to be compared, also those of the comparison.
    """
    from jtln_tf.experiment.run import run_experiment

    _, setup, trunk = prepare_setup(config, cached=True)
    splits = [domain.split(name) for domain in setup.domains.values() for name in ("train", "validation", "test")]
    # Compiles.
    _pass_images(trunk, [splits[0].take(range(min(64, len(splits[0]))))])
    seconds = {"pass": _pass_images(trunk, splits)}
    with tempfile.TemporaryDirectory() as folder:
        kept = dataclasses.replace(
            config,
            data=dataclasses.replace(config.data, cache_dir=f"{folder}/cache"),
            network=dataclasses.replace(config.network, cache_features="disk"),
        )
        for name in ("first_run", "second_run"):
            begun = time.perf_counter()
            run_experiment(kept, f"{folder}/{name}", export=False)
            seconds[name] = time.perf_counter() - begun
        if values.compared_methods:
            seconds["comparison"] = _compare(kept, values, folder)
    return {
        "images": sum(map(len, splits)),
        **{f"seconds_of_{name}": one for name, one in seconds.items()},
        **{f"{name}_in_passes": one / seconds["pass"] for name, one in seconds.items() if name != "pass"},
    }


def _compare(config, values, folder):
    """Runs a comparison that begins with an empty cache; returns the seconds."""
    from jtln_tf.comparison.plan import plan_variants
    from jtln_tf.comparison.run import run_comparison

    data = dataclasses.replace(config.data, cache_dir=f"{folder}/cache_of_comparison", labels_per_class=0)
    configs = [dataclasses.replace(config, data=data, method=find_method(name)()) for name in values.compared_methods]
    variants = plan_variants(configs, label_counts=tuple(map(int, values.compared_labels)))
    begun = time.perf_counter()
    run_comparison(variants, range(values.compared_seeds), f"{folder}/comparison", jobs=0)
    return time.perf_counter() - begun


def _pass_images(trunk, splits):
    """Passes images through a trunk as plainly as can be; returns the seconds."""
    begun = time.perf_counter()
    for split in splits:
        for images, _ in split.batches(64):
            trunk.model.predict_on_batch(images)
    return time.perf_counter() - begun


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
