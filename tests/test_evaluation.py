import keras
import numpy as np
import pytest

from jtln_tf.config import InputError, NonFiniteLossError
from jtln_tf.data import Domain, Split
from jtln_tf.evaluation import Evaluation, evaluate


def make_domain(labels, num_classes=3):
    """Images whose first pixel is their position, so that a network can be told what to answer to each."""
    images = np.zeros((len(labels), 4, 4, 1), np.uint8)
    images[:, 0, 0, 0] = np.arange(len(labels))
    split = Split(images, np.array(labels, np.int32), 4, 1)
    empty = split.take(np.arange(0))
    return Domain("made", tuple(f"c{label}" for label in range(num_classes)), split, empty, split)


def make_network(answers, num_classes=3):
    """A network that answers each image by its position."""
    image = keras.Input((4, 4, 1))
    position = keras.ops.cast(image[:, 0, 0, 0], "int32")
    table = keras.layers.Embedding(len(answers), num_classes)
    model = keras.Model(image, {"target": table(position)})
    table.set_weights([np.eye(num_classes)[answers]])
    return model


def test_every_image_counts_once_whatever_the_batch_size():
    labels, answers = [0, 0, 0, 1, 1, 2, 2], [0, 0, 1, 1, 1, 0, 2]
    for batch_size in (1, 2, 100):
        result = evaluate(make_network(answers), make_domain(labels), batch_size=batch_size)
        np.testing.assert_array_equal(result.confusion, [[2, 1, 0], [0, 2, 0], [1, 0, 1]])
    assert result.num_images == 7
    assert result.accuracy == pytest.approx(5 / 7)
    assert result.macro_accuracy == pytest.approx((2 / 3 + 1 + 1 / 2) / 3)
    # Wrong by certainty: the logarithm is that of the least probability that counts.
    assert result.loss == pytest.approx(-2 / 7 * np.log(1e-12), rel=1e-4)


def test_the_most_confident_mistakes_are_kept():
    network = make_network([0, 0, 1])
    network.layers[-1].set_weights([np.array([[0.6, 0.4, 0], [0.9, 0.1, 0], [0.3, 0.7, 0]])])
    found = evaluate(network, make_domain([1, 1, 1])).mistakes
    assert [(one.image, one.label, one.predicted) for one in found] == [(1, 1, 0), (0, 1, 0)]
    assert found[0].probability == pytest.approx(0.9)


def test_a_class_without_images_has_no_accuracy_and_does_not_count():
    result = Evaluation(("a", "b", "c"), np.array([[1, 1, 0], [0, 0, 0], [0, 0, 2]]))
    assert np.isnan(result.class_accuracies[1])
    assert result.macro_accuracy == pytest.approx((0.5 + 1) / 2)
    assert result.to_json()["classes"][1] == {"class": "b", "images": 0, "accuracy": None}


@pytest.mark.parametrize(
    ("num_classes", "split", "message"),
    [
        (3, "validation", "`split` must have images. Received: 'validation' of 'made'"),
        (4, "test", "must have the 4 classes of 'made'. Received: 3"),
    ],
)
def test_what_does_not_fit_is_refused(num_classes, split, message):
    with pytest.raises(InputError, match=message):
        evaluate(make_network([0, 1]), make_domain([0, 1], num_classes=num_classes), split=split)


def test_probabilities_that_are_not_finite_are_no_accuracy():
    network = make_network([0, 1, 2])
    answers = np.eye(3)
    answers[1] = np.nan
    network.layers[-1].set_weights([answers])
    with pytest.raises(NonFiniteLossError, match="must be finite. Received: NaN for 1 of the test images of 'made'"):
        evaluate(network, make_domain([0, 1, 2]))
