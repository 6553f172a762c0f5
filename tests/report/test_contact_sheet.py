import dataclasses
import io

import numpy as np
from PIL import Image

from jtln_tf.data import divide_domain
from jtln_tf.report.contact_sheet import build_figure, save_contact_sheet


def paint(folder, counts, side=64):
    """Writes images of one colour each: the class is the red, the image the green."""
    for red, (name, count) in enumerate(counts.items()):
        (folder / name).mkdir(parents=True)
        for green in range(count):
            Image.new("RGB", (side, side), (10 + 20 * red, 10 + 20 * green, 0)).save(folder / name / f"{green}.png")
    return divide_domain(f"folder:{folder}?test_fraction=0&validation_fraction=0")


def find_images(figure):
    """Returns the left and the top of each image of `paint` in a picture, by (class, image)."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png")
    pixels = np.asarray(Image.open(buffer).convert("RGB")).astype(int)
    rows, columns = np.nonzero(pixels[..., 2] == 0)
    found = {}
    for red, green in {tuple(pixel[:2]) for pixel in pixels[rows[::7], columns[::7]]}:
        top, left = np.argwhere((pixels == (red, green, 0)).all(axis=-1)).min(axis=0)
        square = pixels[top : top + 64, left : left + 64]
        # Text is black.
        if red or green:
            assert square.shape == (64, 64, 3) and (square == (red, green, 0)).all()
            found[(red - 10) // 20, (green - 10) // 20] = left, top
    return found


def test_captions_stand_beside_their_images(tmp_path):
    names = ["Käse 数字", "a$b$c", "x" * 60, "d", "e", "f", "g", "h"]
    domain = paint(tmp_path, dict.fromkeys(sorted(names), 1) | {"d": 7})
    figure = build_figure(domain)
    images = find_images(figure)
    label = domain.listing.class_names.index("d")
    assert len(images) == 12 and sum(red == label for red, _ in images) == 5
    assert set(find_images(build_figure(domain, seed=2))) != set(images)
    title, *captions = figure.texts
    assert title.get_text().endswith("8 classes, up to 5 training images of each (seed 0)")
    shown = {caption.get_text(): caption.get_window_extent() for caption in captions}
    assert set(shown) == {r"Käse \u6570\u5b57", "a$b$c", "x" * 20 + "…" + "x" * 19, *"defgh"}
    for (label, _), (left, top) in images.items():
        box = list(shown.values())[label]
        assert 0 < box.x0 < box.x1 < left and abs(figure.bbox.height - (box.y0 + box.y1) / 2 - top - 32) < 4
    assert title.get_window_extent().x1 < figure.bbox.width
    # The rows stand in columns.
    assert len({left for left, _ in images.values()}) > 1


def test_a_very_long_list_shows_some_classes(tmp_path):
    domain = paint(tmp_path, {f"{row:03}": 1 for row in range(12)}, side=2)
    listing = dataclasses.replace(domain.listing, class_names=tuple(f"{row:03}" for row in range(400)))
    train = domain.splits["train"].take(np.arange(400) % 12)
    train = dataclasses.replace(train, labels=np.arange(400, dtype=np.int32))
    figure = build_figure(domain._replace(listing=listing, splits={"train": train}))
    title, *captions = [text.get_text() for text in figure.texts]
    assert "160 of 400 classes, evenly spread over the list" in title
    assert len(captions) == 160 and captions[0] == "000" and captions[-1] == "399"
    assert set(np.diff([int(caption) for caption in captions])) == {2, 3} and max(figure.bbox.size) < 4000


def test_a_picture_is_written_without_the_images_that_are_bad(tmp_path):
    (tmp_path / "data" / "a").mkdir(parents=True)
    (tmp_path / "data" / "a" / "0.png").write_bytes(b"")
    domain = divide_domain(f"folder:{tmp_path}/data")
    for name in ("one.png", "two.png"):
        save_contact_sheet(domain, tmp_path / name)
    assert (tmp_path / "one.png").read_bytes() == (tmp_path / "two.png").read_bytes()
    with Image.open(tmp_path / "one.png") as image:
        assert image.format == "PNG" and (np.asarray(image.convert("L")) < 128).any()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["data", "one.png", "two.png"]
