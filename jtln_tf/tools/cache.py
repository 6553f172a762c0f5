"""Shows what is kept in a cache folder, and empties it.

    jtln cache --data_root=DIR

Lists the activations of each frozen trunk (`--cache_features`), decoded images (`--cache=disk`) and unpacked archives.
--clear removes them: only what this program wrote and marked, and nothing else in the folder. A run that is reading
them goes on.
"""

import datetime
import json

from absl import flags

from jtln_tf.features.cache_folder import clear_cache, describe_cache
from jtln_tf.files import default_cache_folder
from jtln_tf.tools.program import run_program

flags.DEFINE_string("cache_dir", "", "Cache folder; empty: .jtln_cache in --data_root.")
flags.DEFINE_string("data_root", "", "Folder of the data, whose cache folder is meant.")
flags.DEFINE_bool("clear", False, "Remove what is kept.")
flags.DEFINE_bool("json", False, "Print everything as JSON.")


def main():
    """Lists the folder, then removes if that is asked for."""
    values = flags.FLAGS
    folder = values.cache_dir or default_cache_folder(values.data_root)
    description = describe_cache(folder)
    if values.clear:
        description["removed_bytes"] = clear_cache(folder)
    if values.json:
        print(json.dumps(description))
        return
    print(f"Cache folder  {folder}")
    for trunk in description["trunks"]:
        print(f"trunk {trunk['trunk']}  {trunk['images']:9,} views  {_format(trunk)}")
    for others in description["others"]:
        print(f"{others['kind']:22}  {others['files']:9,} files  {_format(others)}")
    if not description["trunks"] and not description["others"]:
        print("holds nothing that this program keeps")
    if values.clear:
        print(f"removed {description['removed_bytes'] / 2**20:,.1f} MiB")
        if left := describe_cache(folder)["others"]:
            kinds = ", ".join(one["kind"] for one in left)
            print(f"left as they are, because the folder does not carry the mark of a cache folder: {kinds}")


def _format(entry):
    used = datetime.datetime.fromtimestamp(entry["last_use"])
    return f"{entry['bytes'] / 2**20:11,.1f} MiB  last used {used:%Y-%m-%d %H:%M}"


def run():
    """Runs the program."""
    run_program(main, __doc__)


if __name__ == "__main__":
    run()
