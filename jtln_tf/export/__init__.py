"""A trained network to a SavedModel that serves raw images."""

from jtln_tf.export.saved_model import check_export, export_network, load_export

__all__ = ["check_export", "export_network", "load_export"]
