"""Kills and damages small runs, resumes them, and compares what they end with with runs that nothing happened to.

    python -m benchmarks.reliability --kills=20

Prints one table of the kills (SIGKILL at random moments, and while a checkpoint, a cache or an export is written) and
one of the damages to a run's folder. Exits with status 1 if one of them ends otherwise than it must.
"""

import collections
import contextlib
import io
import json
import logging
import os
import pathlib
import random
import shutil
import signal
import sys
import tempfile
import time
import traceback

import numpy as np
from absl import flags

from benchmarks.damages import DAMAGES, REFUSED, SAME
from jtln_tf.config import DataConfig, InputError, NetworkConfig, RunStoppedError, TrainingConfig
from jtln_tf.costs.config import CostConfig
from jtln_tf.experiment.config import ExperimentConfig
from jtln_tf.export.checksums import find_damaged_file
from jtln_tf.methods import find_method
from jtln_tf.tools.program import load_tensorflow, run_program

# Step of the run that damages are done to: between the checkpoints of steps 8 and 12.
_KILLED_AT = 10
# What a kill waits for, as a pattern of a path, and of one that must not be there yet.
_MOMENTS = {
    "at a random moment": None,
    "while a checkpoint is written": "run/checkpoints/last.npz.*.unfinished",
    "while activations are cached": "cache/activations/*/shard_*.unfinished",
    "while the export is written": "run/export.unfinished",
    "between the export and its check": "run/export/1/saved_model.pb",
}
_TURNS = (0, 1, 0, 3, 0, 2, 0, 4, 0, 1)


def define_flags():
    """Defines the flags."""
    flags.DEFINE_integer("kills", 20, "Runs that are killed.", lower_bound=0)
    flags.DEFINE_integer("damages", len(DAMAGES), "Kinds of damage, the first of the list.", lower_bound=0)
    flags.DEFINE_integer("seed", 0, "Seed of the moments.")


def main():
    """Kills, damages and prints."""
    load_tensorflow()
    values = flags.FLAGS
    with tempfile.TemporaryDirectory() as folder:
        trials = Trials(pathlib.Path(folder))
        trials.kill(values.kills, random.Random(values.seed))
        rows = trials.resume_killed() + trials.damage(DAMAGES[: values.damages])
    print(format_rows(rows))
    wrong = [row for row in rows if row["outcome"] != row["expected"]]
    print(f"\n{len(rows) - len(wrong)} of {len(rows)} as they must be.")
    sys.exit(1 if wrong else 0)


def make_config(cache):
    """Returns a configuration in which everything that a run can keep is kept: costs, activations, validation."""
    return ExperimentConfig(
        data=DataConfig(
            source="builtin:optdigits?classes=0,1,2,3,4&per_class=10",
            target="builtin:optdigits?classes=5,6,7,8,9&per_class=5",
            channels=1,
            source_batch=16,
            target_batch=8,
            source_augmentation="none",
            target_augmentation="none",
            cache_dir=str(cache),
        ),
        network=NetworkConfig(backbone="small_cnn", freeze_until="pool1", cache_features="disk", head_dropout=0.2),
        training=TrainingConfig(steps=12, steps_per_epoch=4, log_steps=3),
        cost=CostConfig(matrix="online", refresh_steps=5),
        method=find_method("jtln")(transport_start_step=5),
    )


class Trials:
    """Runs in a folder.

    Those that are killed are processes of their own, forked from this one, which has loaded TensorFlow but must not
    have computed anything yet. All others run in this one, which compiles their steps once.
    """

    def __init__(self, folder: pathlib.Path):
        """Trains the run that nothing happens to, in a process of its own."""
        import tensorflow as tf

        # Threads would add float32 sums in the order in which they end.
        tf.config.threading.set_intra_op_parallelism_threads(1)
        self._folder, self._cache, self._killed, self._workshop = folder, folder / "cache", [], None
        begun = time.monotonic()
        if self._wait(self._fork(folder / "whole", self._cache)):
            raise RuntimeError("A run that nothing happened to has failed.")
        self._seconds = time.monotonic() - begun

    def kill(self, count, generator):
        """Begins runs and kills them."""
        for number in range(count):
            name = list(_MOMENTS)[_TURNS[number % len(_TURNS)]]
            folder, moment = self._folder / f"kill{number}", generator.uniform(0, self._seconds)
            # With a cache of its own: it may be killed while that is filled.
            self._kill_at(self._fork(folder, folder / "cache"), folder, _MOMENTS[name], moment)
            self._killed.append((name, folder))

    def resume_killed(self):
        """Resumes all that were killed; returns a row for each."""
        rows = []
        for name, folder in self._killed:
            outcome = self._resume(folder, folder / "cache", "")
            rows.append({"kind": f"SIGKILL {name}", "expected": SAME, "outcome": outcome, "told": ""})
            _tell(rows[-1])
            shutil.rmtree(folder)
        return rows

    def damage(self, damages):
        """Damages folders of runs and resumes them; returns a row for each."""
        self._run(self._folder / "other", self._cache, export=False)
        with contextlib.suppress(_Dead):
            self._run(self._folder / "stopped", self._cache, die_at=_KILLED_AT)
        rows = []
        for number, damage in enumerate(damages):
            folder = self._folder / f"damage{number}"
            shutil.copytree(self._folder / ("whole" if damage.is_finished else "stopped"), folder)
            damage.harm(folder / "run", self._folder / "other" / "run")
            outcome = self._resume(folder, self._cache, damage.told, export=damage.is_finished)
            rows.append({"kind": damage.name, "expected": damage.outcome, "outcome": outcome, "told": damage.told})
            _tell(rows[-1])
            shutil.rmtree(folder)
        return rows

    def _resume(self, folder, cache, expected, export=True):
        """Resumes a run; returns the outcome in words: `SAME`, `REFUSED`, or what is wrong."""
        logger, told = logging.getLogger("jtln_tf"), io.StringIO()
        handler = logging.StreamHandler(told)
        logger.addHandler(handler)
        outcome = ""
        try:
            self._run(folder, cache, export=export)
        except (InputError, RunStoppedError, OSError) as error:
            outcome = REFUSED
            print(error, file=told)
            if not expected:
                return f"refused: {error}"
        except Exception:
            return f"an error of the program: {traceback.format_exc()}"
        finally:
            logger.removeHandler(handler)
        if expected not in told.getvalue():
            return f"not told: {told.getvalue()!r}"
        return outcome or self._compare(folder / "run")

    def _compare(self, run):
        whole = self._folder / "whole" / "run"
        left = [path.name for path in run.rglob("*.unfinished")]
        if (run / "export").exists():
            left += filter(None, [find_damaged_file(run / "export")])
        wrong = left + compare_weights(run, whole) + compare_results(run, whole)
        return f"differs: {wrong}" if wrong else SAME

    def _run(self, folder, cache, die_at=None, export=True):
        from jtln_tf.experiment.run import run_experiment
        from jtln_tf.experiment.workshop import Workshop
        from jtln_tf.trainer.callbacks import StepCounter

        self._workshop = self._workshop or Workshop()
        begin = StepCounter.on_train_batch_begin

        def begin_or_die(counter, batch, logs=None):
            if counter._state.step == die_at:
                raise _Dead
            begin(counter, batch, logs)

        StepCounter.on_train_batch_begin = begin_or_die
        try:
            options = {"export": export, "workshop": self._workshop}
            run_experiment(make_config(cache), folder / "run", resume=True, **options)
        finally:
            StepCounter.on_train_batch_begin = begin

    def _fork(self, folder, cache):
        process = os.fork()
        if process:
            return process
        try:
            self._run(folder, cache)
            os._exit(0)
        except BaseException:
            traceback.print_exc()
            os._exit(1)

    @staticmethod
    def _kill_at(process, folder, pattern, moment):
        """Kills a process after some seconds or, with a pattern, once a file of such a name is there."""
        deadline = time.monotonic() + moment
        while os.waitid(os.P_PID, process, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None:
            if any(folder.glob(pattern)) if pattern else time.monotonic() >= deadline:
                os.kill(process, signal.SIGKILL)
                break
            time.sleep(0.0005 if pattern else 0.01)
        Trials._wait(process)

    @staticmethod
    def _wait(process):
        return os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])


class _Dead(Exception):
    """Ends a run as if its process had died."""


def compare_weights(run, whole):
    """Returns the names of the arrays of the last checkpoint that are not the same bits."""
    with np.load(run / "checkpoints/last.npz") as ours, np.load(whole / "checkpoints/last.npz") as theirs:
        names = set(ours.files) | set(theirs.files)
        # Times, names, and counts of a best step that was lost are the run's own.
        own = {f"state/{name}" for name in ("seconds", "run", "best_step", "best_accuracy", "epochs_since_best")}
        return sorted(
            one for one in names - own if one not in ours or one not in theirs or _differ(ours[one], theirs[one])
        )


def compare_results(run, whole):
    """Returns what differs in the figures of the results, and in the entries of the logs that both have."""
    own = ("digest", "train_seconds", "best_validation_accuracy", "best_step", "export_difference")
    results = [json.loads((one / "result.json").read_text()) for one in (run, whole)]
    wrong = [name for name in results[1] if name not in own and results[0].get(name) != results[1][name]]
    ours, theirs = (_read_log(one / "metrics.jsonl") for one in (run, whole))
    return wrong + sorted({f"log of step {key[0]}" for key in ours if ours[key] != theirs.get(key)})


def format_rows(rows):
    """Returns a Markdown table: what was tried, how often, and what came of it."""
    counts = collections.Counter((row["kind"], row["outcome"], row["told"]) for row in rows)
    lines = ["| what was tried | times | result |", "|---|---|---|"]
    for (kind, outcome, told), count in counts.items():
        lines.append(f"| {kind} | {count} | {outcome}{f', and told: “{told}”' if told and outcome == SAME else ''} |")
    return "\n".join(lines)


def _tell(row):
    print(f"{row['kind']}: {row['outcome']}", file=sys.stderr, flush=True)


def _differ(one, other):
    return one.dtype != other.dtype or one.tobytes() != other.tobytes()


# What no two runs have in common.
_TIMES = ("train_seconds", "step_seconds", "images_per_second", "data_wait_seconds")


def _read_log(path):
    entries = [json.loads(line) for line in path.read_text().splitlines()[1:]]
    return {(entry["step"], name): value for entry in entries for name, value in entry.items() if name not in _TIMES}


if __name__ == "__main__":
    define_flags()
    run_program(main, __doc__)
