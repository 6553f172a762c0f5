import types

import numpy as np
import pytest

from jtln_tf.costs.metrics.auto import compute_auto
from jtln_tf.costs.metrics.class_means import compute_class_means

NAMES = tuple("abcdefgh")


def make_evidence(source_names, target_names):
    """Classes whose images lie around a direction of their own; those of one place belong together."""
    generator, directions = np.random.default_rng(0), 5 * np.eye(len(NAMES))
    all_labels = [np.repeat(np.arange(len(names)), 6) for names in (source_names, target_names)]
    sides = [(directions[own] + generator.normal(size=(len(own), len(NAMES))), own) for own in all_labels]
    domains = {
        side: types.SimpleNamespace(class_names=names)
        for side, names in (("source", source_names), ("target", target_names))
    }
    return types.SimpleNamespace(features=sides, domains=domains, describe_images=dict)


def to_unit(values):
    centred = values - values.mean(0) - values.mean(1)[:, None] + values.mean()
    return centred / (centred.max() - centred.min())


@pytest.mark.parametrize("target_names", [NAMES, (*NAMES[:4], *"wxyz")])
def test_names_that_images_confirm_count_as_much_as_the_images(target_names):
    evidence = make_evidence(NAMES, target_names)
    by_images, _ = compute_class_means(evidence)
    by_names = np.array([[float(one != other) for other in target_names] for one in NAMES])
    values, parameters = compute_auto(evidence)
    assert parameters == {"names": 0.5}
    np.testing.assert_allclose(values, 0.5 * to_unit(by_images) + 0.5 * to_unit(by_names), rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("target_names", [tuple("stuvwxyz"), NAMES[1:] + NAMES[:1]])
def test_without_names_that_images_confirm_they_count_nothing(target_names):
    evidence = make_evidence(NAMES, target_names)
    values, parameters = compute_auto(evidence)
    assert parameters == {"names": 0.0}
    np.testing.assert_array_equal(values, compute_class_means(evidence)[0])


def test_names_that_images_half_confirm_count_half():
    # Of three target classes among four, no order is three standard deviations above chance.
    evidence = make_evidence(NAMES[:4], NAMES[:3])
    by_images, _ = compute_class_means(evidence)
    by_names = np.array([[float(one != other) for other in NAMES[:3]] for one in NAMES[:4]])
    values, parameters = compute_auto(evidence)
    weight = parameters["names"]
    assert 0.5 * 0.3 < weight < 0.5 * 0.6
    expected = (1 - weight) * to_unit(by_images) + weight * to_unit(by_names)
    np.testing.assert_allclose(values, expected, rtol=1e-6, atol=1e-9)
