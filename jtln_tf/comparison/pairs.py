"""One comparison after the other, and the tables over all of them."""

import os
import pathlib
from collections.abc import Sequence

from jtln_tf.comparison.overview import KIND, OVERVIEW_FILES, write_overview
from jtln_tf.comparison.plan import Variant
from jtln_tf.comparison.progress import Progress
from jtln_tf.comparison.run import check_is_ours, check_runs, run_comparison
from jtln_tf.config import InputError
from jtln_tf.files import MARK_FILE


def run_pairs(
    variants: dict[str, list[Variant]], seeds: Sequence[int], output: str | os.PathLike, **options
) -> dict[str, list[dict]]:
    """Runs a comparison for each pair of domains, each in the folder of its name.

    The tables over all pairs are written anew after each.

    Args:
        variants: Lines of each comparison's table, by its name.
        seeds: Seeds of all comparisons.
        output: Folder of all.
        options: Further arguments of `run_comparison`.

    Returns:
        Rows of each comparison's table, by its name.

    Raises:
        InputError: As `run_comparison`, or if `output` holds files that this would replace but did not write, or a pair
            has the name of such a file.
        RunStoppedError: If a run cannot go on.
    """
    output = pathlib.Path(output)
    check_is_ours(output, KIND, OVERVIEW_FILES)
    if taken := sorted({*OVERVIEW_FILES, MARK_FILE} & {*variants}):
        raise InputError(f"`pairs` must have other names than the files beside them. Received: {taken[0]!r}.")
    # Before the first run: what the last pair lacks would come late.
    for name, own in variants.items():
        check_runs(own, seeds, output / name, overwrite=options.get("overwrite", False))
    rows = {}
    with Progress(len(seeds) * sum(map(len, variants.values()))) as progress:
        for name, own in variants.items():
            rows[name] = run_comparison(own, seeds, output / name, progress=progress, pair=name, **options)
            write_overview(output, rows)
    return rows
