"""Loops over a few problems at a time, for work that takes memory of the size of the cost matrix each."""

import tensorflow as tf

# Entries of the plans held at once: one problem if the cost matrix is this large, more if it is smaller. All problems
# in a block wait for its slowest: 2^13 took up to 1.5 times as long, 2^16 up to twice.
_BLOCK_ENTRIES = 2**11


def for_each_block(problem, wanted, body, start):
    """Runs `body(indices [k], fresh [k], *state)` over the `wanted` problems (booleans [B]), a few at a time.

    The body returns the new state, a list of tensors that begins as `start`. The last block is filled up with repeated
    problems, which are not fresh. Returns the state after the last block.
    """
    size = tf.clip_by_value(_BLOCK_ENTRIES // tf.size(problem.cost_matrix), 1, tf.size(wanted))
    order = tf.argsort(tf.cast(~wanted, tf.int32), stable=True)
    count = tf.reduce_sum(tf.cast(wanted, tf.int32))

    def visit(first, *state):
        places = first + tf.range(size)
        indices = tf.gather(order, tf.minimum(places, count - 1))
        return first + size, *body(indices, places < count, *state)

    return list(tf.while_loop(lambda first, *_: first < count, visit, (tf.constant(0), *start))[1:])


def gather(problem, indices):
    """Returns the problems with these indices."""
    masses = {name: tf.gather(getattr(problem, name), indices) for name in ("a", "b", "log_a", "log_b")}
    return problem._replace(**masses)


def put(results, indices, fresh, new):
    """Returns `results` [B, ...] with the rows of the fresh problems replaced by those of `new` [k, ...]."""
    count = tf.shape(results)[0]
    padded = tf.concat([results, results[:1]], axis=0)
    return tf.tensor_scatter_nd_update(padded, tf.where(fresh, indices, count)[:, None], new)[:-1]
