"""Data sets that TensorFlow Datasets lacks. Importing this package imports TensorFlow Datasets and registers them."""

from jtln_tf.domains.builders.fgvc_aircraft import FgvcAircraft
from jtln_tf.domains.builders.office31 import Office31

__all__ = ["FgvcAircraft", "Office31"]
