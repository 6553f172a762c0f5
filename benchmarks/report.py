"""Turns the rows of the solver benchmark into a table and a plot."""

import numpy as np

from benchmarks.problems import EPSILONS, TOLERANCE
from benchmarks.solvers import OURS, SOLVERS


def fastest_peer(rows, row):
    """Returns the row of the fastest other solver that reached the tolerance on the same problem, or None."""
    there = [
        other
        for other in rows
        if (other["size"], other["epsilon"]) == (row["size"], row["epsilon"])
        and other["solver"] != OURS
        # Both marginals are added, and float32 adds its rounding.
        and other.get("marginal_error", np.inf) <= 2 * TOLERANCE
    ]
    return min(there, key=lambda other: other["milliseconds"], default=None)


def summarize(rows):
    """Returns a dict per problem that ours solved: its time, the best peer's, and that of its matrix products."""
    summary = []
    for row in rows:
        if row["solver"] != OURS or "failed" in row:
            continue
        peer = fastest_peer(rows, row)
        comparable = peer is not None and row["marginal_error"] <= 2 * TOLERANCE
        summary.append(
            {
                **dict(zip(("B", "n", "m"), row["size"], strict=True)),
                "epsilon": row["epsilon"],
                "ours_ms": row["milliseconds"],
                "best_peer": peer["solver"] if peer else None,
                "best_peer_ms": peer["milliseconds"] if peer else None,
                "speedup": peer["milliseconds"] / row["milliseconds"] if comparable else None,
                "iterations": row["iterations_mean"],
                "iterations_most": row["iterations_most"],
                "gemm_ms": row["milliseconds_products"],
                "ratio_to_gemm": row["milliseconds_iteration"] / row["milliseconds_products"],
                "marginal_error": row["marginal_error"],
            }
        )
    return summary


def format_table(rows):
    """Returns the table as Markdown."""
    names = [name for name in SOLVERS if any(row["solver"] == name for row in rows)]
    lines = [
        f"| B, n, m | epsilon | {' | '.join(names)} | best peer / ours | iterations | iteration / products |",
        f"|---|---|{'---|' * (len(names) + 3)}",
    ]
    for found in summarize(rows):
        size = [found[name] for name in ("B", "n", "m")]
        by_name = {row["solver"]: row for row in rows if (row["size"], row["epsilon"]) == (size, found["epsilon"])}
        cells = [", ".join(map(str, size)), str(found["epsilon"]), *(format_cell(by_name.get(name)) for name in names)]
        cells.append(f"{found['speedup']:.0f}" if found["speedup"] else "-")
        cells.append(f"{found['iterations']:.1f} ({found['iterations_most']})")
        # Products of microseconds are within the noise of the clock.
        cells.append(f"{found['ratio_to_gemm']:.2f}" if found["gemm_ms"] > 0.05 else "-")
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def format_cell(row):
    """Returns the milliseconds, or why there are none, with an error above the tolerance in brackets."""
    if row is None:
        return "-"
    if "failed" in row:
        return row["failed"]
    missed = row["marginal_error"] > 2 * TOLERANCE or not np.isfinite(row["marginal_error"])
    return f"{row['milliseconds']:.2f}" + (f" (error {row['marginal_error']:.0e})" if missed else "")


def plot(rows, path):
    """Draws the time of each solver over epsilon, a panel for each size."""
    from matplotlib.figure import Figure

    sizes = sorted({tuple(row["size"]) for row in rows}, key=lambda size: size[0] * size[1] * size[2])
    figure = Figure(figsize=(3 * len(sizes), 3.2), layout="constrained")
    panels = figure.subplots(1, len(sizes), squeeze=False)[0]
    for panel, size in zip(panels, sizes, strict=True):
        for name in SOLVERS:
            points = [
                (row["epsilon"], row["milliseconds"], row["marginal_error"] <= 2 * TOLERANCE)
                for row in rows
                if row["solver"] == name and tuple(row["size"]) == size and "milliseconds" in row
            ]
            if points:
                epsilons, milliseconds, reached = zip(*points, strict=True)
                (line,) = panel.plot(epsilons, milliseconds, label=name)
                faces = [line.get_color() if ok else "white" for ok in reached]
                panel.scatter(epsilons, milliseconds, c=faces, edgecolors=line.get_color(), zorder=3)
        panel.set(xscale="log", yscale="log", title=f"B, n, m = {', '.join(map(str, size))}", xlabel="epsilon / range")
        panel.set_xticks(EPSILONS, labels=[str(epsilon) for epsilon in EPSILONS])
        panel.minorticks_off()
        panel.grid(alpha=0.3)
    panels[0].set_ylabel("ms, value and gradient")
    panels[0].legend(fontsize="small")
    figure.suptitle("Time to a marginal error of 1e-4 (open: not reached)")
    figure.savefig(path, dpi=120)
