import json

import pytest

from jtln_tf.config import DeviceConfig, InputError, NetworkConfig
from jtln_tf.experiment.run import run_experiment
from tests.experiment.runs import make_config, read_losses


def test_the_log_tells_the_speed_and_a_profile_is_replaced_with_its_run(bars, tmp_path):
    config, devices = make_config(bars, "joint"), DeviceConfig(profile_steps=(2, 3))
    for overwrite in (False, True):
        run_experiment(config, tmp_path / "run", export=False, devices=devices, overwrite=overwrite)
    assert len(list((tmp_path / "run" / "tensorboard").rglob("*.xplane.pb"))) == 1
    entries = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    for entry in [entry for entry in entries if "loss" in entry]:
        assert 0 < entry["data_wait_seconds"] < entry["step_seconds"]
        assert entry["images_per_second"] == pytest.approx(14 / entry["step_seconds"])


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["mixed_bfloat16", "mixed_float16"])
def test_mixed_precision_trains_like_float32_and_its_export_agrees(bars, tmp_path, precision):
    losses = {}
    for name in ("float32", precision):
        config = make_config(bars, "joint", network={"precision": name, "head_hidden_units": (8,)})
        result = run_experiment(config, tmp_path / name, export=name == precision)
        losses[name] = read_losses(tmp_path / name)
    assert result["export_difference"] < 5e-2
    # bfloat16 has 8 bits, and a scale of the loss that is too large skips the first updates.
    for key, value in losses["float32"].items():
        if key[0] <= 2 and "accuracy" not in key[1]:
            assert losses[precision][key] == pytest.approx(value, rel=0.05), key


def test_a_backbone_that_brings_its_layers_keeps_their_precision():
    with pytest.raises(InputError, match="`precision` must be float32 for a `backbone` that brings its own layers"):
        NetworkConfig(backbone="trunk.keras", precision="mixed_bfloat16")
