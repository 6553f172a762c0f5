"""Where labelled images come from: one file for each kind of domain, and one line for it in `LISTERS`.

A lister takes a `DomainSpec`, the folder of relative paths and the cache folder, and returns a `Listing`. The names of
the kinds stand in `jtln_tf.config.domain_spec` too, which parses them without importing TensorFlow.
"""

from jtln_tf.data.sources.builtin import list_builtin
from jtln_tf.data.sources.file_list import list_file_list
from jtln_tf.data.sources.folder import list_folder
from jtln_tf.data.sources.records import list_records
from jtln_tf.data.sources.tfds import list_tfds

LISTERS = {
    "builtin": list_builtin,
    "folder": list_folder,
    "list": list_file_list,
    "records": list_records,
    "tfds": list_tfds,
}
