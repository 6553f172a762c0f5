"""What a domain holds, before a run trains on it: figures and text."""

from jtln_tf.description.divided_domain import DividedDomain, divide_domain
from jtln_tf.description.summary import describe_domain
from jtln_tf.description.text import format_description

__all__ = ["DividedDomain", "describe_domain", "divide_domain", "format_description"]
