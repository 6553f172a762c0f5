"""Several devices and several processes that train one network on shares of each batch."""

from jtln_tf.distribution.predicting import predict
from jtln_tf.distribution.replicas import Replicas, names_workers, open_replicas, replicas_of
