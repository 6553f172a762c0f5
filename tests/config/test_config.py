import dataclasses
import json
import subprocess
import sys

import numpy as np
import pytest

from jtln_tf.config import (
    AugmentationSpec,
    CostConfig,
    DataConfig,
    DomainSpec,
    ExperimentConfig,
    InputError,
    MissingInputError,
    NetworkConfig,
    ObjectiveConfig,
    TrainingConfig,
    describe_differences,
    parse_augmentation,
    parse_domain_spec,
)

SECTIONS = {
    "data": DataConfig,
    "network": NetworkConfig,
    "objective": ObjectiveConfig,
    "cost": CostConfig,
    "training": TrainingConfig,
}


def every_field():
    return [
        pytest.param(section, field, id=field.name)
        for section in SECTIONS.values()
        for field in dataclasses.fields(section)
    ]


def fields_with(limit):
    return [param for param in every_field() if param.values[1].metadata[limit] is not None]


def with_value(section, field, value):
    return section(**{field.name: (value,) if isinstance(field.default, tuple) else value})


def just_beyond(field, limit, direction):
    is_whole = field.type in (int, tuple[int, ...])
    return limit + direction * (1 if is_whole else 1e-6)


@pytest.mark.parametrize(
    ("text", "kind", "name"),
    [
        ("builtin:mnist5k", "builtin", "mnist5k"),
        ("folder:/data/Office 31/amazon", "folder", "/data/Office 31/amazon"),
        ("folder:C:/data", "folder", "C:/data"),
        ("tfds:cifar10", "tfds", "cifar10"),
        ("tfds:domainnet/real:test", "tfds", "domainnet/real:test"),
        ("builtin:mnist5k?", "builtin", "mnist5k"),
    ],
)
def test_spec_without_options(text, kind, name):
    assert parse_domain_spec(text) == DomainSpec(text, kind, name)


def test_spec_with_every_option():
    text = (
        "folder:grocery?classes=Apple*,Pear&exclude=Apple_*&per_class=3&test_fraction=0.25&validation_fraction=0"
        "&family=Fruit,Vegetables&store=A"
    )
    assert parse_domain_spec(text) == DomainSpec(
        text,
        "folder",
        "grocery",
        classes=("Apple*", "Pear"),
        exclude=("Apple_*",),
        per_class=3,
        test_fraction=0.25,
        validation_fraction=0.0,
        filters=(("family", ("Fruit", "Vegetables")), ("store", ("A",))),
    )
    assert parse_domain_spec("folder:d?class_depth=2").class_depth == 2
    # Elsewhere it may be a column.
    assert parse_domain_spec("records:d?class_depth=2").filters == (("class_depth", ("2",)),)


def test_spec_names_are_percent_decoded():
    spec = parse_domain_spec("folder:d?classes=Salt%2C+Pepper,A%26B,Caf%C3%A9,50%25&origin%20country=C%C3%B4te")
    assert spec.classes == ("Salt,+Pepper", "A&B", "Café", "50%")
    assert spec.filters == (("origin country", ("Côte",)),)
    # As a Mac writes it: an e and an accent.
    assert parse_domain_spec("folder:Cafe\u0301?classes=Cafe%CC%81").classes == ("Caf\u00e9",)
    assert parse_domain_spec("folder:Cafe\u0301?classes=Cafe%CC%81").name == "Cafe\u0301"


@pytest.mark.parametrize("column", ["kind", "name", "text", "filters"])
def test_spec_column_may_be_called_like_an_attribute(column):
    assert parse_domain_spec(f"folder:d?{column}=x").filters == ((column, ("x",)),)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "KIND:NAME, KIND one of builtin, folder.*''"),
        ("mnist5k", "KIND:NAME, KIND one of builtin, folder.*'mnist5k'"),
        ("http://x", "KIND:NAME, KIND one of builtin, folder.*'http://x'"),
        ("Folder:x", "KIND:NAME, KIND one of builtin, folder"),
        ("folder:", "needs a name after 'folder:'"),
        ("folder:?per_class=3", "needs a name after 'folder:'"),
        ("folder:d?classes", "name=value.*'classes'"),
        ("folder:d?classes=", "name=value.*'classes='"),
        ("folder:d?classes=,", "name=value.*'classes=,'"),
        ("folder:d?per_class=3&per_class=3", "given once.*'per_class' twice"),
        ("folder:d?family=a&family=b", "given once.*'family' twice"),
        ("folder:d?fam%69ly=a&family=b", "given once.*'family' twice"),
        ("folder:d?per_class=0", "`per_class` must be a whole number of at least 1.*'0'"),
        ("folder:d?per_class=2.5", "`per_class` must be a whole number of at least 1.*'2.5'"),
        ("folder:d?per_class=all", "`per_class` must be a whole number of at least 1.*'all'"),
        ("folder:d?test_fraction=1", r"`test_fraction` must be in \[0, 1\).*'1'"),
        ("folder:d?test_fraction=-0.1", r"`test_fraction` must be in \[0, 1\)"),
        ("folder:d?test_fraction=nan", r"`test_fraction` must be in \[0, 1\)"),
        ("folder:d?validation_fraction=half", r"`validation_fraction` must be in \[0, 1\).*'half'"),
        ("builtin:mnist5k?family=Fruit", "one of classes, exclude, per_class.*'family'"),
        ("builtin:mnist5k?crop_bottom=2", "one of classes, exclude, per_class, .*'crop_bottom'"),
        ("folder:d?crop_bottom=-1", "`crop_bottom` must be a whole number of at least 0.*'-1'"),
        ("folder:d?class_depth=0", "`class_depth` must be a whole number of at least 1.*'0'"),
        ("builtin:mnist5k?class_depth=2", "one of classes, .*validation_fraction. Received: 'class_depth'"),
    ],
)
def test_spec_errors(text, message):
    with pytest.raises(InputError, match=message):
        parse_domain_spec(text)


def test_spec_takes_labels_per_class_from_elsewhere():
    assert parse_domain_spec("builtin:mnist5k", per_class=3).per_class == 3
    assert parse_domain_spec("builtin:mnist5k?per_class=3", per_class=3).per_class == 3
    with pytest.raises(InputError, match="`labels_per_class` must agree.*3 and 'builtin:mnist5k.per_class=5'"):
        parse_domain_spec("builtin:mnist5k?per_class=5", per_class=3)


@pytest.mark.parametrize(("section", "field"), every_field())
def test_defaults_are_valid_and_have_help(section, field):
    assert getattr(section(), field.name) == field.default
    assert field.metadata["help"].endswith(".")


@pytest.mark.parametrize(("section", "field"), every_field())
@pytest.mark.parametrize("value", [None, b"bytes", [1], {"a": 1}])
def test_wrong_type_is_refused(section, field, value):
    with pytest.raises(InputError, match=f"`{field.name}` must be .* Received: "):
        section(**{field.name: value})


@pytest.mark.parametrize(("section", "field"), every_field())
def test_true_is_not_a_number_and_one_is_not_true(section, field):
    value = 1 if field.type is bool else True
    with pytest.raises(InputError, match=f"`{field.name}` must be "):
        with_value(section, field, value)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
@pytest.mark.parametrize(("section", "field"), [p for p in every_field() if p.values[1].type is float])
def test_numbers_are_finite(section, field, value):
    with pytest.raises(InputError, match=f"`{field.name}` must be a finite number"):
        section(**{field.name: value})


@pytest.mark.parametrize(("section", "field"), [p for p in every_field() if p.values[1].type is int])
def test_whole_numbers_are_whole(section, field):
    with pytest.raises(InputError, match=f"`{field.name}` must be a whole number. Received: 2.0"):
        section(**{field.name: 2.0})


@pytest.mark.parametrize(("section", "field"), fields_with("choices"))
def test_choices(section, field):
    with pytest.raises(InputError, match=f"`{field.name}` must be one of {', '.join(field.metadata['choices'])}"):
        section(**{field.name: "Nothing like it"})


@pytest.mark.parametrize(("section", "field"), fields_with("minimum"))
def test_minimum(section, field):
    minimum = field.metadata["minimum"]
    assert with_value(section, field, minimum) is not None
    with pytest.raises(InputError, match=f"`{field.name}` must be at least {minimum}. Received: "):
        with_value(section, field, just_beyond(field, minimum, -1))


@pytest.mark.parametrize(("section", "field"), fields_with("maximum"))
def test_maximum(section, field):
    maximum = field.metadata["maximum"]
    assert with_value(section, field, maximum) is not None
    with pytest.raises(InputError, match=f"`{field.name}` must be at most {maximum}. Received: "):
        with_value(section, field, just_beyond(field, maximum, +1))


@pytest.mark.parametrize(("section", "field"), fields_with("above"))
def test_above(section, field):
    above = field.metadata["above"]
    assert with_value(section, field, just_beyond(field, above, +1)) is not None
    with pytest.raises(InputError, match=f"`{field.name}` must be greater than {above}. Received: "):
        with_value(section, field, above)


@pytest.mark.parametrize(
    ("section", "values", "message"),
    [
        (DataConfig, {"channels": 2}, "`channels` must be 1 or 3. Received: 2"),
        (DataConfig, {"source": "mnist5k"}, "A domain must be written.*'mnist5k'"),
        (DataConfig, {"target": "folder:"}, "A domain needs a name"),
        (
            DataConfig,
            {"target": "builtin:optdigits?per_class=5", "labels_per_class": 3},
            "`labels_per_class` must agree with per_class in the domain",
        ),
        (
            ObjectiveConfig,
            {"transport_source_marginal": "label", "transport_images": "both"},
            "needs `transport_images`=source.*'both'",
        ),
        (
            ObjectiveConfig,
            {"transport_source_marginal": "label", "transport_gradient": "source"},
            "needs `transport_gradient`=target.*'source'",
        ),
        (
            CostConfig,
            {"cost_matrix": "euclidean"},
            "`cost_matrix` must be a .npz or .csv file or one of mkmmd, wasserstein, .*Received: .euclidean",
        ),
        (
            CostConfig,
            {"cost_matrix": "uniform", "cost_refresh_steps": 10},
            "`cost_refresh_steps` needs .* that looks through the network. Received: cost_matrix='uniform'",
        ),
        (CostConfig, {"cost_matrix": "a.npz", "cost_refresh_steps": 10}, "`cost_refresh_steps` needs .*='a.npz'"),
        (
            CostConfig,
            {"cost_matrix": "fisher_mkmmd", "cost_refresh_steps": 10},
            "`cost_refresh_steps` needs .*='fisher",
        ),
        (CostConfig, {"cost_matrix": "text", "cost_refresh_steps": 10}, "`cost_refresh_steps` needs .*='text'"),
        (CostConfig, {"cost_matrix": "online"}, "`cost_matrix`=online needs `cost_refresh_steps` above 0. Received: 0"),
        (CostConfig, {"cost_matrix": "mkmmd+taxonomy"}, "`cost_matrix`=taxonomy needs `cost_taxonomy`. Received: no"),
        (TrainingConfig, {"method": "consecutive", "steps": 1}, "`steps` must be at least 2 for method=consecutive"),
    ],
)
def test_options_that_exclude_each_other(section, values, message):
    with pytest.raises(InputError, match=message):
        section(**values)


@pytest.mark.parametrize(
    ("section", "values"),
    [
        (DataConfig, {"target": "builtin:optdigits?per_class=3", "labels_per_class": 3}),
        (DataConfig, {"source": "builtin:mnist5k?per_class=5", "labels_per_class": 3}),
        (ObjectiveConfig, {"transport_source_marginal": "label"}),
        (CostConfig, {"cost_matrix": "a.csv"}),
        (CostConfig, {"cost_refresh_steps": 10}),
        (TrainingConfig, {"method": "consecutive", "steps": 2}),
        (TrainingConfig, {"momentum": 0, "step_boundaries": ()}),
    ],
)
def test_options_that_fit_each_other(section, values):
    config = section(**values)
    assert {name: getattr(config, name) for name in values} == values


def test_configuration_is_frozen():
    with pytest.raises(dataclasses.FrozenInstanceError):
        ExperimentConfig().data.source = "builtin:mnist5k"


def test_json_round_trip():
    config = ExperimentConfig(
        data=DataConfig(
            source="folder:Übung?classes=Käse", target="builtin:optdigits", target_augmentation=("colour:0.2",)
        ),
        network=NetworkConfig(head_hidden_units=(64, 32)),
        objective=ObjectiveConfig(epsilon=0.05),
        cost=CostConfig(cost_matrix="uniform"),
        training=TrainingConfig(steps=7, step_boundaries=(0.1, 0.9)),
    )
    assert ExperimentConfig.from_json(config.to_json()) == config
    assert ExperimentConfig.from_json(ExperimentConfig().to_json()) == ExperimentConfig()


def test_json_round_trip_of_numpy_numbers():
    config = ExperimentConfig(training=TrainingConfig(steps=np.int64(7), step_factor=np.float32(0.5)))
    assert ExperimentConfig.from_json(config.to_json()) == config


def test_json_without_an_option_takes_its_default():
    values = json.loads(ExperimentConfig().to_json())
    del values["training"]["seed"]
    assert ExperimentConfig.from_json(json.dumps(values)) == ExperimentConfig()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda values: values["training"].update(stepz=3), "`TrainingConfig` must only hold .*steps.*Received: stepz"),
        (lambda values: values["training"].update(steps=0), "`steps` must be at least 1"),
        (lambda values: values["training"].update(seed=float("nan")), "`seed` must be a whole number. Received: nan"),
        (lambda values: values["network"].update(backbone=["alexnet"]), "`backbone` must be a text"),
        (lambda values: values.update(network=[1, 2]), "`NetworkConfig` must be a JSON object"),
        (lambda values: values.pop("cost"), "A configuration must hold data, network, objective, cost, training"),
        (lambda values: values.update(model={}), "A configuration must hold .*'model'"),
    ],
)
def test_json_that_does_not_fit(change, message):
    values = json.loads(ExperimentConfig().to_json())
    change(values)
    with pytest.raises(InputError, match=message):
        ExperimentConfig.from_json(json.dumps(values))


@pytest.mark.parametrize(("text", "message"), [("{", "must be JSON"), ("[1]", "must hold data"), ("3", "must hold")])
def test_text_that_is_no_configuration(text, message):
    with pytest.raises(InputError, match=message):
        ExperimentConfig.from_json(text)


def test_require_domains_names_the_missing_one():
    with pytest.raises(InputError, match="`source` must name a domain"):
        ExperimentConfig().require_domains()
    with pytest.raises(InputError, match="`target` must name a domain"):
        ExperimentConfig(data=DataConfig(source="builtin:mnist5k")).require_domains()
    ExperimentConfig(data=DataConfig(source="builtin:mnist5k", target="builtin:optdigits")).require_domains()


def test_describe_differences():
    ours = ExperimentConfig()
    assert describe_differences(ours, ours) == []
    theirs = ExperimentConfig(training=TrainingConfig(steps=7), data=DataConfig(channels=1))
    assert describe_differences(ours, theirs) == ["channels: 3 -> 1", "steps: 500 -> 7"]


def test_missing_input_is_an_input_error_and_a_file_not_found_error():
    error = MissingInputError("`x` must exist.")
    assert isinstance(error, InputError) and isinstance(error, FileNotFoundError)
    assert str(error) == "`x` must exist." and str(MissingInputError()) == ""


@pytest.mark.parametrize("module", ["jtln_tf", "jtln_tf.config", "jtln_tf.experiment.workdir"])
def test_import_needs_no_tensorflow(module):
    program = f"import sys, {module}; sys.exit(any(name in sys.modules for name in ('tensorflow', 'keras')))"
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0


@pytest.mark.parametrize(("start", "refresh"), [(0, 500), (500, 10), (600, 10)])
def test_online_costs_must_be_found_before_the_last_step(start, refresh):
    sections = {
        "objective": ObjectiveConfig(transport_start_step=start),
        "cost": CostConfig(cost_matrix="online", cost_refresh_steps=refresh),
    }
    with pytest.raises(InputError, match="`cost_matrix`=online must find costs before .* Received: .* of 500 steps"):
        ExperimentConfig(**sections)
    ExperimentConfig(**sections, training=TrainingConfig(method="joint"))
    ExperimentConfig(**sections, training=TrainingConfig(steps=601))


def test_augmentation_policy():
    policy = ("crop", "randaugment:3:0.5", "mixup:0.4", "rotate", "colour:0.5")
    expected = (("crop", ()), ("randaugment", (3, 0.5)), ("rotate", (15.0,)), ("colour", (0.5, 0.0)))
    assert parse_augmentation(policy) == AugmentationSpec(expected, mixup=0.4)
    assert parse_augmentation(("randaugment", "mixup")) == AugmentationSpec((("randaugment", (2, 0.3)),), mixup=0.2)


@pytest.mark.parametrize("policy", [(), ("none",)])
def test_augmentation_policy_that_does_nothing(policy):
    assert parse_augmentation(policy) == AugmentationSpec((), 0.0)


@pytest.mark.parametrize(
    ("policy", "message"),
    [
        (("crop", "blur"), "must be none, or some of crop, flip, .*, randaugment, mixup. Received: 'blur'"),
        (("",), "must be none, or some of .* Received: ''"),
        (("crop", "none"), "must be none, or some of .* Received: 'none'"),
        (("Crop",), "must be none, or some of .* Received: 'Crop'"),
        (("crop", "flip", "crop"), "must name each operation once. Received: 'crop' twice"),
        (("rotate:10", "rotate:20"), "must name each operation once. Received: 'rotate' twice"),
        (("crop:3",), "must have no more numbers than crop. Received: 'crop:3'"),
        (("colour:0.1:0.1:0.1",), "must have no more numbers than colour:STRENGTH:HUE"),
        (("rotate:0",), "must have a number above 0 and at most 180 as DEGREES of rotate. Received: '0' in 'rotate:0'"),
        (("rotate:181",), "at most 180 as DEGREES of rotate"),
        (("rotate:nan",), "at most 180 as DEGREES of rotate. Received: 'nan'"),
        (("rotate:inf",), "at most 180 as DEGREES of rotate. Received: 'inf'"),
        (("rotate:-5",), "number above 0 .* Received: '-5'"),
        (("zoom:",), "number above 0 and at most 0.9 as SHARE of zoom. Received: ''"),
        (("colour:2",), "above 0 and at most 1 as STRENGTH of colour"),
        (("colour:0.3:0.6",), "of at least 0 and at most 0.5 as HUE of colour"),
        (("erase:1.5",), "at most 1 as PROBABILITY of erase"),
        (("randaugment:0",), "whole number of at least 1 and at most 10 as OPERATIONS of randaugment"),
        (("randaugment:2.5",), "whole number .* Received: '2.5'"),
        (("randaugment:2:0",), "above 0 and at most 1 as MAGNITUDE of randaugment"),
        (("mixup:0.01",), "of at least 0.05 and at most 10 as ALPHA of mixup. Received: '0.01'"),
        ("crop,flip", "must be a tuple of texts. Received: 'crop,flip'"),
    ],
)
def test_augmentation_policy_that_does_not_fit(policy, message):
    with pytest.raises(InputError, match=f"`policy` .*{message}"):
        parse_augmentation(policy)


@pytest.mark.parametrize("name", ["source_augmentation", "target_augmentation"])
def test_each_domain_has_a_policy_of_its_own(name):
    with pytest.raises(InputError, match=f"`{name}` must be none, or some of crop, flip"):
        DataConfig(**{name: ("blur",)})
    assert getattr(DataConfig(), name) == ("crop", "flip")


@pytest.mark.parametrize("name", ["source_augmentation", "target_augmentation"])
def test_activations_are_not_mixed(name):
    network = NetworkConfig(cache_features=True, freeze_until="pool2")
    with pytest.raises(InputError, match=f"`{name}` must be without mixup .* Received: 'crop,mixup:0.3'"):
        ExperimentConfig(data=DataConfig(**{name: ("crop", "mixup:0.3")}), network=network)
    ExperimentConfig(data=DataConfig(**{name: ("crop", "randaugment")}), network=network)


def test_pixels_are_not_asked_for_where_activations_stand():
    parts = {"network": NetworkConfig(cache_features=True, freeze_until="pool2")}
    metric = "0.5*mkmmd+0.5*fisher_mkmmd"
    with pytest.raises(
        InputError, match="`cost_matrix` must not look at pixels where `cache_features` .*Received: '0.5"
    ):
        ExperimentConfig(cost=CostConfig(cost_matrix=metric, cost_refresh_steps=4), **parts)
    ExperimentConfig(cost=CostConfig(cost_matrix=metric), **parts)
    ExperimentConfig(cost=CostConfig(cost_matrix=metric, cost_refresh_steps=4))
    baseline = TrainingConfig(method="joint")
    ExperimentConfig(cost=CostConfig(cost_matrix=metric, cost_refresh_steps=4), training=baseline, **parts)


@pytest.mark.parametrize("name", ["random_crop", "random_flip"])
def test_json_with_the_former_augmentation_is_told_of_the_present_one(name):
    values = json.loads(ExperimentConfig().to_json())
    values["data"][name] = True
    with pytest.raises(InputError, match=f"only hold .*source_augmentation, target_augmentation.* Received: {name}"):
        ExperimentConfig.from_json(json.dumps(values))
