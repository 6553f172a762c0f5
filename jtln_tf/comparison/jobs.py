"""The runs of a comparison: one after the other in this process, or several at once in processes of their own."""

import contextlib
import dataclasses
import logging
import multiprocessing
import os
import sys
import tempfile
from collections.abc import Callable, Iterator
from multiprocessing import connection

from jtln_tf.comparison.plan import Variant
from jtln_tf.config import RunStoppedError
from jtln_tf.files import available_memory

# What a process takes that trains on kept activations, with room to spare.
_BYTES_PER_JOB = 2 * 2**30
# The last line that a process wrote before it ended says why.
_SHOWN = 300


@dataclasses.dataclass(frozen=True, eq=False)
class Cell:
    """One run of a comparison: a line of the table, and a seed."""

    variant: Variant
    seed: int


def choose_jobs(num_cells: int) -> int:
    """Returns how many runs at once are fast: one a core, as far as memory goes, or one if there is a GPU."""
    import tensorflow as tf

    if tf.config.list_physical_devices("GPU"):
        return 1
    return max(1, min(len(os.sched_getaffinity(0)), available_memory() // _BYTES_PER_JOB, num_cells))


def run_cells(cells: list[Cell], make_runner: Callable, jobs: int) -> Iterator[tuple[Cell, dict]]:
    """Runs cells and yields each with its result as it ends.

    `make_runner` is called once in each process, and returns what is called with each cell. If cells leave on the disk
    what the others need, one runs before they begin, with all cores.

    Raises:
        RunStoppedError: If a process ends before its run does. What a run raises is raised here, and ends the others.
    """
    waiting = list(cells)
    if jobs == 1 or len(waiting) < 3:
        run = make_runner()
        yield from ((cell, run(cell)) for cell in waiting)
        return
    if _leaves_files(waiting[0].variant.config):
        # One that begins at the class means looks at both domains, a probe at the target alone.
        first = waiting.pop(next((n for n, cell in enumerate(waiting) if cell.variant.config.method.uses_start), 0))
        yield first, make_runner()(first)
    with contextlib.ExitStack() as stack:
        workers = [stack.enter_context(_Worker(make_runner, jobs)) for _ in range(min(jobs, len(waiting)))]
        for worker in workers:
            _give_next(worker, waiting, workers)
        while any(worker.cell for worker in workers):
            for ready in connection.wait([worker.connection for worker in workers if worker.cell]):
                worker = next(one for one in workers if one.connection is ready)
                if (ended := worker.receive()) is not None:
                    # Before the caller draws the tables of what has ended.
                    _give_next(worker, waiting, workers)
                    yield ended


def _leaves_files(config):
    """Returns whether a run downloads weights, keeps activations, or prepares a data set."""
    domains = (config.data.source, config.data.target)
    # The backbone may still be `auto`.
    return config.resolve().network.is_pretrained or any(domain.kind == "tfds" for domain in domains)


def _give_next(worker, waiting, workers):
    """Lets a process that is at no run begin one that waits, if any."""
    if waiting:
        others = [other.cell for other in workers if other.cell]
        worker.begin(waiting.pop(choose_cell(waiting, worker.last, others)))


def choose_cell(waiting: list[Cell], last: Cell | None, others: list[Cell]) -> int:
    """Returns the place of the cell that a process runs next: one that can use what its last run compiled, if any.

    Else the first of a method that no other process is at; else the last of all.
    """
    if last is not None:
        for place, cell in enumerate(waiting):
            if cell.variant.config is last.variant.config:
                return place
    taken = [other.variant.config for other in others]
    for place, cell in enumerate(waiting):
        if not any(cell.variant.config is one for one in taken):
            return place
    return len(waiting) - 1


class _Worker:
    """A process that runs one cell after the other; ends with the context."""

    def __init__(self, make_runner, jobs):
        context = multiprocessing.get_context("spawn")
        self.connection, theirs = context.Pipe()
        self.cell = self.last = None
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115
        threads = max(1, len(os.sched_getaffinity(0)) // jobs)
        self._process = context.Process(target=_work, args=(theirs, make_runner, threads), daemon=True)
        with _begins_with(self._errors, threads):
            self._process.start()
        theirs.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        # Runs end at any moment without harm, and go on when the comparison is called again.
        self._process.kill()
        self._process.join()
        self.connection.close()
        self._errors.close()

    def begin(self, cell):
        self.cell = self.last = cell
        self.connection.send((cell.variant, cell.seed))

    def receive(self):
        """Returns the cell with its result, or None if the process had only something to tell."""
        try:
            kind, value = self.connection.recv()
        except EOFError:
            raise RunStoppedError(self._describe_end()) from None
        if kind == "message":
            logging.getLogger(value.name).handle(value)
            return None
        if kind == "error":
            raise value
        ended, self.cell = self.cell, None
        return ended, value

    def _describe_end(self):
        self._process.join()
        self._errors.seek(0)
        lines = self._errors.read().decode("utf-8", "replace").strip().splitlines()
        said = f", {lines[-1][-_SHOWN:]!r}" if lines else ""
        return (
            f"Each process of a comparison must end its runs. Received: one ended with status {self._process.exitcode}"
            f"{said}. Hint: fewer --jobs need less memory; called again, the comparison goes on."
        )


@contextlib.contextmanager
def _begins_with(errors, threads):
    """Lets a process that starts meanwhile write into a file what TensorFlow notes, and NumPy use some threads."""
    sys.stderr.flush()
    kept, environment = os.dup(2), dict(os.environ)
    try:
        os.dup2(errors.fileno(), 2)
        os.environ |= dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), str(threads))
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        for name in os.environ.keys() - environment.keys():
            del os.environ[name]
        os.environ |= environment


def _work(pipe, make_runner, threads):
    """Runs cells until the pipe is closed."""
    import signal

    import tensorflow as tf

    # The terminal sends it to all; the process that started this one ends it.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    tf.config.threading.set_intra_op_parallelism_threads(threads)
    tf.config.threading.set_inter_op_parallelism_threads(threads)
    tf.get_logger().setLevel("ERROR")
    logging.getLogger().addHandler(_SendingHandler(pipe))
    with contextlib.suppress(EOFError):
        run = make_runner()
        while True:
            variant, seed = pipe.recv()
            try:
                pipe.send(("result", run(Cell(variant, seed))))
            except Exception as error:
                pipe.send(("error", error))


class _SendingHandler(logging.Handler):
    """Sends messages to the process that writes them."""

    def __init__(self, pipe):
        super().__init__(logging.WARNING)
        self._pipe = pipe

    def emit(self, record):
        record.msg, record.args, record.exc_info = record.getMessage(), None, None
        self._pipe.send(("message", record))
