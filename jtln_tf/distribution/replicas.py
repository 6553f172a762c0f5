"""The replicas of a run: the devices that each take an equal slice of every batch."""

import contextlib
import dataclasses
import functools
import json
import logging
import os
import shutil
import signal
import threading
from collections.abc import Iterable, Iterator

import keras
import numpy as np
import tensorflow as tf

from jtln_tf.config import DeviceConfig, InputError, RunStoppedError

_LOG = logging.getLogger("jtln_tf")
# What is told of a worker that died, by the operation that waited for it.
_LOST_WORKER = (
    tf.errors.UnavailableError,
    tf.errors.AbortedError,
    tf.errors.CancelledError,
    tf.errors.DeadlineExceededError,
    tf.errors.FailedPreconditionError,
    tf.errors.InternalError,
)


@dataclasses.dataclass(frozen=True, eq=False)
class Replicas:
    """The devices of all processes, or workers, that train together.

    Attributes:
        strategy: What runs a function on each of this process's devices.
        worker: Index of this process; 0, the chief, is the only one that writes files.
        num_workers: Number of processes.
    """

    strategy: tf.distribute.Strategy
    worker: int = 0
    num_workers: int = 1

    @property
    def count(self) -> int:
        """Number of replicas, over all workers."""
        return self.strategy.num_replicas_in_sync

    @property
    def local_count(self) -> int:
        """Number of replicas in this process."""
        return self.count // self.num_workers

    @property
    def is_chief(self) -> bool:
        """Whether this process writes the files of the run."""
        return self.worker == 0

    def scope(self) -> contextlib.AbstractContextManager:
        """Returns the scope in which variables get a copy on each replica."""
        return self.strategy.scope() if self.count > 1 else contextlib.nullcontext()

    def check_batches(self, **sizes: int) -> None:
        """Raises `InputError` unless each batch, by the name of its option, divides into equal slices."""
        for name, size in sizes.items():
            if size % self.count:
                raise InputError(f"`{name}` must be divisible by the {self.count} replicas. Received: {size}.")

    def distribute(self, batches: tf.data.Dataset) -> Iterable:
        """Gives each replica of this worker its slice of batches that hold the worker's share, in their order."""
        if self.count == 1:
            return batches
        if self.local_count > 1:
            # A local replica takes the next of as many elements as there are of them.
            def slice_batch(*batch):
                return tf.nest.map_structure(
                    lambda x: tf.reshape(x, [self.local_count, x.shape[0] // self.local_count, *x.shape[1:]]), batch
                )

            batches = batches.map(lambda batch: slice_batch(batch)[0]).unbatch().prefetch(2 * self.local_count)
        return self.strategy.distribute_datasets_from_function(lambda _: batches)

    def sum(self, values: np.ndarray) -> np.ndarray:
        """Returns the sum of each worker's values, an array of one shape and type on all of them; all must call it."""
        if self.num_workers == 1:
            return values
        with self.watch():
            return _summed(self.strategy)(tf.constant(values)).numpy()

    def wait(self) -> None:
        """Waits until every worker has come here."""
        self.sum(np.zeros((), np.int32))

    def share_text(self, text: str) -> str:
        """Returns the chief's text on all workers."""
        if self.num_workers == 1:
            return text
        own = np.frombuffer(text.encode() if self.is_chief else b"", np.uint8).astype(np.int64)
        size = int(self.sum(np.array(len(own), np.int64)))
        if not size:
            return ""
        return self.sum(own if self.is_chief else np.zeros(size, np.int64)).astype(np.uint8).tobytes().decode()

    def share(self, variables: list[keras.Variable]) -> None:
        """Gives variables the values that they have on the chief."""
        if self.num_workers == 1:
            return
        values = [keras.ops.convert_to_numpy(variable) for variable in variables]
        for kind in (np.floating, np.integer):
            # One message for all: each takes a round of all workers.
            chosen = [number for number, one in enumerate(values) if np.issubdtype(one.dtype, kind)]
            wide = np.float32 if kind is np.floating else np.int64
            own = np.concatenate([np.zeros(0, wide), *(values[number].ravel().astype(wide) for number in chosen)])
            shared = self.sum(own if self.is_chief else np.zeros_like(own))
            ends = np.cumsum([values[number].size for number in chosen])
            for number, part in zip(chosen, np.split(shared, ends)[:-1], strict=True):
                variables[number].assign(part.reshape(values[number].shape).astype(values[number].dtype))

    @contextlib.contextmanager
    def watch(self) -> Iterator[None]:
        """Turns TensorFlow's errors about a lost worker into a `RunStoppedError`."""
        try:
            yield
        except _LOST_WORKER as error:
            if self.num_workers == 1:
                raise
            raise RunStoppedError(
                f"All {self.num_workers} workers must keep running. Received: another one stopped or cannot be reached "
                f"(this is worker {self.worker}). Hint: start all of them again with --resume."
            ) from error

    def describe(self) -> str:
        """Returns what trains, in words, such as `2 replicas: CPU:0, CPU:1`."""
        if self.count == 1:
            return _first_device()
        text = ", ".join(name.split("device:")[-1] for name in self.strategy.extended.worker_devices)
        if self.num_workers > 1:
            return f"{self.count} replicas in {self.num_workers} workers; this is worker {self.worker} with {text}"
        return f"{self.count} replicas: {text}"


def replicas_of(model: keras.Model) -> Replicas:
    """Returns the replicas that a model was built for."""
    return _wrap(model.distribute_strategy)


@functools.cache
def open_replicas(devices: DeviceConfig) -> Replicas:
    """Makes the replicas that a configuration asks for; the first call of a process, before TensorFlow computes.

    Raises:
        InputError: If the machine does not have them, or TF_CONFIG does not describe them.
        RunStoppedError: If the other workers do not come.
    """
    kind = _choose(devices)
    if devices.logical_cpus > 1:
        _split_cpu(devices.logical_cpus)
    if kind == "multi_worker":
        replicas = _open_workers()
    elif kind == "mirrored":
        names = [device.name.split("device:")[-1] for device in _local_devices()]
        if len(names) < 2:
            raise InputError(
                f"`strategy`=mirrored needs several GPUs. Received: {', '.join(names)}. Hint: --logical_cpus=2 tries "
                "it on a CPU."
            )
        replicas = Replicas(tf.distribute.MirroredStrategy(names))
    else:
        replicas = Replicas(tf.distribute.get_strategy())
    _LOG.info("training on %s.", replicas.describe())
    return replicas


def names_workers() -> bool:
    """Returns whether the environment names several processes that train together."""
    return _num_tasks_in_config() > 1 or _is_slurm_step()


@functools.cache
def _wrap(strategy):
    resolver = getattr(strategy, "cluster_resolver", None)
    spec = resolver.cluster_spec().as_dict() if resolver else {}
    num_workers = sum(len(spec.get(job, ())) for job in ("chief", "worker"))
    if num_workers < 2:
        return Replicas(strategy)
    # The chief may have a job of its own.
    offset = len(spec.get("chief", ())) if resolver.task_type == "worker" else 0
    return Replicas(strategy, offset + resolver.task_id, num_workers)


@functools.cache
def _summed(strategy):
    @tf.function(reduce_retracing=True, autograph=False)
    def total(values):
        def on_replica(values):
            context = tf.distribute.get_replica_context()
            # Once for each worker.
            own = tf.equal(context.replica_id_in_sync_group % replicas.local_count, 0)
            return context.all_reduce(tf.distribute.ReduceOp.SUM, tf.where(own, values, tf.zeros_like(values)))

        return strategy.experimental_local_results(strategy.run(on_replica, args=(values,)))[0]

    replicas = _wrap(strategy)
    return total


def _choose(devices):
    if devices.strategy != "auto":
        return devices.strategy
    if names_workers():
        return "multi_worker"
    several = devices.logical_cpus > 1 or len(tf.config.list_physical_devices("GPU")) > 1
    return "mirrored" if several else "one_device"


def _split_cpu(count):
    if tf.config.list_physical_devices("GPU"):
        raise InputError(f"`logical_cpus` must be 0 on a machine with a GPU. Received: {count}.")
    cpu = tf.config.list_physical_devices("CPU")[0]
    try:
        tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * count)
    except RuntimeError as error:
        # Another run of this process has started TensorFlow.
        if len(tf.config.list_logical_devices("CPU")) != count:
            raise InputError(
                f"`logical_cpus` must be the same for all runs of a process. Received: {count}."
            ) from error


def _local_devices():
    return tf.config.list_logical_devices("GPU") or tf.config.list_logical_devices("CPU")


def _first_device():
    gpus = tf.config.list_physical_devices("GPU")
    if not gpus:
        return "the CPU"
    return f"{gpus[0].name.split('device:')[-1]} ({tf.config.experimental.get_device_details(gpus[0])['device_name']})"


def _open_workers():
    try:
        if _num_tasks_in_config():
            resolver = tf.distribute.cluster_resolver.TFConfigClusterResolver()
        elif _is_slurm_step():
            # It cannot share out no GPUs at all: as many as no machine has tasks.
            options = {"gpus_per_node": 1024, "gpus_per_task": 1, "auto_set_gpu": False}
            options = {} if shutil.which("nvidia-smi") else options
            resolver = tf.distribute.cluster_resolver.SlurmClusterResolver(**options)
        else:
            raise InputError(
                "`strategy`=multi_worker needs TF_CONFIG, or a Slurm step of several tasks. Received: neither. Hint: "
                "jtln launch --workers=2 -- train ... starts processes on this machine."
            )
        strategy = tf.distribute.MultiWorkerMirroredStrategy(cluster_resolver=resolver)
        if threading.current_thread() is threading.main_thread():
            # TensorFlow takes SIGTERM for itself, and does nothing with it.
            signal.signal(signal.SIGTERM, signal.getsignal(signal.SIGTERM))
        return _wrap(strategy)
    except (ValueError, KeyError, TypeError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"TF_CONFIG must describe the workers. Received: {os.environ.get('TF_CONFIG')!r}.") from error
    except (*_LOST_WORKER, RuntimeError) as error:
        raise RunStoppedError(
            f"All workers must start within minutes of each other. Received: {str(error).splitlines()[0][:200]}"
        ) from error


def _num_tasks_in_config():
    try:
        cluster = json.loads(os.environ.get("TF_CONFIG") or "{}").get("cluster", {})
        return sum(len(cluster.get(job, ())) for job in ("chief", "worker"))
    except (ValueError, AttributeError, TypeError) as error:
        raise InputError(f"TF_CONFIG must be a JSON object. Received: {os.environ['TF_CONFIG']!r}.") from error


def _is_slurm_step():
    tasks = os.environ.get("SLURM_STEP_NUM_TASKS", "")
    return "SLURM_PROCID" in os.environ and tasks.isdigit() and int(tasks) > 1
