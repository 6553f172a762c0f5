"""Measures how fast an export answers, in a process that loads nothing else: images a second, and time to an answer.

    python -m benchmarks.serving --model=exports/digits

Each row sends requests of one size from some threads, one request after the other from each, for --seconds. The images
are JPEG photographs of 640 x 480 pixels that it draws, or the files of --images. Ratios are to the first row.
"""

import concurrent.futures
import io
import json
import pathlib
import time

from absl import flags

from jtln_tf.config import InputError
from jtln_tf.tools.program import load_tensorflow, require_flags, run_program

_WIDTH, _HEIGHT, _DRAWN = 640, 480, 16

flags.DEFINE_string("model", "", "Folder of the export.")
flags.DEFINE_string("images", "", "Folder of image files; empty draws photographs.")
flags.DEFINE_list("batches", ["1", "8", "64"], "Images in a request.")
flags.DEFINE_list("threads", ["1", "8"], "Threads that send requests.")
flags.DEFINE_string("signature", "serving_default", "Signature that answers.")
flags.DEFINE_float("seconds", 3.0, "Time that each row takes.", lower_bound=0.01)
flags.DEFINE_string("json", "", "Where the figures are written as JSON.")


def main():
    """Loads the export, measures and prints a table."""
    values = flags.FLAGS
    require_flags("model")
    if not all(text.isdecimal() and int(text) for text in (*values.batches, *values.threads)):
        raise InputError(
            f"`batches` and `threads` must be whole numbers. Received: {values.batches}, {values.threads}."
        )
    folder = pathlib.Path(values.model) / "1"
    if not folder.is_dir():
        raise InputError(f"`model` must be an export, which holds a folder 1. Received: {values.model!r}.")
    files = _read_files(values.images) if values.images else _draw_files()
    load_tensorflow()
    figures = measure(folder, files, values)
    print(f"loaded in {figures['load_seconds']:.1f} s, first answer after {figures['first_seconds']:.1f} s more\n")
    print("| threads | images in a request | images a second | ratio | p50, ms | p99, ms |\n|---|---|---|---|---|---|")
    for row in figures["rows"]:
        print(
            f"| {row['threads']} | {row['batch']} | {row['rate']:,.0f} | {row['ratio']:.1f} | {row['p50_ms']:.1f} | "
            f"{row['p99_ms']:.1f} |"
        )
    if values.json:
        pathlib.Path(values.json).write_text(json.dumps(figures, indent=1))


def measure(folder, files, values):
    """Returns the figures, a dict."""
    import tensorflow as tf

    begun = time.perf_counter()
    model = tf.saved_model.load(str(folder))
    signature = model.signatures[values.signature]
    loaded = time.perf_counter()
    signature(image_bytes=tf.constant(files[:1]))
    figures = {"load_seconds": loaded - begun, "first_seconds": time.perf_counter() - loaded, "rows": []}
    for threads in map(int, values.threads):
        for batch in map(int, values.batches):
            # Requests hold the same images in every order.
            requests = [
                tf.constant([files[(start + place) % len(files)] for place in range(batch)])
                for start in range(len(files))
            ]
            row = {"threads": threads, "batch": batch} | _measure_row(signature, requests, threads, values.seconds)
            figures["rows"].append(row | {"ratio": row["rate"] / (figures["rows"] or [row])[0]["rate"]})
    return figures


def _measure_row(signature, requests, threads, seconds):
    import numpy as np

    def answer(request):
        begun = time.perf_counter()
        errors = signature(image_bytes=request)["error"].numpy()
        if errors.any():
            raise InputError(
                f"`images` must be readable. Received: one that is not: {errors[errors != b''][0].decode()}."
            )
        return time.perf_counter() - begun

    def send(number):
        taken = []
        while time.perf_counter() < end:
            taken.append(answer(requests[(number + len(taken)) % len(requests)]))
        return taken

    answer(requests[0])
    with concurrent.futures.ThreadPoolExecutor(threads) as pool:
        begun = time.perf_counter()
        end = begun + seconds
        taken = np.concatenate(list(pool.map(send, range(threads))))
        elapsed = time.perf_counter() - begun
    rate = len(taken) * requests[0].shape[0] / elapsed
    p50, p99 = 1000 * np.percentile(taken, [50, 99])
    return {"rate": rate, "p50_ms": p50, "p99_ms": p99, "requests": len(taken)}


def _read_files(folder):
    files = [path.read_bytes() for path in sorted(pathlib.Path(folder).rglob("*")) if path.is_file()]
    if not files:
        raise InputError(f"`images` must be a folder with files. Received: {folder!r}.")
    return files


def _draw_files():
    """Returns photographs, smooth with some noise, as JPEG files."""
    import numpy as np
    from PIL import Image

    rng, files = np.random.default_rng(0), []
    for _ in range(_DRAWN):
        small = Image.fromarray(rng.integers(0, 256, (9, 12, 3), np.uint8))
        pixels = np.asarray(small.resize((_WIDTH, _HEIGHT), Image.Resampling.BICUBIC), np.int16)
        noisy = np.clip(pixels + rng.normal(0, 6, pixels.shape), 0, 255).astype(np.uint8)
        buffer = io.BytesIO()
        Image.fromarray(noisy).save(buffer, "JPEG", quality=90)
        files.append(buffer.getvalue())
    return files


if __name__ == "__main__":
    run_program(main, __doc__)
