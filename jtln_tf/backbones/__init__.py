"""Backbones: raw pixels in, features out. Floor 1: imports only `jtln_tf.config`."""

from jtln_tf.backbones.alexnet import LocalResponseNormalization
from jtln_tf.backbones.batch_norm import DomainBatchNormalization, has_domain_norms, images_of
from jtln_tf.backbones.building import BACKBONE_NAMES, build_backbone
from jtln_tf.backbones.identity import identify_backbone
from jtln_tf.backbones.importers.alexnet_import import import_alexnet_weights
from jtln_tf.backbones.kerashub import KERASHUB, check_kerashub_preset

__all__ = [
    "BACKBONE_NAMES",
    "KERASHUB",
    "DomainBatchNormalization",
    "LocalResponseNormalization",
    "build_backbone",
    "check_kerashub_preset",
    "has_domain_norms",
    "identify_backbone",
    "images_of",
    "import_alexnet_weights",
]
