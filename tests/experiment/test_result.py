import numpy as np
import tensorflow as tf

from jtln_tf.data import decode_image
from jtln_tf.experiment.assembly import build_run_network, load_run_domains
from jtln_tf.experiment.result import export_run
from jtln_tf.experiment.workdir import Run
from jtln_tf.export.saved_model import load_export
from tests.experiment.runs import make_config


def test_the_export_crops_images_as_the_target_does(bars, tmp_path):
    config = make_config(bars, data={"target": "folder:target?crop_bottom=6"})
    domains = load_run_domains(config)
    network = build_run_network(config, domains)
    assert export_run(Run(tmp_path, config), network, domains, tmp_path / "out") < 1e-4
    signatures, _ = load_export(tmp_path / "out")
    path = next((bars / "target" / "t1").iterdir())
    image = decode_image(tf.constant(path.read_bytes()), 16, 1, crop_bottom=6)
    served = signatures["probabilities"](image_bytes=tf.constant([path.read_bytes()]))["target"]
    np.testing.assert_allclose(served, network(tf.cast(image, tf.float32)[None])["target"], atol=1e-6)
