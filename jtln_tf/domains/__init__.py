"""Domains: labelled images with class names, from packages, folders or TensorFlow Datasets. Floor 1."""

from jtln_tf.domains.decoding import decode_image
from jtln_tf.domains.domain import Domain, list_domain, load_domain
from jtln_tf.domains.folder import read_class_table
from jtln_tf.domains.records import write_records
from jtln_tf.domains.split import Split

__all__ = ["Domain", "Split", "decode_image", "list_domain", "load_domain", "read_class_table", "write_records"]
