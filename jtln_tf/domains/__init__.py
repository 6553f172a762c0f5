"""Domains: labelled images with class names, from packages, folders or TensorFlow Datasets. Floor 1."""

from jtln_tf.domains.decoding import decode_image
from jtln_tf.domains.domain import Domain, Split, load_domain
from jtln_tf.domains.folder import read_class_table

__all__ = ["Domain", "Split", "decode_image", "load_domain", "read_class_table"]
