"""Data sets that TensorFlow Datasets lacks. Importing this package imports TensorFlow Datasets and registers them."""

from jtln_tf.data.sources.builders.fgvc_aircraft import FgvcAircraft
from jtln_tf.data.sources.builders.office31 import Office31
