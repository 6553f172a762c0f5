"""Where labelled images come from: one file for each kind of domain, and one line for it in `LISTERS`.

A lister takes a `DomainSpec`, the folder of relative paths (empty is the current one) and the cache folder. It returns
a `Listing` of the selected classes. It raises `MissingInputError` if the data is not there, and `InputError` if it does
not fit the specification. The names of the kinds stand in `jtln_tf.config.domain_spec` too, which needs no TensorFlow.
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
