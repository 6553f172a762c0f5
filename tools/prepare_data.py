"""Packs the images of a domain into a few large files, any image of which is read at once.

    python -m tools.prepare_data --domain=folder:photos --output=shards/photos

Use the result as --source=records:shards/photos: for sets whose many small files are slow to open, such as on a network
disk. The images' files are kept as they are, with all splits, classes and the class table.
"""

import dataclasses
import sys

from absl import flags

from jtln_tf.config import MOST_IMAGES, InputError, parse_domain_spec
from tools.program import load_tensorflow, require_flags, run_program

_OPTIONS_OF_RUNS = ("per_class", "test_fraction", "validation_fraction", "crop_bottom")

flags.DEFINE_string("domain", "", "Domain, written like --source of tools.train; but for what draws or crops.")
flags.DEFINE_string("data_root", "", "Folder that relative paths, and tfds: data, are looked up in.")
flags.DEFINE_string("cache_dir", "", "Folder that archives are unpacked in; empty: .jtln_cache in --data_root.")
flags.DEFINE_string("output", "", "Folder of the records.")
flags.DEFINE_integer("images_per_shard", 10_000, "Most images in a file.", lower_bound=1, upper_bound=MOST_IMAGES)
flags.DEFINE_bool("overwrite", False, "Replace what an earlier call wrote into --output.")


def main():
    """Checks the flags, then writes."""
    values = flags.FLAGS
    require_flags("domain", "output")
    spec = parse_domain_spec(values.domain)
    for field in dataclasses.fields(spec):
        if field.name in _OPTIONS_OF_RUNS and getattr(spec, field.name) != field.default:
            received = f"{field.name} in {values.domain!r}. Hint: give it to `records:`"
            raise InputError(f"`domain` must not draw, divide or crop images: a run does. Received: {received}.")

    load_tensorflow()
    from tqdm import tqdm

    from jtln_tf.data import list_domain, write_records

    listing = list_domain(values.domain, data_root=values.data_root, cache_dir=values.cache_dir)
    total = sum(len(examples) for examples in listing.splits.values())
    with tqdm(total=total, unit="image", file=sys.stderr) as bar:
        options = {"images_per_shard": values.images_per_shard, "overwrite": values.overwrite}
        write_records(listing, values.output, progress=bar.update, **options)
    splits = ", ".join(sorted(listing.splits))
    print(f"records:{values.output}  {total} images, {len(listing.class_names)} classes, {splits}")


if __name__ == "__main__":
    run_program(main, __doc__)
