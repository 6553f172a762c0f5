"""What is told while the runs of a comparison end, one after the other."""

import logging
import sys
import time

import tqdm

from jtln_tf.comparison.jobs import Cell
from jtln_tf.monitoring.progress import format_seconds

_LOG = logging.getLogger("jtln_tf.comparison")


class Progress:
    """Tells of each run its place among all, its accuracy, and how long the others will take at the pace so far.

    Runs that an earlier call has finished say nothing of the pace.

    A terminal also gets a bar over all runs, until the context ends.
    """

    def __init__(self, num_runs: int):
        """Begins to measure time; `num_runs` is the number of runs in all comparisons."""
        self._num_runs, self._num_ended, self._num_kept, self._started = num_runs, 0, 0, time.monotonic()
        # Elsewhere the lines say all. Not False: TQDM_DISABLE holds then.
        options = {} if sys.stderr.isatty() else {"disable": True}
        self._bar = tqdm.tqdm(
            total=num_runs, desc="runs", unit="run", dynamic_ncols=True, smoothing=0, mininterval=0, **options
        )

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._bar.close()

    def tell(self, cell: Cell, result: dict, pair: str = "", *, is_kept: bool = False) -> None:
        """Tells of a run that has ended.

        Args:
            cell: The run.
            result: Its result.
            pair: Name of its comparison if there are several.
            is_kept: Whether an earlier call had finished it.
        """
        self._num_ended += 1
        self._num_kept += is_kept
        labels = None if cell.variant.label_count is None else f"{cell.variant.label_count} label(s) a class"
        words = ", ".join(filter(None, (pair, cell.variant.title, labels, f"seed {cell.seed}")))
        self._bar.set_postfix_str(words, refresh=False)
        self._bar.update()
        left, num_made = self._num_runs - self._num_ended, self._num_ended - self._num_kept
        seconds = left * (time.monotonic() - self._started) / max(num_made, 1)
        _LOG.info(
            "Run %d of %d: %s: %.1f %%%s",
            *(self._num_ended, self._num_runs, words, 100 * result["target_accuracy"]),
            f" (about {format_seconds(seconds)} left)" if left and num_made else "",
        )
