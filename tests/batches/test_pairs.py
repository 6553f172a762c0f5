import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from jtln_tf.batches import augment_images, count_passes, pair_domains
from jtln_tf.batches.augmentation import draw_partners, mix
from jtln_tf.config import InputError
from jtln_tf.data import Domain, Split


def both(policy):
    return {"source_augmentation": policy, "target_augmentation": policy}


def make_images(count, side=16):
    """Random images whose first row tells which one it is: image i begins with gray value i."""
    images = np.random.default_rng(count).integers(0, 256, (count, side, side, 1), np.uint8)
    images[:, 0] = np.arange(count)[:, None, None]
    return images


def make_domain(images, **options):
    train = Split(images, np.arange(options.pop("count", len(images)), dtype=np.int32), 16, 1, **options)
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


def test_batches_are_full_and_typed_and_end_with_the_last_step():
    endless = pair_domains(SOURCE, TARGET, source_batch=4, target_batch=3)
    for name, size in (("source", 4), ("target", 3)):
        images, labels = endless.element_spec[name]
        assert images.dtype == tf.uint8 and labels.dtype == tf.int32
        for batch in endless.take(50).as_numpy_iterator():
            assert batch[name][0].shape == (size, 16, 16, 1) and batch[name][1].shape == (size,)
    assert len(draw(SOURCE, TARGET, 6, first_step=4)) == 2 and draw(SOURCE, TARGET, 6, first_step=6) == []
    assert count_passes(SOURCE, 4, 0) == 0 and count_passes(SOURCE, 4, 5) == 2.0


@pytest.mark.parametrize(("size", "batch"), [(1, 4), (10, 1), (10, 4), (7, 23)])
def test_each_pass_sees_every_image_once(size, batch):
    domain, steps = make_domain(make_images(size)), -(-3 * size // batch)
    drawn = [one["target"] for one in draw(None, domain, steps, target_batch=batch, **both("none"))]
    images, labels = (np.concatenate(part) for part in zip(*drawn, strict=True))
    np.testing.assert_array_equal(images, domain.train.images[labels])
    passes = labels[: 3 * size].reshape(3, size)
    np.testing.assert_array_equal(np.sort(passes), np.tile(np.arange(size), (3, 1)))
    assert len({tuple(row) for row in passes}) == (3 if size > 1 else 1)


def test_any_step_is_reached_at_once_and_each_domain_has_its_own_stream(source_on_disk):
    options = {"seed": 2, **both("crop,flip")}
    whole = draw(source_on_disk, TARGET, 9, **options)
    assert_equal_batches(draw(SOURCE, None, 9, **options), [{"source": batch["source"]} for batch in whole])
    assert_equal_batches(draw(None, TARGET, 9, **options), [{"target": batch["target"]} for batch in whole])
    for first_step in (1, 8):
        assert_equal_batches(draw(source_on_disk, TARGET, 9, first_step=first_step, **options), whole[first_step:])


def test_seeds_and_domains_have_orders_of_their_own():
    images = make_domain(np.zeros((40, 1, 1, 1), np.uint8))
    options = {"source_batch": 40, "target_batch": 40, **both("none")}
    drawn = [draw(images, images, 1, seed=seed, **options)[0] for seed in range(3)]
    assert len({tuple(batch[name][1]) for batch in drawn for name in batch}) == 6


@pytest.mark.parametrize(("policy", "on_disk"), [("crop,flip", False), ("rotate,mixup:1", True)])
def test_shards_are_slices_of_the_whole_batch(source_on_disk, policy, on_disk):
    source = source_on_disk if on_disk else SOURCE
    sizes = {"source_batch": 12, "target_batch": 6, "first_step": 2}
    options = {**sizes, **both(policy), "seed": 3, "second_view": True}
    shards = [draw(source, TARGET, 5, shard=(index, 3), **options) for index in range(3)]
    # A batch of (images, labels, second images), by domain.
    steps = zip(*shards, strict=True)
    joined = [tf.nest.map_structure(lambda *parts: np.concatenate(parts), *step) for step in steps]
    assert_equal_batches(joined, draw(source, TARGET, 5, **options))


def test_second_views_show_the_same_images_otherwise():
    options = {"source_batch": 10, **both("crop,mixup")}
    with_two, with_one = (draw(SOURCE, None, 4, second_view=second, **options) for second in (True, False))
    for batch, single in zip(with_two, with_one, strict=True):
        images, labels, second = batch["source"]
        assert_equal_batches([(images, labels)], [single["source"]])
        assert (images != second).any(axis=(1, 2, 3)).all()
    # Mixed alike: if an image is drawn as it is, both views are mixed from the same two pixels.
    flat = make_domain(np.arange(10, dtype=np.uint8)[:, None, None, None] * np.ones((1, 8, 8, 1), np.uint8))
    for batch in draw(flat, None, 2, second_view=True, **options):
        images, _, second = batch["source"]
        np.testing.assert_array_equal(images, second)


def test_second_views_of_activations_are_other_entries():
    # Image i has the views i, i + 100 and i + 200.
    entries = (np.arange(3)[:, None] * 100 + np.arange(4)).reshape(-1, 1).astype(np.float32)
    for batch in draw(make_domain(entries, count=4, views=3), None, 6, second_view=True):
        first, labels, second = batch["source"]
        np.testing.assert_array_equal(first[:, 0] % 100, labels)
        np.testing.assert_array_equal(second, (first + 100) % 300)


def test_policies_in_the_stream_are_those_of_the_functions():
    options = {"first_step": 2, "source_batch": 10, "seed": 4}
    images, labels = draw(SOURCE, None, 3, source_augmentation="crop,rotate,mixup", **options)[0]["source"]
    rows = draw(SOURCE, None, 3, **options, **both("none"))[0]["source"][1]
    views = augment_images(SOURCE.train.images[rows], 8, 2, policy="crop,rotate")
    mixing = draw_partners(10, 8, 2, 0.2)
    # A graph may fuse float32 sums.
    np.testing.assert_allclose(images, mix(views, *mixing), atol=1e-3)
    np.testing.assert_array_equal(labels, mix(tf.one_hot(rows, SOURCE.num_classes), *mixing))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"shard": (2, 2)}, r"`shard` must be \(index, count\) with 0 <= index < count. Received: \(2, 2\)"),
        ({"shard": (0, 3)}, "`source_batch` must be divisible by 3, the number of shards. Received: 4"),
        ({"target_augmentation": "rotate:400"}, "`target_augmentation` must have a number"),
        ({"source": None}, "`source` or `target` must be a Domain. Received: neither"),
    ],
)
def test_options_that_do_not_fit(options, message):
    with pytest.raises(InputError, match=message):
        pair_domains(**{"source": SOURCE, "target": None, "source_batch": 4, **options})
