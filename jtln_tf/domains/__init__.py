"""Domains: labelled images with class names, from packages, folders or TensorFlow Datasets. Floor 1."""

from jtln_tf.domains.array_file import cached_array
from jtln_tf.domains.class_table import read_class_table
from jtln_tf.domains.decoding import decode_image
from jtln_tf.domains.domain import Domain, default_cache_folder, list_domain, load_domain
from jtln_tf.domains.records import write_records
from jtln_tf.domains.split import Split

__all__ = [
    "Domain",
    "Split",
    "cached_array",
    "decode_image",
    "default_cache_folder",
    "list_domain",
    "load_domain",
    "read_class_table",
    "write_records",
]
