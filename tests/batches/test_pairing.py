import itertools

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from jtln_tf.batches import augment_images, count_passes, pair_domains
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


def orders(size, passes, seed=0):
    """The order in which each pass sees `size` images, [passes, size]."""
    domain = make_domain(np.zeros((size, 1, 1, 1), np.uint8))
    batches = draw(domain, None, passes, source_batch=size, seed=seed, **PLAIN)
    return np.stack([one["source"][1] for one in batches])


@pytest.mark.parametrize("size", [2, 5, 40, 1000])
def test_order_is_drawn_evenly(size):
    drawn = orders(size, 300)
    in_place = (drawn == np.arange(size)).sum(1)
    repeated = (drawn[1:] == drawn[:-1]).sum(1)
    in_sequence = (np.diff(drawn) == 1).sum(1)
    # An even permutation keeps one image in place on average, with variance 1; 5 standard deviations of 300 passes.
    for count, expected in ((in_place, 1), (repeated, 1), (in_sequence, (size - 1) / size)):
        assert abs(count.mean() - expected) < 5 / np.sqrt(300)


def test_small_seeds_shuffle_from_the_first_pass_on():
    first_passes = np.stack([orders(200, 1, seed=seed)[0] for seed in range(8)])
    # 8 times Poisson(1): more than 25 has probability 1e-6.
    assert (first_passes == np.arange(200)).sum() <= 25
    assert (first_passes[1:] == first_passes[:-1]).sum() <= 25


def test_seed_decides_order_and_augmentation():
    options = both("crop", "flip")
    first = draw(SOURCE, TARGET, 4, seed=5, **options)
    assert_equal_batches(first, draw(SOURCE, TARGET, 4, seed=5, **options))
    assert len({tuple(orders(10, 1, seed=seed)[0]) for seed in range(6)}) == 6
    images = [draw(make_domain(make_images(1)), None, 3, seed=seed)[0]["source"][0] for seed in range(2)]
    assert (images[0] != images[1]).any()


def test_both_streams_have_an_order_of_their_own():
    batches = draw(SOURCE, SOURCE, 5, source_batch=4, target_batch=4, **PLAIN)
    source, target = (np.concatenate([one[name][1] for one in batches]) for name in ("source", "target"))
    assert (source != target).any()


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


def test_both_caches_give_the_same_batches(source_on_disk):
    options = {**both("crop", "flip"), "seed": 4}
    assert_equal_batches(draw(source_on_disk, TARGET, 6, **options), draw(SOURCE, TARGET, 6, **options))


def test_first_step_may_be_far():
    assert len(draw(SOURCE, TARGET, 10**9 + 2, first_step=10**9)) == 2


def test_steps_ends_the_stream():
    assert len(draw(SOURCE, TARGET, 6)) == 6
    assert len(draw(SOURCE, TARGET, 6, first_step=4)) == 2
    assert draw(SOURCE, TARGET, 6, first_step=6) == []
    endless = pair_domains(SOURCE, TARGET, source_batch=4, target_batch=3)
    assert len(list(itertools.islice(endless.as_numpy_iterator(), 50))) == 50


def shifts(image, reach):
    """All moves of an image by up to `reach` pixels each way, the border mirrored."""
    padded = np.pad(image, ((reach, reach), (reach, reach), (0, 0)), mode="reflect")
    height, width = image.shape[:2]
    return {
        (down, right): padded[down : down + height, right : right + width]
        for down in range(2 * reach + 1)
        for right in range(2 * reach + 1)
    }


@pytest.mark.parametrize("channels", [1, 3])
def test_random_crop_moves_by_an_eighth_with_mirrored_border(channels):
    images = np.random.default_rng(0).integers(0, 256, (2, SIDE, SIDE, channels), np.uint8)
    possible = [shifts(image, SIDE // 8) for image in images]
    moves = {0: [], 1: []}
    for batch in draw(make_domain(images), None, 40, source_batch=8, source_augmentation=("crop",)):
        for image, label in zip(*batch["source"], strict=True):
            found = [move for move, shifted in possible[label].items() if np.array_equal(image, shifted)]
            assert len(found) == 1
            moves[int(label)].extend(found)
    # 160 draws of 25 moves: one is missed with probability 25 * 0.96**160 < 4 %, and the seed is fixed.
    assert set(moves[0]) == set(possible[0]) and set(moves[1]) == set(possible[1])


def test_random_crop_leaves_small_images():
    images = np.random.default_rng(0).integers(0, 256, (3, 7, 7, 1), np.uint8)
    for batch in draw(make_domain(images), None, 5, source_augmentation=("crop",)):
        np.testing.assert_array_equal(batch["source"][0], images[batch["source"][1]])


def test_random_flip_gives_each_image_or_its_mirror():
    originals = SOURCE.train.images.values.astype(np.float32)
    is_mirrored = []
    for batch in draw(SOURCE, None, 50, source_batch=10, source_augmentation=("flip",)):
        for image, label in zip(*batch["source"], strict=True):
            mirrored = np.array_equal(image, originals[label][:, ::-1])
            assert mirrored or np.array_equal(image, originals[label])
            is_mirrored.append(mirrored)
    # 500 fair draws; 5 standard deviations.
    assert abs(np.mean(is_mirrored) - 0.5) < 5 * 0.5 / np.sqrt(500)


AUGMENT = {"policy": ("crop", "flip")}


@pytest.mark.parametrize("options", [{}, AUGMENT, {"policy": ("flip",)}])
def test_augmentation_depends_on_seed_and_step_alone(options):
    images = make_images(20, channels=3)
    first = augment_images(images, 3, 5, **options)
    assert first.dtype == tf.uint8 and first.shape == images.shape
    tf.random.set_seed(1)
    np.random.default_rng(1).random()
    np.testing.assert_array_equal(augment_images(images, 3, 5, **options), first)
    np.testing.assert_array_equal(augment_images(images, np.int64(3), tf.constant(5, tf.int64), **options), first)
    in_graph = tf.function(lambda seed, step: augment_images(images, seed, step, **options))
    np.testing.assert_array_equal(in_graph(3, 5), first)


@pytest.mark.parametrize(("seed", "step"), [(3, 6), (4, 5), (5, 3), (3 + 2**40, 5)])
def test_augmentation_differs_between_steps_and_seeds(seed, step):
    images = make_images(20)
    first, other = (augment_images(images, *key, **AUGMENT).numpy() for key in ((3, 5), (seed, step)))
    # 50 views of an image: an even draw repeats one in 50, so more than 4 of 20 by chance has probability 1e-4.
    assert (first == other).all(axis=(1, 2, 3)).sum() <= 4


def test_augmentation_starts_at_step_0_and_draws_for_each_image():
    images = np.repeat(make_images(1), 30, axis=0)
    views = augment_images(images, 0).numpy()
    np.testing.assert_array_equal(views, augment_images(images, 0, 0, policy=("crop",)))
    assert len(np.unique(views, axis=0)) > 10


def test_no_augmentation_changes_nothing():
    images = make_images(5)
    plain = augment_images(images, 0, policy=("none",))
    assert plain.dtype == tf.uint8
    np.testing.assert_array_equal(plain, images)


def test_neither_domain():
    with pytest.raises(ValueError, match="`source` or `target` must be a Domain. Received: neither"):
        pair_domains(None, None)


def test_count_passes():
    assert count_passes(SOURCE, 4, 0) == 0 and count_passes(SOURCE, 4, 5) == 2.0 and count_passes(TARGET, 3, 7) == 3.0
