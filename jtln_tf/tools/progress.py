"""Progress bars of the programs."""

import contextlib
import sys
from collections.abc import Callable, Iterator


@contextlib.contextmanager
def show_progress(is_silent: bool) -> Iterator[Callable[[str, int, int], None]]:
    """Gives a function that moves the bar of a title, on stderr, to the number of images done of all."""
    from tqdm import tqdm

    with contextlib.ExitStack() as stack:
        bars = {}

        def move(title, done, total):
            if title not in bars:
                # Not False: TQDM_DISABLE holds then.
                options = {"disable": True} if is_silent else {}
                bar = tqdm(total=total, desc=title, unit="image", file=sys.stderr, **options)
                bars[title] = stack.enter_context(bar)
            bars[title].update(done - bars[title].n)

        yield move
