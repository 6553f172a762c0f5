"""What a domain holds, before a run trains on it: figures and text."""

from jtln_tf.description.summary import describe_domain
from jtln_tf.description.text import format_description
