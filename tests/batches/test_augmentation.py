import colorsys
import zlib

import numpy as np
import pytest
import scipy.stats
import tensorflow as tf
from PIL import Image

from jtln_tf.batches import augment_images, keras_layers
from jtln_tf.batches.augmentation import augment_each, draw_partners, mix
from jtln_tf.batches.draws import Draws
from jtln_tf.config import parse_augmentation

POLICIES = ("crop", "flip", "rotate:30", "zoom", "colour:0.4:0.1", "erase:1", "randaugment:1")


def make_images(count, channels=3, side=16):
    return np.random.default_rng(count).integers(0, 256, (count, side, side, channels), np.uint8)


@pytest.mark.parametrize(("seed", "step", "checksum"), [(0, 0, 3003577599), (2**31 - 1, 10**9, 1625528562)])
def test_crop_and_flip_are_those_of_published_runs(seed, step, checksum):
    images = (np.arange(6 * 16 * 16 * 3) * 7919 % 251).astype(np.uint8).reshape(6, 16, 16, 3)
    views = augment_images(images, seed, step, policy="crop,flip").numpy().astype(np.float32)
    assert zlib.crc32(views.tobytes()) == checksum


@pytest.mark.parametrize(("policy", "channels"), [*((one, 3) for one in POLICIES), (",".join(POLICIES), 1)])
def test_each_image_has_draws_of_its_own_that_follow_seed_and_step(policy, channels):
    images = np.repeat(make_images(1, channels), 20, axis=0)
    views = augment_images(images, 3, 5, policy=policy)
    assert views.dtype == (tf.uint8 if policy in ("crop", "flip") else tf.float32) and views.shape == images.shape
    assert np.isfinite(views).all() and np.min(views) >= 0 and np.max(views) <= 255
    assert len(np.unique(views, axis=0)) >= (2 if policy == "flip" else 10)
    for other in ((3, 6), (4, 5)):
        assert (augment_images(images, *other, policy=policy).numpy() != views.numpy()).any()


@pytest.mark.parametrize("policy", ["crop,flip", "rotate,zoom", "colour:0.4:0.1", "erase:1", "randaugment:2:1"])
def test_a_part_of_a_batch_is_augmented_as_in_the_whole_batch(policy):
    images = make_images(24, side=20)
    whole = augment_images(images, 3, 5, policy=policy)
    for rows in (range(12, 24), [23, 0, 5]):
        part = augment_images(images[rows], 3, 5, policy=policy, positions=tf.constant(rows), batch_size=24)
        np.testing.assert_array_equal(part, whole.numpy()[rows])


def test_a_graph_draws_anew_in_every_step_and_the_same_again():
    images = make_images(12)
    in_graph = tf.function(lambda step: augment_images(images, 3, step, policy="zoom,colour,randaugment:1"))
    first, second = (in_graph(tf.constant(step, tf.int64)).numpy() for step in (5, 6))
    assert (first != second).any(axis=(1, 2, 3)).all()
    np.testing.assert_array_equal(in_graph(tf.constant(5, tf.int64)), first)
    # A graph may fuse float32 sums; a saturation of a dark pixel makes most of it.
    np.testing.assert_allclose(augment_images(images, 3, 5, policy="zoom,colour,randaugment:1"), first, atol=0.01)


def test_with_a_key_each_an_image_is_augmented_alike_in_any_batch():
    images, keys = make_images(8), np.random.default_rng(0).integers(-(2**63), 2**63, (8, 2))
    policy = parse_augmentation("crop,flip,zoom,colour,erase,randaugment:1")
    views = augment_each(images, keys, policy).numpy()
    for row in range(8):
        # A graph may fuse float32 sums; a saturation of a dark pixel makes most of it.
        alone = augment_images(images[row : row + 1], *keys[row], policy=policy)
        np.testing.assert_allclose(views[row], alone[0], atol=0.01)
    np.testing.assert_array_equal(augment_each(images[[5, 2]], keys[[5, 2]], policy), views[[5, 2]])
    assert (augment_each(images, keys[::-1], policy).numpy() != views).any(axis=(1, 2, 3)).all()


def test_no_other_seed_decides_and_none_is_used_up():
    images = make_images(4)
    keras_layers._layer.cache_clear()
    tf.keras.utils.set_random_seed(1)
    first = augment_images(images, 3, 5, policy=POLICIES).numpy()
    following = np.random.random(), float(tf.random.uniform([]))
    tf.keras.utils.set_random_seed(1)
    assert following == (np.random.random(), float(tf.random.uniform([])))
    np.testing.assert_array_equal(augment_images(images, 3, 5, policy=POLICIES), first)


def smooth_image(side=33):
    rows, columns = np.mgrid[:side, :side] / side
    return (127 + 60 * np.sin(7 * rows + 2) + 60 * np.cos(9 * columns + rows)).astype(np.float32)


def inner(images, side=33):
    rows, columns = np.mgrid[:side, :side] - (side - 1) / 2
    return np.asarray(images)[..., rows**2 + columns**2 < (side / 3) ** 2]


def test_rotations_are_those_of_pil(count=24):
    image, angles = smooth_image(), np.linspace(-30, 30, 61)
    pil = Image.fromarray(image)
    possible = inner(np.stack([np.asarray(pil.rotate(angle, Image.Resampling.BILINEAR)) for angle in angles]))
    views = inner(augment_images(np.repeat(image[None, ..., None], count, 0), 0, policy="rotate:30")[..., 0])
    errors = np.abs(views[:, None] - possible[None]).max(-1)
    # Half a step of the grid, 0.5 degrees, moves the rim by 0.1 pixel; the image changes by 20 a pixel.
    assert errors.min(1).max() < 4
    found = angles[errors.argmin(1)]
    assert found.min() < -15 and found.max() > 15


def test_colour_of_gray_images_changes_brightness_and_contrast_alone():
    image = np.random.default_rng(0).uniform(110, 140, (8, 8))
    views = augment_images(np.repeat(image[None, ..., None], 30, 0), 0, policy=("colour:0.4",)).numpy()
    slopes, offsets = np.polyfit(image.ravel(), views.reshape(30, -1).T, 1)
    np.testing.assert_allclose(views[..., 0], slopes[:, None, None] * image + offsets[:, None, None], atol=0.01)
    shifts = views.mean((1, 2, 3)) - image.mean()
    assert 0.6 <= min(slopes) < 0.8 and 1.2 < max(slopes) <= 1.4
    assert -51 <= min(shifts) < -25 and 25 < max(shifts) <= 51


def test_colour_turns_the_hue_and_stretches_the_saturation():
    rgb = np.array([100.0, 140.0, 120.0])
    images = np.tile(rgb, (40, 4, 4, 1))
    # The strength is next to nothing.
    turned = augment_images(images, 0, policy=("colour:0.0001:0.2",)).numpy()[:, 0, 0]
    turns = [colorsys.rgb_to_hsv(*view)[0] - colorsys.rgb_to_hsv(*rgb)[0] for view in turned]
    assert -0.2 <= min(turns) < -0.1 and 0.1 < max(turns) <= 0.2
    stretched = augment_images(images, 0, policy=("colour:0.5",)).numpy()[:, 0, 0]
    ratios = [colorsys.rgb_to_hsv(*view)[1] / colorsys.rgb_to_hsv(*rgb)[1] for view in stretched]
    assert max(ratios) > 1.2 and min(ratios) < 0.8
    hues = [colorsys.rgb_to_hsv(*view)[0] for view in stretched]
    np.testing.assert_allclose(hues, colorsys.rgb_to_hsv(*rgb)[0], atol=0.01)


def test_erase_fills_one_box_of_some_images():
    images = np.full((200, 32, 32, 3), 7, np.uint8)
    views = augment_images(images, 0, policy=("erase:0.3",)).numpy()
    assert set(np.unique(views)) == {7, 127.5}
    erased = (views != 7).any(-1)
    hit = erased[erased.any((1, 2))]
    # 5 standard deviations of 200 draws.
    assert abs(len(hit) / 200 - 0.3) < 5 * np.sqrt(0.3 * 0.7 / 200)
    # As many pixels as a box of these sides has, rounded.
    boxes = hit.any(1).sum(1) * hit.any(2).sum(1)
    assert (hit.sum((1, 2)) == boxes).all() and boxes.min() > 0.01 * 32**2 and boxes.max() < 0.4 * 32**2


def test_randaugment_draws_operations_for_each_image(monkeypatch):
    marks = [lambda images, key, size, mark=10.0**index: images + mark for index in range(5)]
    monkeypatch.setattr(keras_layers, "_RANDAUGMENT", tuple(marks))
    draw = tf.function(lambda step: augment_images(np.zeros((300, 1, 1, 1)), 0, step, policy=("randaugment:2",)))
    drawn = np.array([list(f"{int(view):05}") for view in draw(tf.constant(3, tf.int64)).numpy().ravel()], int)
    assert (drawn.sum(1) == 2).all() and (drawn == 2).any()
    # 600 draws of 5; 5 standard deviations.
    np.testing.assert_allclose(drawn.sum(0) / 600, 0.2, atol=5 * np.sqrt(0.2 * 0.8 / 600))
    assert (draw(tf.constant(3, tf.int64)) != draw(tf.constant(4, tf.int64))).numpy().any()


@pytest.mark.parametrize("alpha", [0.2, 5.0])
def test_mixup_mixes_with_partners_by_weights_of_a_beta_distribution(alpha, count=400):
    partners, weights = (x.numpy() for x in draw_partners(count, 3, 5, alpha))
    np.testing.assert_array_equal(np.sort(partners), np.arange(count))
    assert scipy.stats.kstest(weights, scipy.stats.beta(alpha, alpha).cdf).pvalue > 1e-3
    values = np.random.default_rng(0).uniform(0, 255, (count, 2)).astype(np.float32)
    expected = weights[:, None] * values + (1 - weights[:, None]) * values[partners]
    np.testing.assert_allclose(mix(values, partners, weights), expected, rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize("operation", range(len(keras_layers._RANDAUGMENT)))
def test_each_operation_of_randaugment_follows_the_magnitude(operation):
    image = np.random.default_rng(0).uniform(5, 250, (1, 16, 16, 3)) * [0.4, 0.8, 1.0]
    images = tf.constant(np.repeat(image, 12, axis=0), tf.float32)
    draws = Draws(tf.constant([1, 2], tf.int64), 12)
    least, most = (keras_layers._RANDAUGMENT[operation](images, draws, size).numpy() for size in (0.01, 1))
    assert min(least.min(), most.min()) >= 0 and max(least.max(), most.max()) <= 255
    changes = [np.abs(views - images).mean((1, 2, 3)).max() for views in (least, most)]
    # At the least magnitude the brightest pixels may be solarized, the last bit lost; contrast stretches by itself.
    assert changes[1] > 4 and (changes[0] < 4 or operation == 0)


def test_crop_moves_by_an_eighth_with_mirrored_border():
    image = make_images(1)[0]
    padded = np.pad(image, ((2, 2), (2, 2), (0, 0)), mode="reflect")
    possible = [padded[down : down + 16, right : right + 16] for down in range(5) for right in range(5)]
    views = augment_images(np.repeat(image[None], 300, axis=0), 0, policy="crop").numpy()
    found = [[np.array_equal(view, move) for move in possible].index(True) for view in views]
    # 300 draws of 25 moves: one is missed with probability 25 * 0.96**300, or 1e-4.
    assert set(found) == set(range(25))


def test_flip_mirrors_half_of_the_images():
    images = make_images(500)
    views = augment_images(images, 0, policy="flip").numpy()
    mirrored = (views == images[:, :, ::-1]).all(axis=(1, 2, 3))
    assert (mirrored | (views == images).all(axis=(1, 2, 3))).all()
    # 5 standard deviations of fair draws.
    assert abs(mirrored.mean() - 0.5) < 5 * 0.5 / np.sqrt(500)
