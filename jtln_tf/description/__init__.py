"""What a domain holds, before a run trains on it: figures, text, a picture. Floor 2."""

from jtln_tf.description.describing import describe_domain, divide_domain
from jtln_tf.description.text import format_description
from jtln_tf.report.contact_sheet import save_contact_sheet

__all__ = ["describe_domain", "divide_domain", "format_description", "save_contact_sheet"]
