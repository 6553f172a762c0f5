"""Domains: labelled images with class names, from packages, folders or TensorFlow Datasets."""

from jtln_tf.data.decoded import open_split
from jtln_tf.data.domain import DividedDomain, Domain, divide_domain, list_domain, load_domain, load_domains
from jtln_tf.data.duplicates import digest_pixels, find_shared
from jtln_tf.data.examples import Examples
from jtln_tf.data.reading.decoding import decode_image, explain_error
from jtln_tf.data.reading.foreign_formats import FOREIGN_SUFFIXES
from jtln_tf.data.reading.images import Files, Images
from jtln_tf.data.reading.pillow_formats import to_png
from jtln_tf.data.reading.refusals import decode_or_explain
from jtln_tf.data.reading.split import Split, decode_all
from jtln_tf.data.sources.listing import Listing
from jtln_tf.data.sources.records import write_records
