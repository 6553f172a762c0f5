"""What Bi-tuning contrasts an image with: keys of earlier images of each class, and the projections of features."""

import keras
import tensorflow as tf


class KeyQueue(keras.layers.Layer):
    """The last vectors of each class.

    Attributes:
        vectors: Vectors [classes, length, D]; those of places that were not taken yet mean nothing.
        added: Number of vectors that came of each class [classes].
    """

    def __init__(self, num_classes: int, length: int, width: int, name: str):
        """Makes an empty queue."""
        super().__init__(name=name, trainable=False)
        self._length = length
        options = {"initializer": "zeros", "trainable": False}
        self.vectors = self.add_weight(shape=(num_classes, length, width), name="vectors", dtype="float32", **options)
        self.added = self.add_weight(shape=(num_classes,), name="added", dtype="int32", **options)

    def empty(self) -> None:
        """Forgets all vectors."""
        self.added.assign(keras.ops.zeros_like(self.added))

    def add(self, vectors: tf.Tensor, labels: tf.Tensor) -> None:
        """Adds vectors [B, D] with class indices [B]; each takes the place of the oldest of its class."""
        added = tf.convert_to_tensor(self.added)
        of_class = tf.one_hot(labels, added.shape[0], dtype=tf.int32)
        rank = tf.reduce_sum(tf.cumsum(of_class, exclusive=True) * of_class, axis=1)
        places = tf.stack([labels, (tf.gather(added, labels) + rank) % self._length], axis=1)
        # If a batch has more of a class than the queue, several get one place: all write what the last one does.
        is_same = tf.reduce_all(places[:, None] == places[None], axis=2)
        last = tf.reduce_max(tf.where(is_same, tf.range(tf.shape(labels)[0])[None], -1), axis=1)
        self.vectors.assign(
            tf.tensor_scatter_nd_update(tf.convert_to_tensor(self.vectors), places, tf.gather(vectors, last))
        )
        self.added.assign(added + tf.reduce_sum(of_class, axis=0))

    def read(self) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        """Returns the vectors [classes * length, D], the class of each, and whether its place is taken."""
        vectors, added = tf.convert_to_tensor(self.vectors), tf.convert_to_tensor(self.added)
        classes = tf.repeat(tf.range(added.shape[0]), self._length)
        is_taken = tf.range(self._length)[None] < added[:, None]
        return tf.reshape(vectors, [-1, vectors.shape[-1]]), classes, tf.reshape(is_taken, [-1])


class Contrast(keras.layers.Layer):
    """The state of Bi-tuning.

    Attributes:
        projector: Trained linear map of features [B, D], whose outputs are contrasted.
        key_projector: The same for keys; it follows slowly.
        features: `KeyQueue` of features.
        projections: `KeyQueue` of projections.
    """

    def __init__(self, num_classes: int, feature_width: int, vector_width: int, width: int, length: int):
        """Makes the variables for features [B, feature_width], of which vectors [B, vector_width] are kept."""
        super().__init__(name="contrast")
        self.projector = keras.layers.Dense(width, dtype="float32", name="projector")
        self.key_projector = keras.layers.Dense(width, dtype="float32", name="key_projector", trainable=False)
        for layer in (self.projector, self.key_projector):
            layer.build((None, feature_width))
        self.features = KeyQueue(num_classes, length, vector_width, name="features")
        self.projections = KeyQueue(num_classes, length, width, name="projections")

    def begin(self) -> None:
        """Forgets the keys, and lets the projector of keys be that of images."""
        self.key_projector.set_weights(self.projector.get_weights())
        for queue in (self.features, self.projections):
            queue.empty()


def contrast(own: tf.Tensor, others: tf.Tensor, is_positive: tf.Tensor, is_taken: tf.Tensor) -> tf.Tensor:
    """Returns the contrastive loss [B] of scores: -log softmax, on average over the positive ones.

    Args:
        own: Score [B] of the image's own pair, which is positive.
        others: Scores [B, K] of the keys.
        is_positive: Which keys [B, K] are of the image's class.
        is_taken: Which of the keys [K] there are.
    """
    masked = tf.where(is_taken[None], others, -1e9)
    partition = tf.reduce_logsumexp(tf.concat([own[:, None], masked], axis=1), axis=1)
    positive = tf.cast(is_positive & is_taken[None], own.dtype)
    total = own + tf.reduce_sum(positive * others, axis=1)
    return partition - total / (1.0 + tf.reduce_sum(positive, axis=1))
