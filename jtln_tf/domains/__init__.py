"""Domains: labelled images with class names, from packages, folders or TensorFlow Datasets. Floor 1."""

from jtln_tf.domains.array_file import cached_array
from jtln_tf.domains.class_table import read_class_table
from jtln_tf.domains.contents import digest_files, digest_pixels, find_shared, read_files
from jtln_tf.domains.decoding import decode_image
from jtln_tf.domains.domain import Domain, default_cache_folder, divide_listing, list_domain, load_domain
from jtln_tf.domains.examples import Examples
from jtln_tf.domains.listing import Listing
from jtln_tf.domains.loading import decode_all, open_split
from jtln_tf.domains.records import write_records
from jtln_tf.domains.split import Split

__all__ = [
    "Domain",
    "Examples",
    "Listing",
    "Split",
    "cached_array",
    "decode_all",
    "decode_image",
    "default_cache_folder",
    "digest_files",
    "digest_pixels",
    "divide_listing",
    "find_shared",
    "list_domain",
    "load_domain",
    "open_split",
    "read_class_table",
    "read_files",
    "write_records",
]
