"""What a person is told of a run whose numbers are no longer finite."""

import os

import numpy as np
import tensorflow as tf

from jtln_tf.batches.shuffling import mix_seed, shuffled_rows
from jtln_tf.config import SIDES, InputError, NonFiniteLossError
from jtln_tf.experiment.assembly import Assembly
from jtln_tf.experiment.workdir import Run
from jtln_tf.methods import Stage
from jtln_tf.trainer.checkpoints import read_state

# Images of each side that the message names.
_NAMED = 4
_MEANS = "a lower --head_learning_rate and --backbone_learning_rate, or --clip_norm=1"


def explain_divergence(
    error: NonFiniteLossError, run: Run, assembly: Assembly, stage: Stage, broken: str = ""
) -> NonFiniteLossError:
    """Returns the error with the images of the batch, the checkpoint that is kept, and how to go on from it.

    `broken` is what `find_broken_part` found.
    """
    parts = [str(error).partition(" Hint: ")[0]]
    if broken:
        parts.append(f"The first to break is {broken}.")
    if error.step:
        images = [_name_images(run, assembly, side, error.step) for side in stage.domains]
        parts.append(f"Its batch: {'; '.join(images)}.")
    try:
        kept = os.path.isdir(run.checkpoints) and read_state(run.checkpoints, run.name)
    except InputError:
        kept = None
    if kept:
        parts.append(f"The checkpoint of step {kept.step} is kept. Hint: --resume with {_MEANS}, goes on from it.")
    else:
        parts.append(f"No checkpoint was saved yet. Hint: {_MEANS}.")
    if not run.config.training.debug_nans:
        parts.append("--debug_nans finds the layer.")
    return NonFiniteLossError(" ".join(parts), error.step)


def _name_images(run, assembly, side, step):
    """Returns the names of the first images of a side in the batch of a step, which counts from 1."""
    config, split = run.config, assembly.setup.inputs[side].train
    batch = getattr(config.data, f"{side}_batch")
    places = tf.range(batch, dtype=tf.int64) + (step - 1) * batch
    rows, _ = shuffled_rows(places, len(split), mix_seed(config.training.seed, SIDES.index(side)))
    # An array of pixels has no names.
    describe = "row {}".format if split.origin.is_decoded else split.origin.describe
    names = [describe(row) for row in np.asarray(rows)[:_NAMED]]
    more = f" and {batch - _NAMED} more" if batch > _NAMED else ""
    return f"{side} {', '.join(names)}{more}"
