"""Class cost matrices: values with the names they belong to, their files and pictures, and the metrics. Floor 1."""

from jtln_tf.costs.class_means import class_means_cost
from jtln_tf.costs.cost_matrix import CostMatrix, load_cost_matrix
from jtln_tf.costs.fisher import fit_fisher_encoder
from jtln_tf.costs.kernel_features import NUM_FREQUENCIES, ClassEmbeddings, draw_kernel_features, mkmmd_of_embeddings
from jtln_tf.costs.mkmmd import median_squared_distance, mkmmd_cost
from jtln_tf.costs.picture import draw_picture, format_nearest, save_picture
from jtln_tf.costs.prediction import fit_source_classifier, prediction_cost
from jtln_tf.costs.scaling import centre, double_centre, dual_centre, scale
from jtln_tf.costs.taxonomy import parents_from_columns, read_parents, taxonomy_cost, wordnet_cost
from jtln_tf.costs.text import class_text, text_cost
from jtln_tf.costs.uniform import uniform_cost
from jtln_tf.costs.wasserstein import wasserstein_cost
from jtln_tf.costs.whitening import fit_whitening

__all__ = [
    "NUM_FREQUENCIES",
    "ClassEmbeddings",
    "CostMatrix",
    "centre",
    "class_means_cost",
    "class_text",
    "double_centre",
    "draw_kernel_features",
    "draw_picture",
    "dual_centre",
    "fit_fisher_encoder",
    "fit_source_classifier",
    "fit_whitening",
    "format_nearest",
    "load_cost_matrix",
    "median_squared_distance",
    "mkmmd_cost",
    "mkmmd_of_embeddings",
    "parents_from_columns",
    "prediction_cost",
    "read_parents",
    "save_picture",
    "scale",
    "taxonomy_cost",
    "text_cost",
    "uniform_cost",
    "wasserstein_cost",
    "wordnet_cost",
]
