"""Starts several processes on this machine that train one run together.

    jtln launch --workers=2 -- train --preset=digits --workdir=runs/digits

Each process, or worker, takes an equal share of every batch. What is shown is said by the first, the chief, which alone
writes. If one dies, all are ended, and the same command with --resume goes on from the last checkpoint. GPUs that
CUDA_VISIBLE_DEVICES names are shared out; for all GPUs of one machine, train --strategy=mirrored needs no launcher.
"""

import contextlib
import json
import os
import pathlib
import signal
import socket
import subprocess
import sys
import tempfile
import time

from absl import flags

from jtln_tf.config import InputError, RunStoppedError
from jtln_tf.tools.messages import is_json
from jtln_tf.tools.program import OUTPUT_FLAGS, run_program

flags.DEFINE_integer("workers", 2, "Number of processes.", lower_bound=1, upper_bound=64)
flags.DEFINE_integer("grace_seconds", 20, "Time that the others get to stop once one has failed.", lower_bound=0)

_POLL_SECONDS = 0.2
# The last of what a worker said is shown if it failed first.
_SHOWN_BYTES = 2000


def main(arguments):
    """Starts the workers and waits for them."""
    program, *options = arguments
    if program not in ("train",):
        raise InputError(f"`PROGRAM` must be train. Received: {program!r}.")
    if any(option.startswith(("--strategy", "-strategy")) for option in options):
        raise InputError("`strategy` must not be given: the launcher sets it. Received: --strategy.")
    told = [flags.FLAGS[name].serialize() for name in OUTPUT_FLAGS if flags.FLAGS[name].present]
    command = [sys.executable, "-m", "jtln_tf", program, *told, *options, "--strategy=multi_worker"]
    with tempfile.TemporaryDirectory() as folder:
        workers = _Workers(command, flags.FLAGS.workers, folder)
        for one in (signal.SIGTERM, signal.SIGHUP):
            signal.signal(one, lambda number, _: workers.pass_on(number))
        sys.exit(workers.run(flags.FLAGS.grace_seconds))


class _Workers:
    """The processes of a run."""

    def __init__(self, command, count, folder):
        self._paths, self._processes, self._passed_on = [], [], None
        for index, environment in enumerate(worker_environments(count)):
            self._paths.append(pathlib.Path(folder, f"worker{index}"))
            with self._paths[-1].open("wb") as file:
                output = None if index == 0 else file
                # Ctrl-C reaches all of a terminal's processes by itself.
                self._processes.append(subprocess.Popen(command, env=environment, stdout=output, stderr=output))

    def run(self, grace_seconds):
        """Waits until all have ended, and returns an exit status."""
        try:
            while None in (statuses := [one.poll() for one in self._processes]) and not any(statuses):
                time.sleep(_POLL_SECONDS)
                if self._passed_on is not None:
                    self._wait(grace_seconds)
                    return self._processes[0].poll() or 128 + self._passed_on
            if not any(statuses):
                return 0
            first = next(index for index, status in enumerate(statuses) if status)
            self._wait(grace_seconds)
            chief = self._processes[0].poll()
            # What is wrong with the input is found by all of them, and told by the chief.
            if self._passed_on is not None or (statuses[first] > 0 and chief is not None and chief > 0):
                return chief if chief is not None and chief >= 0 else 128 + (self._passed_on or signal.SIGKILL)
            if not is_json():
                # The bar of a chief that was killed stands without an end of line.
                print(file=sys.stderr)
            raise RunStoppedError(
                f"All {len(self._processes)} workers must keep running. Received: worker {first} "
                f"{self._explain(first)}; the others were ended. Hint: the same command with --resume goes on from the "
                "last checkpoint."
            )
        except KeyboardInterrupt:
            self._wait(grace_seconds)
            return 130
        finally:
            self._end()

    def pass_on(self, number):
        """Passes a signal on to all of them."""
        self._passed_on = number
        for one in self._processes:
            if one.poll() is None:
                one.send_signal(number)

    def _wait(self, seconds):
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline and any(one.poll() is None for one in self._processes):
            time.sleep(_POLL_SECONDS)

    def _end(self):
        for one in self._processes:
            if one.poll() is None:
                one.kill()
            one.wait()

    def _explain(self, index):
        status = self._processes[index].poll()
        if status < 0:
            return f"was ended by {signal.Signals(-status).name}"
        words = self._paths[index].read_bytes()[-_SHOWN_BYTES:].decode("utf-8", "replace").strip().splitlines()
        return f"ended with exit status {status}{f' ({words[-1]})' if words else ''}"


def worker_environments(count: int) -> list[dict[str, str]]:
    """Returns the environment of each worker, which names all of them on free ports of this machine."""
    addresses = [f"127.0.0.1:{port}" for port in find_free_ports(count)]
    tasks = [{"cluster": {"worker": addresses}, "task": {"type": "worker", "index": index}} for index in range(count)]
    return [
        {**os.environ, "TF_CONFIG": json.dumps(task), **_share_gpus(index, count)} for index, task in enumerate(tasks)
    ]


def find_free_ports(count: int) -> list[int]:
    """Returns ports of this machine that no program listens on."""
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]


def _share_gpus(index, count):
    """Returns the environment of a worker that sees its share of the named GPUs."""
    named = [one for one in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if one.strip() not in ("", "-1")]
    if not named:
        return {}
    if len(named) % count:
        raise InputError(f"CUDA_VISIBLE_DEVICES must name the same number of GPUs for each worker. Received: {named}.")
    size = len(named) // count
    return {"CUDA_VISIBLE_DEVICES": ",".join(named[index * size : (index + 1) * size])}


def run():
    """Runs the program."""
    run_program(main, __doc__, positional="PROGRAM")


if __name__ == "__main__":
    run()
