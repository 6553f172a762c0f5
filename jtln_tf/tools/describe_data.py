"""Shows what a domain holds, before a run trains on it.

    jtln describe --domain=folder:photos --output=photos.png

Prints classes, counts, sizes and formats; files that cannot be decoded; images that stand in two places: twice in a
split, in training and test (a leak), under two labels. --against=SPEC looks for the domain's images in another one,
such as the source. Options of the domain apply: what is shown is what a run would use. --output draws a few images of
each class.
"""

import json
import pathlib

from absl import flags

from jtln_tf.config import MOST_SEED, parse_domain_spec
from jtln_tf.tools.program import check_output, load_tensorflow, require_flags, run_program
from jtln_tf.tools.progress import show_progress

flags.DEFINE_string("domain", "", "Domain, written like --source of jtln train.")
flags.DEFINE_string("against", "", "Another domain, in which images of the first are looked for.")
flags.DEFINE_string("data_root", "", "Folder that relative paths, and tfds: data, are looked up in.")
flags.DEFINE_string("cache_dir", "", "Folder that archives are unpacked in; empty: .jtln_cache in --data_root.")
flags.DEFINE_integer(
    "seed", 0, "Seed of the draw of per_class, and of the images of --output.", lower_bound=0, upper_bound=MOST_SEED
)
flags.DEFINE_string("output", "", "File of a picture with a few images of each class, .png.")
flags.DEFINE_bool("overwrite", False, "Replace --output.")
flags.DEFINE_bool("all", False, "Print every class, and every bad or repeated image.")
flags.DEFINE_bool("json", False, "Print everything as JSON.")


def main():
    """Checks the flags, then describes and draws."""
    values = flags.FLAGS
    require_flags("domain")
    domain, against = (parse_domain_spec(text) if text else None for text in (values.domain, values.against))
    if values.output:
        check_output(values.output, (".png",))

    load_tensorflow()
    from jtln_tf.data import divide_domain
    from jtln_tf.description import describe_domain, format_description
    from jtln_tf.report.contact_sheet import save_contact_sheet

    options = {"data_root": values.data_root, "cache_dir": values.cache_dir, "seed": values.seed}
    domain, against = (divide_domain(spec, **options) if spec else None for spec in (domain, against))
    if values.output:
        # First, because a file that cannot be written is found before all images are decoded.
        pathlib.Path(values.output).parent.mkdir(parents=True, exist_ok=True)
        save_contact_sheet(domain, values.output, seed=values.seed)
    with show_progress(is_silent=values.json) as progress:
        description = describe_domain(domain, against, progress=progress)
    if values.json:
        print(json.dumps(description))
        return
    print(format_description(description, show_all=values.all))
    if values.output:
        print(f"\n{'Picture':14}{values.output}")


def run():
    """Runs the program."""
    run_program(main, __doc__, domains=("domain",))


if __name__ == "__main__":
    run()
