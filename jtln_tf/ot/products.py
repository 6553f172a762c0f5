"""Matrix products in full float32, whatever the rest of a program computes in."""

import tensorflow as tf
from tensorflow.compiler.tf2xla.python import xla
from tensorflow.compiler.xla import xla_data_pb2

# On GPUs from Ampere on TensorFlow rounds float32 factors to 10 bits (TF32). A threshold of 1e-4 needs more, and to
# switch it off for the whole program would slow its convolutions down.
_PRECISION = xla_data_pb2.PrecisionConfig(operand_precision=[xla_data_pb2.PrecisionConfig.HIGHEST] * 2)


def matmul(a: tf.Tensor, b: tf.Tensor, *, transpose_a: bool = False, transpose_b: bool = False) -> tf.Tensor:
    """Returns the product of two matrices, unrounded; only inside of functions that XLA compiles."""
    contracted = xla_data_pb2.DotDimensionNumbers(
        lhs_contracting_dimensions=[0 if transpose_a else 1], rhs_contracting_dimensions=[1 if transpose_b else 0]
    )
    return xla.dot_general(a, b, contracted, precision_config=_PRECISION)
