"""Measures what the transport costs in training: the step with and without it, and the iterations of several starts.

    python -m benchmarks.training_step --preset=digits
    python -m benchmarks.training_step --part=loop --preset=digits --method=joint

With --part=transport it trains as the preset says until the transport sets in, and for --warm_steps more. Then blocks
of --block_steps steps with and without the transport take turns in one compiled function, --rounds of each, and the
transport's share of a step is printed. Finally the predictions of --replayed_steps further steps are solved again from
several starts, and the iterations are printed: those of source images, whatever --transport_images says.

With --part=loop, blocks of --block_steps steps of a run, with its callbacks, take turns with blocks of a bare Keras
fit of the same network on the same batches, concatenated, with plain cross-entropy; what our loop adds is printed.
"""

import json
import pathlib
import statistics
import time

import numpy as np
from absl import flags

from benchmarks.parts import compiled_model, prepare_setup, training_batches
from benchmarks.plain_sinkhorn import count_plain_updates
from jtln_tf.config import InputError
from jtln_tf.flags import config_from_flags, define_config_flags
from jtln_tf.tools.program import load_tensorflow, run_program

define_config_flags()
flags.DEFINE_enum("part", "transport", ["transport", "loop"], "What is measured.")
flags.DEFINE_integer("warm_steps", 100, "Steps with the transport before anything is measured.", lower_bound=1)
flags.DEFINE_integer("rounds", 9, "Blocks measured with the transport, and without.", lower_bound=1)
flags.DEFINE_integer("block_steps", 20, "Steps of a block.", lower_bound=1)
flags.DEFINE_integer("replayed_steps", 100, "Steps whose predictions are solved from several starts.", lower_bound=1)
flags.DEFINE_string("json", "", "Where the figures are written as JSON.")


def main():
    """Checks the flags, then measures."""
    values = flags.FLAGS
    config = config_from_flags().resolve()
    config.require_domains()
    if values.part == "loop":
        measure_loop(config, values)
        return
    if not config.method.uses_costs:
        raise InputError(f"`method` must have a transport loss. Received: {config.method.name!r}.")
    if config.data.source_augmentation.mixup:
        raise InputError("`source_augmentation` must be without mixup: starts follow labels. Received: one with it.")
    load_tensorflow()
    figures = measure(config, values)
    print(
        f"step {1e3 * figures['seconds_with']:.1f} ms with the transport, {1e3 * figures['seconds_without']:.1f} ms "
        f"without: {100 * figures['transport_share_of_step']:.1f} % of the step (quartiles of the rounds "
        f"{100 * figures['share_quartiles'][0]:.1f} to {100 * figures['share_quartiles'][1]:.1f} %)"
    )
    for name, counts in figures["iterations"].items():
        print(f"{name:<30} {counts['mean']:.2f} iterations an image, {counts['slowest']:.1f} the slowest of a step")
    if values.json:
        pathlib.Path(values.json).write_text(json.dumps(figures, indent=1))


def measure_loop(config, values):
    """Prints what the training loop adds to a bare fit."""
    if any(policy.mixup for policy in config.data.augmentation.values()):
        raise InputError("`source_augmentation` must be without mixup, and so the target's. Received: one with it.")
    load_tensorflow()
    from benchmarks.bare_fit import measure_overhead

    figures = measure_overhead(config, values.rounds, values.block_steps)
    low, high = figures["overhead_quartiles"]
    print(
        f"step {1e3 * figures['seconds_ours']:.2f} ms in our loop, {1e3 * figures['seconds_bare']:.2f} ms in a bare "
        f"fit: {100 * figures['overhead']:+.1f} % (median of {values.rounds} pairs; quartiles {100 * low:+.1f} to "
        f"{100 * high:+.1f} %)"
    )
    if values.json:
        pathlib.Path(values.json).write_text(json.dumps(figures, indent=1))


def measure(config, values):
    """Returns the figures of one configuration, a dict."""
    import tensorflow as tf

    from jtln_tf.experiment.assembly import start_network
    from jtln_tf.methods.jtln.costs import current_costs

    config, setup, _ = prepare_setup(config)
    start_network(config.network, setup)
    model = compiled_model(config, setup.network)
    start = config.method.transport_start_step
    warm = start + values.warm_steps
    steps = warm + 2 * values.rounds * values.block_steps + values.replayed_steps
    pairs = training_batches(config, setup.domains, steps)
    step = tf.function(model.train_step)
    for index in range(warm):
        # If costs are not refreshed, the run estimates them from features; here the source head will do for both.
        if index == start:
            model.set_cost_matrix(current_costs(max(index, 1), model.method_state, setup))
        step(next(pairs))
    has_costs = model.method_state.has_costs

    def seconds_a_step(value):
        batches = [next(pairs) for _ in range(values.block_steps)]
        has_costs.assign(value)
        begun = time.perf_counter()
        for batch in batches:
            step(batch)
        # On a GPU it comes when the steps have been taken.
        int(model.steps_seen.numpy())
        return (time.perf_counter() - begun) / values.block_steps

    timed = [(seconds_a_step(1.0), seconds_a_step(0.0)) for _ in range(values.rounds)]
    has_costs.assign(1.0)
    seconds_with, seconds_without = (statistics.median(column) for column in zip(*timed, strict=True))
    shares = [1 - without / with_transport for with_transport, without in timed]
    return {
        "transport_share_of_step": 1 - seconds_without / seconds_with,
        "share_quartiles": [float(x) for x in np.quantile(shares, [0.25, 0.75])],
        "seconds_with": seconds_with,
        "seconds_without": seconds_without,
        "iterations": _replay(config, model, (next(pairs) for _ in range(values.replayed_steps)), step),
    }


def _replay(config, model, batches, step):
    """Returns the mean iterations of each start, for the predictions that the model makes while it trains on."""
    import tensorflow as tf

    from jtln_tf.network import outputs_model
    from jtln_tf.ot import sinkhorn_from_logits

    outputs = outputs_model(model.network)
    predict = tf.function(lambda images: outputs(tf.cast(images, tf.float32), training=True))
    method, costs = config.method, model.method_state.costs_in_use()
    n, m = costs.shape
    from_zero = np.zeros(n, np.float32), np.zeros(m, np.float32)
    counts, by_label = {}, {}

    def solve(name, logits, initial_potentials):
        output = sinkhorn_from_logits(
            *logits,
            costs,
            method.epsilon,
            threshold=method.sinkhorn_threshold,
            max_iterations=method.sinkhorn_max_iterations,
            initial_potentials=initial_potentials,
        )
        counts.setdefault(name, []).append(output.n_iters.numpy())
        return output

    for batch in batches:
        images, labels = batch["source"]
        predicted = predict(images)
        logits = [predicted[head] / method.transport_temperature for head in ("source", "target")]
        plain = count_plain_updates(*(x.numpy() for x in logits), costs, method)
        counts.setdefault("plain Sinkhorn from zero", []).append(plain)
        solve("potentials of zero", logits, [np.tile(x, (len(labels), 1)) for x in from_zero])
        solve("epsilon log marginals", logits, None)
        remembered = [by_label.get(label, from_zero) for label in labels.numpy()]
        output = solve("last image of the same label", logits, [np.stack(x) for x in zip(*remembered, strict=True)])
        by_label.update(zip(labels.numpy(), zip(output.f.numpy(), output.g.numpy(), strict=True), strict=True))
        step(batch)
    return {
        name: {"mean": float(np.mean(of_steps)), "slowest": float(np.mean([x.max() for x in of_steps]))}
        for name, of_steps in counts.items()
    }


if __name__ == "__main__":
    run_program(main, __doc__)
