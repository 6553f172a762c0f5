import numpy as np
import pytest
import tensorflow as tf

from jtln_tf.data.reading.decoding import decode_image
from jtln_tf.data.reading.refusals import decode_or_explain
from tests.data.reading.test_fuzzed_images import SIZE, damage, draw_file

BYTES = [tf.TensorSpec([None], tf.string)]


@pytest.mark.slow
def test_a_batch_of_damaged_files_is_read_as_each_file_alone():
    together = tf.function(lambda files: decode_or_explain(files, SIZE, 3), input_signature=BYTES, autograph=False)
    alone = tf.function(lambda files: decode_image(files[0], SIZE, 3, portable=True), input_signature=BYTES)
    rng = np.random.default_rng(0)
    for _ in range(8):
        files = [draw_file(rng)[1] for _ in range(32)]
        files = [damage(rng, file) if rng.random() < 0.7 else file for file in files]
        images, reasons = together(tf.constant(files))
        for file, image, reason in zip(files, images.numpy(), reasons.numpy(), strict=True):
            try:
                expected = alone(tf.constant([file])).numpy()
            except (tf.errors.OpError, UnicodeDecodeError):
                expected = None
            assert (expected is None) == bool(reason)
            np.testing.assert_array_equal(image, 0 if expected is None else expected)
