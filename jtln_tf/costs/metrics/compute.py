"""The metrics by name: what each takes from the evidence, and what it makes of it.

A metric is a function from `Evidence` to `(values [n, m], parameters)`; `building.py` centres and scales the values.
"""

import itertools

import numpy as np
from absl import logging

from jtln_tf.config import SIDES, InputError
from jtln_tf.costs.evidence import class_rows
from jtln_tf.costs.metrics.fisher import fit_fisher_encoder
from jtln_tf.costs.metrics.kernel_features import (
    NUM_FREQUENCIES,
    ClassEmbeddings,
    draw_kernel_features,
    mkmmd_of_embeddings,
)
from jtln_tf.costs.metrics.mkmmd import median_squared_distance, mkmmd_cost
from jtln_tf.costs.metrics.prediction import fit_source_classifier, prediction_cost
from jtln_tf.costs.metrics.taxonomy import parents_from_columns, read_parents, taxonomy_cost, wordnet_cost
from jtln_tf.costs.metrics.text import class_text, text_cost
from jtln_tf.costs.metrics.uniform import uniform_cost
from jtln_tf.costs.metrics.wasserstein import wasserstein_cost
from jtln_tf.costs.metrics.whitening import fit_whitening

# Pairs of a source and a target image beyond which `auto` takes the linear-time estimator.
_MOST_PAIRS = 2e8
# Images that stand for all of a domain where a scale is estimated, or descriptors are learnt.
_SAMPLE_SIZE = 2000


def mkmmd(evidence):
    """Multi-kernel MMD of features; over all pairs of images, or in linear time."""
    estimator = evidence.settings.estimator
    if estimator == "auto":
        estimator = "exact" if evidence.count("source") * evidence.count("target") <= _MOST_PAIRS else "linear"
    if estimator == "linear":
        values, is_whitened = _linear_mkmmd(evidence)
        return values, {**_describe_images(evidence), "whitened": is_whitened, "frequencies": NUM_FREQUENCIES}
    return _compare(mkmmd_cost, evidence)


def wasserstein(evidence):
    """Wasserstein distance between Gaussians fitted to the features of each class."""
    return _compare(wasserstein_cost, evidence)


def prediction(evidence):
    """How a source classifier votes on the target images; where there is none, one is fitted to the features."""
    described = _describe_images(evidence)
    if evidence.source_classifier is not None:
        votes, labels = evidence.source_votes
        described |= {"features": evidence.source_classifier.name, "classifier": evidence.source_classifier.name}
    else:
        votes, labels = evidence.target_features
        votes = fit_source_classifier(*evidence.source_features)(votes)
        described |= {"classifier": "logistic regression"}
    num_target_classes = evidence.domains["target"].num_classes
    return prediction_cost(votes, labels, num_target_classes=num_target_classes), described


def fisher_mkmmd(evidence):
    """Multi-kernel MMD of Fisher vectors of local descriptors: no network is asked."""
    samples = [_concatenate(evidence.images(side, _few_views(evidence, side)))[0] for side in SIDES]
    encoder = fit_fisher_encoder(np.concatenate(samples))
    encoded = [_concatenate((encoder(images), labels) for images, labels in evidence.images(side)) for side in SIDES]
    values, parameters = _compare(mkmmd_cost, evidence, encoded)
    return values, {**parameters, "features": "fisher"}


def text(evidence):
    """Distance between the names and descriptions of the classes."""
    texts, described = [], {}
    for side in SIDES:
        table, names = evidence.class_table[side], evidence.domains[side].class_names
        descriptions = {name: table.get(name, {}).get("description", "") for name in names}
        texts.append({name: class_text(name, description) for name, description in descriptions.items()})
        bare = [name for name, description in descriptions.items() if not description]
        described[f"described_{side}_classes"] = len(names) - len(bare)
        if table and bare:
            logging.warning(
                "%d of %d %s classes have no description in the class table, %r among them: only names are compared.",
                *(len(bare), len(names), side, bare[0]),
            )
    encoder = evidence.settings.text
    return text_cost(*texts, encoder), {"text": encoder, **described}


def taxonomy(evidence):
    """Distance in a tree of the classes."""
    tree, distance = evidence.settings.taxonomy, evidence.settings.taxonomy_distance
    nodes = [list(evidence.domains[side].class_names) for side in SIDES]
    kind, colon, rest = tree.partition(":")
    parameters = {"taxonomy": tree, "distance": distance}
    if colon and kind == "wordnet":
        nodes = [
            [row.get("synset") or name for name, row in zip(names, _rows_or_none(evidence, side, names), strict=True)]
            for side, names in zip(SIDES, nodes, strict=True)
        ]
        return wordnet_cost(*nodes, rest, distance), parameters
    if colon and kind == "columns":
        rows = {}
        for side, names in zip(SIDES, nodes, strict=True):
            rows |= dict(zip(names, class_rows(evidence, side, "cost_taxonomy"), strict=True))
        parents = parents_from_columns(rows, tuple(filter(None, rest.split(","))))
    elif tree.endswith(".csv"):
        parents = read_parents(tree)
    else:
        raise InputError(
            f"`cost_taxonomy` must be columns:NEAR,FAR, wordnet:FOLDER or a .csv of child,parent. Received: {tree!r}."
        )
    return taxonomy_cost(*nodes, parents, distance), parameters


def uniform(evidence):
    """0 for classes of the same name, else 1."""
    return uniform_cost(*(evidence.domains[side].class_names for side in SIDES)), {}


METRICS = {
    "mkmmd": mkmmd,
    "fisher_mkmmd": fisher_mkmmd,
    "wasserstein": wasserstein,
    "prediction": prediction,
    "text": text,
    "taxonomy": taxonomy,
    "uniform": uniform,
}


def _compare(cost, evidence, features=None):
    """`cost` of the features of both domains, whitened where the settings ask for it, and its parameters.

    `features` are `(features, labels)` of each domain in place of the evidence's own.
    """
    features = features or [evidence.source_features, evidence.target_features]
    whiten, is_whitened = _fit_whitening(evidence, features)
    whitened = [(whiten(of_side), labels) for of_side, labels in features]
    values = cost(*itertools.chain(*whitened), **_count_classes(evidence))
    return values, {**_describe_images(evidence), "whitened": is_whitened}


def _fit_whitening(evidence, features):
    matrix = fit_whitening(features) if evidence.settings.whitening else None
    if matrix is None:
        return (lambda features: features), False
    return (lambda features: features @ matrix), True


def _linear_mkmmd(evidence):
    model = evidence.features_model
    samples = [_concatenate(evidence.stream(side, model, _few_views(evidence, side))) for side in SIDES]
    whiten, is_whitened = _fit_whitening(evidence, samples)
    sample = np.concatenate([whiten(features) for features, _ in samples])
    kernel_features = draw_kernel_features(median_squared_distance(sample), sample.shape[1], NUM_FREQUENCIES)
    embeddings = []
    for side in SIDES:
        embedding = ClassEmbeddings(evidence.domains[side].num_classes, 2 * NUM_FREQUENCIES)
        for features, labels in evidence.stream(side, model):
            embedding.add(kernel_features(whiten(features)), labels)
        embeddings.append(embedding)
    return mkmmd_of_embeddings(*embeddings), is_whitened


def _few_views(evidence, side):
    # Of one view there is nothing to tell how views of a class differ.
    most = max(2, _SAMPLE_SIZE // evidence.domains[side].num_classes)
    return min(most, evidence.settings.images_per_class)


def _concatenate(batches):
    features, labels = zip(*batches, strict=True)
    return np.concatenate(features), np.concatenate(labels)


def _count_classes(evidence):
    return {f"num_{side}_classes": evidence.domains[side].num_classes for side in SIDES}


def _rows_or_none(evidence, side, names):
    return [evidence.class_table[side].get(name, {}) for name in names]


def _describe_images(evidence):
    model = evidence.features_model
    return {
        "images_per_class": evidence.settings.images_per_class,
        "features": "pixels" if model is None else model.name,
        "augmented": bool(evidence.augment),
    }
