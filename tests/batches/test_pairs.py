import itertools

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from jtln_tf.batches import augment_images, count_passes, mix_images, pair_domains
from jtln_tf.config import InputError
from jtln_tf.data import Domain, Split

PLAIN = {"source_augmentation": (), "target_augmentation": ()}
SIDE = 16


def both(*policy):
    return {"source_augmentation": policy, "target_augmentation": policy}


def make_images(count, channels=1):
    """Random images whose first row tells which one it is: image i begins with gray value i."""
    images = np.random.default_rng(count).integers(0, 256, (count, SIDE, SIDE, channels), np.uint8)
    images[:, 0] = np.arange(count)[:, None, None]
    return images


def make_domain(images, labels=None):
    labels = np.arange(len(images), dtype=np.int32) if labels is None else labels
    train = Split(images, labels, SIDE, 1)
    return Domain("test", ("a",), train, train, train)


SOURCE, TARGET = make_domain(make_images(10)), make_domain(make_images(7))


@pytest.fixture(scope="module")
def source_on_disk(tmp_path_factory):
    """The images of SOURCE as files, decoded each time they are read."""
    folder = tmp_path_factory.mktemp("source")
    paths = [str(folder / f"{index}.png") for index in range(len(SOURCE.train))]
    for path, image in zip(paths, SOURCE.train.images, strict=True):
        Image.fromarray(image[..., 0]).save(path)
    return make_domain(np.array(paths, object))


def draw(source, target, steps, **options):
    batches = pair_domains(source, target, steps=steps, **{"source_batch": 4, "target_batch": 3, **options})
    return list(batches.as_numpy_iterator())


def assert_equal_batches(ours, theirs):
    assert len(ours) == len(theirs)
    for left, right in zip(ours, theirs, strict=True):
        tf.nest.map_structure(np.testing.assert_array_equal, left, right)


def test_batches_are_full_and_typed():
    batches = pair_domains(SOURCE, TARGET, source_batch=4, target_batch=3)
    for name, size in (("source", 4), ("target", 3)):
        images, labels = batches.element_spec[name]
        assert images.dtype == tf.uint8 and labels.dtype == tf.int32
        for first in batches.take(2).as_numpy_iterator():
            assert first[name][0].shape == (size, SIDE, SIDE, 1) and first[name][1].shape == (size,)


@pytest.mark.parametrize("on_disk", [False, True])
def test_labels_travel_with_their_images(source_on_disk, on_disk):
    source = source_on_disk if on_disk else SOURCE
    for batch in draw(source, None, 5, **PLAIN):
        images, labels = batch["source"]
        np.testing.assert_array_equal(images, SOURCE.train.images[labels])


@pytest.mark.parametrize("size", [1, 2, 3, 5, 7, 10])
@pytest.mark.parametrize("batch", [1, 4, 23])
def test_each_pass_sees_every_image_once(size, batch):
    domain = make_domain(make_images(size))
    steps = -(-3 * size // batch)
    labels = np.concatenate([one["target"][1] for one in draw(None, domain, steps, target_batch=batch, **PLAIN)])
    passes = labels[: 3 * size].reshape(3, size)
    np.testing.assert_array_equal(np.sort(passes), np.tile(np.arange(size), (3, 1)))
    if size == 10:
        assert len({tuple(row) for row in passes}) == 3


def test_stream_of_one_domain_is_that_of_both():
    both = draw(SOURCE, TARGET, 3)
    for name, alone in (("source", draw(SOURCE, None, 3)), ("target", draw(None, TARGET, 3))):
        assert all(list(one) == [name] for one in alone)
        assert_equal_batches(alone, [{name: one[name]} for one in both])


@pytest.mark.parametrize("on_disk", [False, True])
@pytest.mark.parametrize("policy", [(), ("crop", "flip")])
def test_first_step_reaches_the_same_batches(source_on_disk, on_disk, policy):
    source = source_on_disk if on_disk else SOURCE
    options = {"seed": 2, **both(*policy)}
    whole = draw(source, TARGET, 9, **options)
    for first_step in (1, 5, 8):
        assert_equal_batches(draw(source, TARGET, 9, first_step=first_step, **options), whole[first_step:])


def test_steps_ends_the_stream():
    assert len(draw(SOURCE, TARGET, 6)) == 6
    assert len(draw(SOURCE, TARGET, 6, first_step=4)) == 2
    assert draw(SOURCE, TARGET, 6, first_step=6) == []
    endless = pair_domains(SOURCE, TARGET, source_batch=4, target_batch=3)
    assert len(list(itertools.islice(endless.as_numpy_iterator(), 50))) == 50


def test_count_passes():
    assert count_passes(SOURCE, 4, 0) == 0 and count_passes(SOURCE, 4, 5) == 2.0 and count_passes(TARGET, 3, 7) == 3.0


def test_seeds_and_domains_have_orders_of_their_own():
    images = make_domain(np.zeros((40, 1, 1, 1), np.uint8))
    drawn = [draw(images, images, 1, source_batch=40, target_batch=40, seed=seed, **PLAIN)[0] for seed in range(3)]
    assert len({tuple(batch[name][1]) for batch in drawn for name in batch}) == 6


@pytest.mark.parametrize("policy", ["crop,flip", "rotate,mixup:1"])
def test_shards_are_slices_of_the_whole_batch(policy):
    options = {
        "source_batch": 12,
        "target_batch": 6,
        "seed": 3,
        "first_step": 2,
        **both(*policy.split(",")),
        "second_view": True,
    }
    whole = draw(SOURCE, TARGET, 5, **options)
    shards = [draw(SOURCE, TARGET, 5, shard=(index, 3), **options) for index in range(3)]
    # A batch of (images, labels, second images), by domain.
    steps = zip(*shards, strict=True)
    joined = [tf.nest.map_structure(lambda *parts: np.concatenate(parts), *step) for step in steps]
    assert_equal_batches(joined, whole)


def test_a_shard_reads_the_partners_of_its_images(source_on_disk):
    options = {"source_batch": 6, "source_augmentation": "mixup"}
    whole = draw(source_on_disk, None, 3, **options)
    second_half = draw(source_on_disk, None, 3, shard=(1, 2), **options)
    assert_equal_batches(second_half, [tf.nest.map_structure(lambda x: x[3:], batch) for batch in whole])


def test_second_views_show_the_same_images_otherwise():
    options = {"source_batch": 10, **both("crop", "mixup")}
    with_two, with_one = (draw(SOURCE, None, 4, second_view=second, **options) for second in (True, False))
    for batch, single in zip(with_two, with_one, strict=True):
        images, labels, second = batch["source"]
        np.testing.assert_array_equal(images, single["source"][0])
        np.testing.assert_array_equal(labels, single["source"][1])
        assert (images != second).any(axis=(1, 2, 3)).all()
    # Mixed alike: if an image is drawn as it is, both views are mixed from the same two pixels.
    flat = make_domain(np.arange(10, dtype=np.uint8)[:, None, None, None] * np.ones((1, 8, 8, 1), np.uint8))
    for batch in draw(flat, None, 2, second_view=True, **options):
        images, _, second = batch["source"]
        np.testing.assert_array_equal(images, second)


def test_second_views_of_activations_are_other_entries():
    # Image i has the views i, i + 100 and i + 200.
    entries = (np.arange(3)[:, None] * 100 + np.arange(4)).reshape(-1, 1).astype(np.float32)
    split = Split(entries, np.arange(4, dtype=np.int32), 16, 1, views=3)
    for batch in draw(Domain("test", ("a",), split, split, split), None, 6, second_view=True):
        first, labels, second = batch["source"]
        np.testing.assert_array_equal(first[:, 0] % 100, labels)
        np.testing.assert_array_equal(second, (first + 100) % 300)


def test_policies_in_the_stream_are_those_of_the_functions():
    (batch,) = draw(SOURCE, None, 3, first_step=2, source_batch=10, seed=4, source_augmentation="crop,rotate,mixup")
    rows = draw(SOURCE, None, 3, first_step=2, source_batch=10, seed=4, **PLAIN)[0]["source"][1]
    views = augment_images(SOURCE.train.images[rows], 8, 2, policy="crop,rotate")
    images, labels = mix_images(views, rows, SOURCE.num_classes, 8, 2, alpha=0.2)
    # A graph may fuse float32 sums.
    np.testing.assert_allclose(batch["source"][0], images, atol=1e-3)
    np.testing.assert_array_equal(batch["source"][1], labels)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"shard": (2, 2)}, r"`shard` must be \(index, count\) with 0 <= index < count. Received: \(2, 2\)"),
        ({"shard": (0, 3)}, "`source_batch` must be divisible by 3, the number of shards. Received: 4"),
        ({"source_augmentation": "blur"}, "`source_augmentation` must be none, or some of"),
        ({"target_augmentation": "rotate:400"}, "`target_augmentation` must have a number"),
    ],
)
def test_options_that_do_not_fit(options, message):
    with pytest.raises(InputError, match=message):
        pair_domains(SOURCE, None, source_batch=4, **options)


def test_neither_domain():
    with pytest.raises(ValueError, match="`source` or `target` must be a Domain. Received: neither"):
        pair_domains(None, None)
