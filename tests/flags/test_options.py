import pytest
from absl import flags

from flags import config_from_flags, define_config_flags, preset_path, with_given_flags
from jtln_tf.config import InputError, options_of
from jtln_tf.experiment.config import ExperimentConfig
from jtln_tf.methods import METHODS
from tests.conftest import REPOSITORY

PRESETS = sorted(path.stem for path in (REPOSITORY / "flags" / "presets").iterdir())


def parse(*arguments):
    values = flags.FlagValues()
    define_config_flags(values)
    values(["program", *arguments])
    return values


def test_the_flags_have_the_defaults_of_the_options():
    assert config_from_flags(flag_values=parse()) == ExperimentConfig()


@pytest.mark.parametrize("preset", PRESETS)
def test_a_preset_is_a_configuration_that_says_how_to_run_it_and_what_to_expect(preset):
    path = preset_path(preset)
    config = config_from_flags(flag_values=parse(f"--flagfile={path}"))
    config.require_domains()
    assert ExperimentConfig.from_json(config.to_json()) == config
    assert "# Command: python -m tools." in path.read_text() and "\n# Expected: " in path.read_text()


ABSURD = ("nan", "inf", "-inf", "1e300", "-1e300", str(2**70), str(-(2**70)), "-7", "many", "0x", "9" * 5000)


def test_every_number_has_limits():
    values = parse()
    names = [name for name in values if values[name].flag_type() in ("int", "float")]
    names += ["head_hidden_units", "step_boundaries"]
    assert len(names) > 30
    for name in names:
        for text in ABSURD:
            with pytest.raises((flags.Error, InputError), match=name):
                config_from_flags(owner(name), parse(f"--{name}={text}"))


def owner(option):
    """The method that an option belongs to: the values of others are not looked at."""
    return next((name for name, method in METHODS.items() if option in {one.name for one in options_of(method)}), None)


def test_flags_that_are_given_replace_the_options_of_a_run():
    begun = config_from_flags(flag_values=parse("--steps=7", "--epsilon=0.1", "--head_hidden_units=8,4"))
    config = with_given_flags(begun, parse("--seed=3", "--step_boundaries=0.1"))
    assert (config.training.steps, config.training.seed, config.method.epsilon) == (7, 3, 0.1)
    assert config.network.head_hidden_units == (8, 4) and config.training.step_boundaries == (0.1,)
    config = with_given_flags(begun, parse("--method=joint", "--source_weight=2"))
    assert (config.method.name, config.method.source_weight, config.training.steps) == ("joint", 2, 7)
    with pytest.raises(InputError, match="`step_boundaries` must be numbers, comma separated. Received: 'a,1'"):
        with_given_flags(begun, parse("--step_boundaries=a,1"))
