"""Backbones: raw pixels in, features out."""

from jtln_tf.backbones.backbone import WHOLE_BACKBONE, build_backbone, check_backbone_files, is_untrained
from jtln_tf.backbones.batch_norm import current_domain, has_domain_norms, images_of
from jtln_tf.backbones.cloning import clone_model
from jtln_tf.backbones.dropout import Dropout, images_at, share_batches
from jtln_tf.backbones.identity import identify_backbone
from jtln_tf.backbones.importers.alexnet import import_alexnet_weights
from jtln_tf.backbones.precision import computing_in, scales_loss
from jtln_tf.backbones.registry import usual_image_size
from jtln_tf.backbones.saved_trunk import is_saved_trunk
from jtln_tf.backbones.stochastic_norm import StochasticNormalization, mix_statistics
