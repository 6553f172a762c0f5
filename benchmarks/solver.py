"""Times the solver against OTT-JAX and POT on the same problems: value and gradient to the same marginal error.

    python -m benchmarks.solver --json=solver.json --plot=solver.png

Prints a table. Each solver runs in its own process for each size, one after the other. `make bench-solver` installs the
peers and runs it; solvers that are not installed are left out and named.
"""

import importlib.util
import json
import pathlib
import platform
import queue
import statistics
import subprocess
import sys
import threading
import time

import numpy as np
from absl import flags

from benchmarks.problems import EPSILONS, SIZES, make_problem, marginal_error
from benchmarks.report import format_table, plot, summarize
from benchmarks.solvers import OURS, PACKAGES, SOLVERS
from jtln_tf.config import InputError
from jtln_tf.tools.program import run_program

# If the first solve, which compiles, takes more of the limit, it counts; else the median of the solves of some seconds.
ONCE_SHARE = 1 / 3
# Time to load and compile, as a share of the limit.
START_SHARE = 1 / 2

flags.DEFINE_string("json", "", "Where the figures are written as JSON.")
flags.DEFINE_string("plot", "", "Where the plot is written as PNG.")
flags.DEFINE_list("solvers", list(SOLVERS), f"Of {', '.join(SOLVERS)}.")
flags.DEFINE_integer("sizes", len(SIZES), "How many of the sizes, from the smallest.", lower_bound=1)
flags.DEFINE_float(
    "limit_seconds",
    60.0,
    "A solve may take this long. Its time is foreseen from the next larger epsilon: iterations grow like 1 / epsilon.",
)
flags.DEFINE_string("measure", "", "For the processes it starts: one solver at one size, as JSON.")


def main():
    """Measures, or starts the processes that do."""
    values = flags.FLAGS
    if values.measure:
        name, size = json.loads(values.measure)
        for figures in measure(name, tuple(size), values.limit_seconds):
            print(json.dumps(figures), flush=True)
        return
    unknown = [name for name in values.solvers if name not in SOLVERS]
    if unknown or OURS not in values.solvers:
        known, received = ", ".join(SOLVERS), ",".join(values.solvers)
        raise InputError(f"`solvers` must be of {known}, and {OURS} among them. Received: {received}.")
    missing = [name for name in values.solvers if importlib.util.find_spec(PACKAGES[name.split()[0]]) is None]
    for name in missing:
        print(f"{name} is left out: its package is not installed.", file=sys.stderr)
    rows = []
    for size in SIZES[: values.sizes]:
        for name in values.solvers:
            if name not in missing:
                rows += run_process(name, size)
                write_json(rows)
                print(f"{name} at {size}: done", file=sys.stderr, flush=True)
    print(format_table(rows))
    if values.plot:
        plot(rows, values.plot)


def write_json(rows):
    """Writes what there is so far, if a file was asked for."""
    if flags.FLAGS.json:
        results = {"rows": summarize(rows), "peak_mib": peaks(rows), "all": rows, "versions": describe_versions()}
        pathlib.Path(flags.FLAGS.json).write_text(json.dumps(results, indent=1))


def run_process(name, size):
    """Returns the rows of one solver at one size; once it is given up, the rest are `failed` rows."""
    limit = flags.FLAGS.limit_seconds
    options = [f"--measure={json.dumps([name, size])}", f"--limit_seconds={limit}"]
    command = [sys.executable, "-m", "benchmarks.solver", *options]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    lines = queue.Queue()
    threading.Thread(target=lambda: [lines.put(line) for line in (*process.stdout, "")], daemon=True).start()
    rows, reason = [], f"over {limit:.0f} s"
    try:
        while line := lines.get(timeout=limit * (START_SHARE + 1 + ONCE_SHARE)):
            if line.startswith("{"):
                rows.append(json.loads(line))
        reason = (process.communicate()[1].splitlines() or [f"exit status {process.returncode}"])[-1][:200]
    except queue.Empty:
        process.kill()
        process.wait()
    measured = [row["epsilon"] for row in rows]
    failed = {"solver": name, "size": list(size), "failed": reason}
    return rows + [{**failed, "epsilon": epsilon} for epsilon in EPSILONS if epsilon not in measured]


def measure(name, size, limit):
    """Yields the figures of one solver at one size, a dict for each epsilon."""
    a, b, cost_matrix = make_problem(*size)
    milliseconds, last_epsilon = 0.0, EPSILONS[0]
    for epsilon in EPSILONS:
        if milliseconds * last_epsilon / epsilon > 1e3 * limit:
            why = f"over {limit:.0f} s expected"
            yield {"solver": name, "size": list(size), "epsilon": epsilon, "failed": why}
            continue
        solve = SOLVERS[name](a, b, cost_matrix, epsilon)
        can_reset, before = reset_peak(), resident_mib("VmRSS")
        begun = time.perf_counter()
        f, g, n_iters = solve()
        first = time.perf_counter() - begun
        peak = resident_mib("VmHWM")
        times = [first] if first > ONCE_SHARE * limit else []
        while not times or (len(times) < 200 and sum(times) < 2.0):
            begun = time.perf_counter()
            solve()
            times.append(time.perf_counter() - begun)
        milliseconds, last_epsilon = 1e3 * statistics.median(times), epsilon
        yield {
            "solver": name,
            "size": list(size),
            "epsilon": epsilon,
            "milliseconds": milliseconds,
            "first_call_seconds": first,
            "marginal_error": marginal_error(a, b, cost_matrix, epsilon, f, g),
            # Beyond what the process had: compilation and the first solve.
            "peak_mib": peak - before if can_reset else None,
            **(describe_iterations(a, b, cost_matrix, epsilon, n_iters) if name == OURS else {}),
        }


def describe_iterations(a, b, cost_matrix, epsilon, n_iters):
    """Returns the iterations of ours, and the time of one next to that of its two matrix products alone."""
    import tensorflow as tf

    from jtln_tf.ot import scaling
    from jtln_tf.ot.problem import LARGEST_RATIO, Problem

    dtype = tf.float32 if 1.0 / epsilon <= LARGEST_RATIO[tf.float32] else tf.float64
    a, b, cost_matrix = (tf.constant(x, dtype) for x in (a, b, cost_matrix))
    epsilon = tf.constant(epsilon, dtype)
    problem = Problem(a, b, tf.math.log(a), tf.math.log(b), cost_matrix, epsilon, None, None)

    @tf.function(jit_compile=True)
    def products(kernel, v, count):
        transposed = tf.transpose(kernel)

        def step(index, v):
            # The factor keeps the numbers from growing: the least that a loop can do beside the products.
            return index + 1, tf.linalg.matmul(transposed, tf.linalg.matmul(kernel, v)) * 1e-3

        return tf.while_loop(lambda index, v: index < count, step, (0, v))[1]

    kernel, v = tf.exp(-cost_matrix / epsilon), tf.transpose(b)
    no_threshold = tf.constant(0.0, dtype)
    calls = {
        "iteration": lambda count: scaling.iterate(problem, problem.log_b, no_threshold, count)[2].numpy(),
        "products": lambda count: products(kernel, v, count).numpy(),
    }
    few, many = tf.constant(10), tf.constant(60)
    slopes = {name: [] for name in calls}
    # In turns, so that other work of the machine slows both alike.
    for _ in range(11):
        for name, call in calls.items():
            seconds = []
            for count in (few, many):
                begun = time.perf_counter()
                call(count)
                seconds.append(time.perf_counter() - begun)
            slopes[name].append(1e3 * (seconds[1] - seconds[0]) / 50)
    counts = np.asarray(n_iters)
    return {
        "iterations_mean": float(counts.mean()),
        "iterations_most": int(counts.max()),
        # The first round compiles.
        **{f"milliseconds_{name}": statistics.median(of_it[1:]) for name, of_it in slopes.items()},
        "type": dtype.name,
    }


def resident_mib(field):
    """Returns `VmRSS` (now) or `VmHWM` (peak) of this process in MiB; None if the system does not tell."""
    try:
        lines = pathlib.Path("/proc/self/status").read_text().splitlines()
    except OSError:
        return None
    return next((int(line.split()[1]) / 1024 for line in lines if line.startswith(field)), None)


def reset_peak():
    """Resets the peak to what is resident now; returns whether the system allows that."""
    try:
        pathlib.Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        return False
    return True


def peaks(rows):
    """Returns the largest memory that each solver took at each size, in MiB."""
    found = {}
    for row in rows:
        key = f"{row['solver']} {tuple(row['size'])}"
        found[key] = max(found.get(key, 0.0), row.get("peak_mib") or 0.0)
    return found


def describe_versions():
    """Returns what the figures depend on."""
    import importlib.metadata

    packages = ("tensorflow", "jax", "ott-jax", "torch", "POT", "numpy")
    installed = {d.metadata["Name"].lower(): d.version for d in importlib.metadata.distributions()}
    versions = {name: installed.get(name.lower(), "not installed") for name in packages}
    return {"python": platform.python_version(), **versions}


if __name__ == "__main__":
    run_program(main, __doc__)
