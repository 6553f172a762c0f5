"""Loops over a few problems at a time, for work that takes memory of the size of the cost matrix each. Floor 1."""

import tensorflow as tf

# Entries of the plans held at once: one problem if the cost matrix is this large, more if it is smaller. All problems
# in a block wait for its slowest: 2^13 took up to 1.5 times as long, 2^16 up to twice.
_BLOCK_ENTRIES = 2**11


def for_each_block(problem, wanted, body, start):
    """Runs `body(indices, fresh, *state)` over the wanted problems, a few at a time.

    Args:
        problem: `Problem`.
        wanted: Which problems to visit, booleans [B].
        body: Takes the indices [k] of some problems, booleans [k] of which are new (the last block is filled up with
            repeated ones), and the state; returns the new state.
        start: The state to start from, a sequence of tensors.

    Returns:
        The state after the last block, a list.
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
    """Writes the rows `new` [k, ...] of those problems that are new."""
    count = tf.shape(results)[0]
    padded = tf.concat([results, results[:1]], axis=0)
    return tf.tensor_scatter_nd_update(padded, tf.where(fresh, indices, count)[:, None], new)[:-1]
