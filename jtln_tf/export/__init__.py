"""A trained network as a SavedModel that serves raw images."""

from jtln_tf.export.check import check_export
from jtln_tf.export.saved_model import export_network, load_export

__all__ = ["check_export", "export_network", "load_export"]
