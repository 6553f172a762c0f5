import csv
import dataclasses
import math
import sys

import pytest

from jtln_tf.comparison import search
from jtln_tf.comparison.episodes import choose_trial_data, make_trial_configs
from jtln_tf.config import DataConfig, InputError, NonFiniteLossError, TrainingConfig
from jtln_tf.data import load_domains
from jtln_tf.experiment.config import ExperimentConfig
from jtln_tf.methods import find_method

DATA = DataConfig(
    source="builtin:mnist5k?per_class=30", target="builtin:optdigits?per_class=3", image_size=28, channels=1
)


def configure(method="joint", data=DATA, **training):
    return ExperimentConfig(data=data, method=find_method(method)(), training=TrainingConfig(**training))


def test_episodes_are_transfers_between_classes_of_the_source():
    configs = make_trial_configs(configure(), "episodes", range(3))
    drawn = set()
    for config in configs:
        source, target = load_domains(config.data, seed=config.training.seed)
        assert not set(source.class_names) & set(target.class_names)
        assert len(source.class_names) == len(target.class_names) == 5
        assert len(target.train) == 3 * 5 and len(source.train) == 30 * 5 and len(target.validation)
        assert "optdigits" not in config.data.target.text
        drawn.add(target.class_names)
    assert len(drawn) == 3
    again = make_trial_configs(configure(), "episodes", [1])
    assert again == configs[1:2]


def test_the_target_judges_if_it_has_validation_images():
    assert choose_trial_data(configure()) == "validation"
    few = dataclasses.replace(DATA, target="builtin:optdigits?per_class=3&validation_fraction=0.01")
    assert choose_trial_data(configure(data=few)) == "episodes"
    (config,) = make_trial_configs(configure(), "validation", [4])
    assert config.data == DATA and config.training.seed == 4
    none = dataclasses.replace(DATA, target="builtin:optdigits?per_class=3&validation_fraction=0")
    with pytest.raises(InputError, match=r"judged by validation images. Received: 'builtin:optdigits.*without any"):
        make_trial_configs(configure(data=none), "validation", [0])
    three = dataclasses.replace(DATA, source="builtin:mnist5k?classes=1,2,3")
    with pytest.raises(InputError, match="`tuned_on`=episodes needs at least 4 source classes. Received: 3."):
        make_trial_configs(configure(data=three), "episodes", [0])


@pytest.fixture
def trained(monkeypatch):
    """The settings that were trained with, by a stand-in that is the better the nearer two settings are to a point."""
    tried = []

    def train(config, folder, **options):
        tried.append((config.training.head_learning_rate, config.method.source_weight))
        far = abs(math.log10(config.training.head_learning_rate / 3e-3)) + abs(math.log10(config.method.source_weight))
        return {"validation_accuracy": 1 - 0.2 * far - 0.01 * config.training.seed}

    monkeypatch.setattr(search, "run_experiment", train)
    return tried


def test_a_search_begins_with_the_present_settings_and_comes_nearer_to_the_best(trained, tmp_path):
    config = configure(head_learning_rate=2e-4)
    ranges = search.find_ranges(config, ("head_learning_rate", "source_weight"))
    runs = [configure(head_learning_rate=2e-4, seed=seed) for seed in (0, 1)]
    trials = search.search_settings(config, runs, tmp_path, ranges=ranges, num_trials=25)
    assert len(trials) == 25 and len(trained) == 50 and trained[0] == trained[1] == (2e-4, 1.0)
    best = search.find_best(trials)
    assert best.accuracy > 0.93 > trials[0].accuracy + 0.1 and best.settings["head_learning_rate"] == pytest.approx(
        3e-3, rel=0.8
    )
    with open(tmp_path / "trials.csv") as file:
        rows = list(csv.DictReader(file))
    assert [float(row["validation_accuracy"]) for row in rows] == [trial.accuracy for trial in trials]
    words = (tmp_path / "joint.flags").read_text().splitlines()[1:]
    assert (
        "--method=joint" in words
        and f"--head_learning_rate={float(format(best.settings['head_learning_rate'], '.3g'))}" in words
    )
    # Called again after a kill, it makes the same trials, whose runs are finished.
    again = search.search_settings(config, runs, tmp_path, ranges=ranges, num_trials=25)
    assert again == trials


def test_files_that_no_search_wrote_stay(trained, tmp_path):
    (tmp_path / "joint.flags").write_text("--mine")
    with pytest.raises(InputError, match="`output` must be a new folder or that of a search.*'joint.flags'.*Hint"):
        search.search_settings(configure(), [configure()], tmp_path, ranges={}, num_trials=1)
    assert not trained and (tmp_path / "joint.flags").read_text() == "--mine"


def test_a_trial_with_every_image_right_is_the_last(trained, tmp_path):
    config = configure(head_learning_rate=3e-3)
    trials = search.search_settings(
        config, [config], tmp_path, ranges=search.find_ranges(config, ("head_learning_rate",)), num_trials=5
    )
    assert len(trials) == len(trained) == 1 and search.find_best(trials).accuracy == 1
    assert len((tmp_path / "trials.csv").read_text().splitlines()) == 2


def test_settings_that_diverge_lose_and_do_not_end_the_search(trained, monkeypatch, tmp_path, caplog):
    config, train = configure(head_learning_rate=2e-4), search.run_experiment

    def diverge(config, folder, **options):
        if config.training.head_learning_rate > 2e-4:
            raise NonFiniteLossError("The loss must stay finite.", 3)
        return train(config, folder, **options)

    monkeypatch.setattr(search, "run_experiment", diverge)
    ranges = search.find_ranges(config, ("head_learning_rate", "source_weight"))
    trials = search.search_settings(config, [config], tmp_path, ranges=ranges, num_trials=8)
    assert len(trials) == 8 and 0.0 in [trial.accuracy for trial in trials]
    assert search.find_best(trials).settings["head_learning_rate"] <= 2e-4
    assert "counts as an accuracy of 0: The loss must stay finite." in caplog.text


def test_what_cannot_be_tuned_is_refused(monkeypatch, tmp_path):
    assert set(search.find_ranges(configure("jtln"))) > {"transport_weight", "epsilon", "source_weight"}
    with pytest.raises(InputError, match="`tuned_options` must be of .*source_weight for joint. Received: epsilon."):
        search.find_ranges(configure(), ("epsilon",))
    with pytest.raises(InputError, match="`methods` must be methods that are trained. Received: linear_probe."):
        search.find_ranges(configure("linear_probe"))
    monkeypatch.setitem(sys.modules, "optuna", None)
    with pytest.raises(InputError, match=r"needs the package optuna.*pip install 'jtln-tf\[tune\]'"):
        search.search_settings(configure(), [], tmp_path, ranges={}, num_trials=1)
