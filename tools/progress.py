"""Progress bars of the programs."""

import sys


class Progress:
    """A bar on stderr for each pass over the images of a domain."""

    def __init__(self, is_silent):
        self._is_silent, self._bar = is_silent, None

    def __enter__(self):
        return self

    def __exit__(self, *error):
        # What is said next begins a line.
        self._close()

    def __call__(self, title, done, total):
        """Moves the bar of a title to the number of images that are done."""
        from tqdm import tqdm

        if self._bar is None:
            self._bar = tqdm(total=total, desc=title, unit="image", file=sys.stderr, disable=self._is_silent)
        self._bar.update(done - self._bar.n)
        if done >= total:
            self._close()

    def _close(self):
        if self._bar is not None:
            self._bar.close()
            self._bar = None
