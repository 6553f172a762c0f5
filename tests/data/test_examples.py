"""How images are held out and drawn. Oracle: the same images divided alone, in another order, or one by one."""

import os

import numpy as np
import pytest

from jtln_tf.config import InputError
from jtln_tf.data.examples import Examples, hold_out, sample_per_class
from jtln_tf.data.reading.images import Files


def examples_of(numbers, labels, groups=None):
    """Images of two pixels that tell a number."""
    numbers = np.asarray(numbers)
    pixels = np.stack([numbers // 256, numbers % 256], 1).astype(np.uint8).reshape(-1, 1, 2, 1)
    groups = None if groups is None else np.array(groups, object)
    return Examples(pixels, np.asarray(labels, np.int32), numbers.astype(str), groups)


def numbers_of(examples):
    return set(map(int, examples.names))


def divide(examples, fraction=0.2):
    train, test = hold_out(examples, fraction, "test")
    train, validation = hold_out(train, 0.1, "validation")
    return [numbers_of(part) for part in (train, validation, test)]


def test_an_added_image_moves_no_other_one():
    rng = np.random.default_rng(0)
    moves = []
    for _ in range(40):
        numbers = rng.permutation(2**16)[:181]
        before = divide(examples_of(numbers[:180], np.arange(180) % 3))
        order = rng.permutation(181)
        after = divide(examples_of(numbers[order], (np.arange(181) % 3)[order]))
        moves.append(sum(len(one - other) for one, other in zip(before, after, strict=True)))
    # Classes of 60 nearly always give a share that no image has to mend.
    assert moves.count(0) >= 39 and max(moves) <= 1


def test_a_class_gives_its_share_and_keeps_some():
    rng = np.random.default_rng(1)
    for size in (2, 3, 5, 10):
        counts = []
        for _ in range(100):
            kept, held_out = hold_out(examples_of(rng.permutation(2**16)[:size], np.zeros(size)), 0.2, "test")
            assert len(kept) + len(held_out) == size
            counts.append(len(held_out))
        assert min(counts) == 1 and max(counts) <= max(1, round(0.4 * size))
    _, held_out = hold_out(examples_of(np.arange(20_000), np.zeros(20_000)), 0.2, "test")
    assert len(held_out) == pytest.approx(4000, abs=4 * np.sqrt(20_000 * 0.2 * 0.8))
    _, other = hold_out(examples_of(np.arange(20_000), np.zeros(20_000)), 0.2, "validation")
    assert len(numbers_of(held_out) & numbers_of(other)) == pytest.approx(800, abs=150)


def test_equal_images_and_groups_stay_together():
    numbers = np.repeat(np.arange(50), 2)
    train, validation, test = divide(examples_of(numbers, np.arange(100) % 2))
    assert not train & test and not train & validation and test and validation
    twins = examples_of([7, 7], [0, 0])
    assert len(hold_out(twins, 0.5, "test")[1]) == 0
    groups = [f"burst {number // 5}" if number < 150 else "" for number in range(200)]
    kept, held_out = hold_out(examples_of(np.arange(200), np.arange(200) % 3, groups), 0.3, "test")
    assert not set(kept.groups) - {""} & set(held_out.groups) and len(set(held_out.groups)) > 3
    with pytest.raises(InputError, match="A class must have images of two groups.*Received: 2 groups"):
        hold_out(examples_of(np.arange(6), np.arange(6) % 2, list("ababab")), 0.3, "test")


def test_an_added_image_replaces_one_of_a_draw():
    rng = np.random.default_rng(2)
    for trial in range(20):
        numbers = rng.permutation(2**16)[:61]
        labels, order = np.arange(61) % 2, rng.permutation(61)
        draw = [numbers_of(sample_per_class(examples_of(numbers[:60], labels[:60]), k, "ab", trial)) for k in (4, 5)]
        after = numbers_of(sample_per_class(examples_of(numbers[order], labels[order]), 5, "ab", trial))
        assert draw[0] < draw[1] and len(draw[1] - after) <= 1
    # Second copies come last.
    copies = examples_of(np.repeat(np.arange(5), 3), np.zeros(15))
    assert numbers_of(sample_per_class(copies, 5, "a", 0)) == set(range(5))


def test_files_are_told_by_their_bytes_and_read_once(tmp_path, monkeypatch):
    large = bytes(range(256)) * 400
    contents = {"a": b"1", "b": b"2", "copy of a": b"1", "large": large, "other": large[:-1] + b"x", "none": b""}
    for name, content in contents.items():
        (tmp_path / name).write_bytes(content)
    os.mkfifo(tmp_path / "pipe")
    paths = np.array([str(tmp_path / name) for name in [*contents, "pipe", "missing"]], object)
    keys = Files(paths).keys().tolist()
    assert keys[0] == keys[2] and keys[5] == keys[6] == keys[7] and len(set(keys)) == 5
    monkeypatch.setattr("builtins.open", None)
    assert Files(paths[::-1]).keys().tolist() == keys[::-1]
