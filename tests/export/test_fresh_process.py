"""An export answers in processes that have neither this package nor Keras, as the network did while it trained."""

import io
import json
import pathlib
import subprocess
import sys

import keras
import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from jtln_tf.data import decode_image
from jtln_tf.export.saved_model import export_network
from jtln_tf.network import build_network

SIZE, MANY = 16, 512
# Loads an export, answers from 8 threads, and writes the answers to the first image alone, to none and to many.
SERVER = """
import concurrent.futures, json, pathlib, sys
sys.modules["jtln_tf"] = sys.modules["keras"] = None
import numpy as np, tensorflow as tf

folder, output, many = pathlib.Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])
files = [path.read_bytes() for path in sorted((folder / "files").iterdir())]
signature = tf.saved_model.load(str(folder / "export" / "1")).signatures["probabilities"]
batches = [[], files[:1], *[(files[shift:] + files[:shift]) for shift in range(len(files))]]
batches.append((files * many)[:many])
with concurrent.futures.ThreadPoolExecutor(8) as pool:
    answers = list(pool.map(lambda batch: signature(image_bytes=tf.constant(batch, tf.string)), batches))
names = [name for name in sys.modules if name.split(".")[0] in ("jtln_tf", "keras") and sys.modules[name]]
rows = {f"{side}{number}": answer[side] for number, answer in enumerate(answers) for side in ("source", "target")}
np.savez(output, **rows)
errors = [[error.decode() for error in answer["error"].numpy()] for answer in answers]
print(json.dumps({"errors": errors, "imported": names}))
"""


def encode(picture, kind, **options):
    buffer = io.BytesIO()
    picture.save(buffer, kind, **options)
    return buffer.getvalue()


def draw_files():
    """Encoded images by name, with part of the reason for those that are refused."""
    rng = np.random.default_rng(0)
    color = Image.fromarray(rng.integers(0, 256, (40, 55, 3), np.uint8))
    clear = Image.fromarray(rng.integers(0, 256, (33, 20, 4), np.uint8))
    png, jpeg = encode(color, "PNG"), encode(color, "JPEG")
    good = {
        "png": png,
        "jpeg": jpeg,
        "gray": encode(color.convert("L"), "PNG"),
        "gray jpeg": encode(color.convert("L"), "JPEG"),
        "rgba": encode(clear, "PNG"),
        "cmyk": encode(color.convert("CMYK"), "JPEG"),
        "palette": encode(color.quantize(9), "PNG"),
        "turned": encode(color, "JPEG", exif=b"Exif\0\0II*\0\x08\0\0\0\1\0\x12\1\3\0\1\0\0\0\6\0\0\0\0\0\0\0"),
        "gif": encode(color.quantize(9), "GIF"),
        "webp": encode(clear, "WEBP", lossless=True),
    }
    huge = png[:16] + (60_000).to_bytes(4, "big") * 2 + png[24:]
    bad = {
        "empty": (b"", "it is empty"),
        "heic": (b"\0\0\0\x18ftypheic\0\0\0\0mif1heic", "HEIC"),
        "huge": (huge, "more than the 134,217,728"),
        "page": (b"<svg onload='alert(1)'/>", "SVG images are not read"),
        "short jpeg": (jpeg[:-200], "breaks off"),
        "short png": (png[:-200], "breaks off"),
        "swapped": (jpeg[:300] + rng.bytes(200) + jpeg[500:600] + jpeg[:2] + jpeg[-2:], "damaged"),
        "tiff": (encode(color, "TIFF"), "TIFF"),
    }
    return good, bad


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    keras.utils.set_random_seed(0)
    network = build_network("small_cnn", 4, 3, image_shape=(SIZE, SIZE, 3))
    folder = tmp_path_factory.mktemp("served")
    export_network(network, folder / "export", source_classes="abcd", target_classes="xyz")
    good, bad = draw_files()
    (folder / "files").mkdir()
    contents = [*good.values(), *(content for content, _ in bad.values())]
    for number, content in enumerate(contents):
        (folder / "files" / f"{number:02}").write_bytes(content)
    images = [decode_image(tf.constant(content), SIZE, 3) for content in good.values()]
    expected = network(tf.cast(tf.stack(images), tf.float32), training=False)
    rows = {side: np.pad(values, [[0, len(bad)], [0, 0]]) for side, values in expected.items()}
    return folder, rows, [""] * len(good) + [reason for _, reason in bad.values()]


@pytest.mark.slow
def test_all_kinds_of_bytes_in_batches_of_all_sizes_from_eight_threads(served):
    folder, expected, reasons = served
    command = [sys.executable, "-I", "-c", SERVER, str(folder), str(folder / "answers.npz"), str(MANY)]
    result = subprocess.run(command, capture_output=True, text=True, errors="replace", timeout=600)
    assert result.returncode == 0, result.stderr[-2000:]
    told = json.loads(result.stdout)
    assert told["imported"] == []
    count = len(reasons)
    orders = [[], [0], *([*range(shift, count), *range(shift)] for shift in range(count))]
    orders.append([number % count for number in range(MANY)])
    with np.load(folder / "answers.npz") as answers:
        for number, (order, errors) in enumerate(zip(orders, told["errors"], strict=True)):
            for side, rows in expected.items():
                np.testing.assert_allclose(answers[f"{side}{number}"], rows[order], atol=1e-5)
            for place, error in zip(order, errors, strict=True):
                assert reasons[place] in error and bool(error) == bool(reasons[place])


@pytest.mark.slow
def test_saved_model_cli_answers_in_a_session_as_the_server_does(served):
    folder, expected, reasons = served
    files = [path.read_bytes() for path in sorted((folder / "files").iterdir())]
    # An array of bytes in NumPy loses zeros at the end.
    kept = np.array([not content.endswith(b"\0") for content in files])
    np.save(folder / "batch.npy", np.array(files)[kept])
    command = [pathlib.Path(sys.executable).with_name("saved_model_cli"), "run", "--dir", folder / "export" / "1"]
    command += ["--tag_set", "serve", "--signature_def", "serving_default", "--outdir", folder / "cli"]
    subprocess.run([*command, "--inputs", f"image_bytes={folder / 'batch.npy'}"], check=True, capture_output=True)
    labels, scores, errors = (
        np.load(folder / "cli" / f"{name}.npy", allow_pickle=True) for name in ("labels", "scores", "error")
    )
    read = errors == b""
    np.testing.assert_array_equal(read, [not reason for reason in np.array(reasons)[kept]])
    rows = expected["target"][kept][read]
    np.testing.assert_allclose(scores[read], np.sort(rows)[:, ::-1], atol=1e-5)
    np.testing.assert_array_equal(labels[read, 0], np.array([b"x", b"y", b"z"])[rows.argmax(1)])
