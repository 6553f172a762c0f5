import logging
import shutil

import pytest

from jtln_tf.data import load_domain
from jtln_tf.experiment.leaks import count_leaks

COUNTS = [f"target_test_images_in_{side}_train" for side in ("target", "source")]


def load_with_a_leak(bars, folder, **options):
    """`bars` with two test images of the target in its training images, and one in the source's."""
    for side in ("source", "target"):
        # In splits of its own: the same image is never held out and kept otherwise.
        for path in (bars / side).glob("*/*"):
            split = "test" if side == "target" and path.stem in ("000", "001") else "train"
            (folder / side / split / path.parent.name).mkdir(parents=True, exist_ok=True)
            shutil.copy(path, folder / side / split / path.parent.name)
    specs = [f"folder:{folder}/{side}?test_fraction=0&validation_fraction=0" for side in ("source", "target")]
    domains = [load_domain(spec, image_size=16, cache="none") for spec in specs]
    tests, trains = domains[1].test.images, [domain.train.images for domain in domains]
    for test, train in ((tests[0], trains[0][0]), (tests[0], trains[1][0]), (tests[-1], trains[1][1])):
        shutil.copy(test, train)
    return [load_domain(domain.name, image_size=16, **options) for domain in domains]


@pytest.mark.parametrize("cache", ["memory", "none"])
def test_test_images_that_are_trained_on_are_counted_and_told(bars, tmp_path, cache, caplog):
    with caplog.at_level(logging.WARNING, logger="absl"):
        leaks = count_leaks(*load_with_a_leak(bars, tmp_path / "bars", cache=cache))
    assert leaks == dict(zip(COUNTS, (2, 1), strict=True))
    told = "{} of 6 target test images also stand in the {}'s training images, one of class 't0' among them. {}"
    assert [record.getMessage() for record in caplog.records] == [
        told.format(2, "target", "`jtln describe --domain=TARGET` names them."),
        told.format(1, "source", "`jtln describe --domain=TARGET --against=SOURCE` names them."),
    ]


def test_pixels_and_files_are_not_compared_and_nothing_is_said_without_a_leak(bars, caplog):
    source = load_domain("builtin:optdigits?per_class=5", image_size=16)
    target = load_domain(f"folder:{bars}/target", image_size=16, channels=1, cache="none")
    with caplog.at_level(logging.WARNING, logger="absl"):
        assert count_leaks(source, target) == dict(zip(COUNTS, (0, None), strict=True))
        assert set(count_leaks(source, source).values()) == {0}
    assert [record.getMessage() for record in caplog.records] == [
        "did not compare the test images with the source's training images: pixels cannot be compared with files."
    ]
