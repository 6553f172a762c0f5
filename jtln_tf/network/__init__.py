"""The network: one shared backbone and two softmax heads, and views of its parts."""

from jtln_tf.network.neck import find_neck
from jtln_tf.network.network import add_heads, build_network
from jtln_tf.network.surgery import copy_network, cut_network, describe_layers
from jtln_tf.network.views import (
    backbone_variables,
    domain_view,
    features_before_neck,
    features_model,
    head_variables,
    layer_output,
    outputs_model,
    predictions_model,
)
