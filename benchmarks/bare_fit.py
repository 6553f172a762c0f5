"""Our training loop, with the callbacks of a run, against a bare Keras fit of the same network on the same batches."""

import dataclasses
import tempfile
import time
import types

import keras
import numpy as np
import tensorflow as tf

from benchmarks.parts import compiled_model, prepare_setup
from jtln_tf.batches import pair_domains
from jtln_tf.config import SIDES, DeviceConfig
from jtln_tf.experiment.watching import Watcher
from jtln_tf.experiment.workdir import Run
from jtln_tf.methods import Stage
from jtln_tf.network import copy_network, outputs_model
from jtln_tf.trainer.checkpoints import Checkpoints, TrainingState
from jtln_tf.trainer.stages import train_stage


def measure_overhead(config, rounds: int, block_steps: int) -> dict:
    """Returns seconds a step of both, and by how much ours is longer: the median over pairs of blocks."""
    # No block comes to a validation or a checkpoint: a bare fit has none.
    training = dataclasses.replace(config.training, steps=10**6, steps_per_epoch=10**6)
    config, setup, _ = prepare_setup(dataclasses.replace(config, training=training))
    bare = _bare_model(copy_network(setup.network), config)
    model = compiled_model(config, setup.network)
    with tempfile.TemporaryDirectory() as folder:
        ours, close = _our_fit(config, setup, model, folder, block_steps)
        fits = (
            ours,
            lambda pairs: bare.fit(_concatenate(pairs), steps_per_epoch=block_steps, shuffle=False, verbose=0),
        )
        taken = []
        # The first pair compiles.
        for number in range(rounds + 1):
            # Which of them comes first changes, because the second may find a warmer cache.
            order = (0, 1) if number % 2 else (1, 0)
            seconds = dict.fromkeys(order, 0.0)
            for which in order:
                begun = time.perf_counter()
                fits[which](_pairs(config, setup, number * block_steps))
                seconds[which] = time.perf_counter() - begun
            taken.append((seconds[0] / block_steps, seconds[1] / block_steps))
        close()
    taken = np.array(taken[1:])
    ratios = taken[:, 0] / taken[:, 1] - 1
    return {
        "overhead": float(np.median(ratios)),
        "overhead_quartiles": [float(x) for x in np.quantile(ratios, [0.25, 0.75])],
        "seconds_ours": float(np.median(taken[:, 0])),
        "seconds_bare": float(np.median(taken[:, 1])),
    }


def _pairs(config, setup, first_step):
    names = ("source_batch", "target_batch", "source_augmentation", "target_augmentation")
    options = {name: getattr(config.data, name) for name in names}
    return pair_domains(*setup.domains.values(), first_step=first_step, seed=config.training.seed, **options)


def _our_fit(config, setup, model, folder, block_steps):
    """Returns a function that trains on pairs for a block, and one that ends it."""
    run, state = Run(folder, config), TrainingState()
    run.checkpoints.mkdir()
    watcher = Watcher(run, types.SimpleNamespace(model=model, setup=setup), DeviceConfig(), state)
    checkpoints = Checkpoints(run.checkpoints, model, state, setup.network)

    def fit(pairs):
        # The stage ends behind the block, so that no block is the last.
        stage = Stage("block", block_steps + 1, SIDES, state.step)
        callbacks = watcher.callbacks(stage, checkpoints)
        train_stage(
            model, pairs, dataclasses.replace(stage, steps=block_steps), first_step=state.step, callbacks=callbacks
        )

    return fit, lambda: watcher.__exit__(None, None, None)


def _bare_model(network, config):
    """Returns a compiled Keras model of the logits of each domain's own images; the source's stand first."""
    network.trainable = True
    outputs = outputs_model(network)
    first = config.data.source_batch
    logits = {
        "source": keras.layers.Lambda(lambda x: x[:first])(outputs.output["source"]),
        "target": keras.layers.Lambda(lambda x: x[first:])(outputs.output["target"]),
    }
    model = keras.Model(outputs.input, logits)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    optimizer = keras.optimizers.AdamW(config.training.head_learning_rate)
    model.compile(optimizer, loss=dict.fromkeys(SIDES, loss), jit_compile=False)
    return model


def _concatenate(pairs):
    def join(pair):
        images = tf.concat([pair[side][0] for side in SIDES], axis=0)
        return tf.cast(images, tf.float32), {side: pair[side][1] for side in SIDES}

    return pairs.map(join, num_parallel_calls=tf.data.AUTOTUNE).prefetch(tf.data.AUTOTUNE)
