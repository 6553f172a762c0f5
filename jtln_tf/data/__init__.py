"""Domains: labelled images with class names, from packages, folders or TensorFlow Datasets."""

from jtln_tf.data.cache.array_file import cached_array
from jtln_tf.data.decoded import open_split
from jtln_tf.data.domain import Domain, default_cache_folder, divide_listing, list_domain, load_domain, load_domains
from jtln_tf.data.duplicates import digest_files, digest_pixels, find_shared, read_files
from jtln_tf.data.examples import Examples
from jtln_tf.data.reading.decoding import decode_image
from jtln_tf.data.reading.images import Files, Images, Pixels, Records
from jtln_tf.data.reading.split import Split, decode_all
from jtln_tf.data.sources.class_table import read_class_table
from jtln_tf.data.sources.listing import Listing
from jtln_tf.data.sources.records import write_records

__all__ = [
    "Domain",
    "Examples",
    "Files",
    "Images",
    "Listing",
    "Pixels",
    "Records",
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
    "load_domains",
    "open_split",
    "read_class_table",
    "read_files",
    "write_records",
]
