import pytest

from jtln_tf.config import DataConfig, InputError, NetworkConfig, TrainingConfig, parse_augmentation, parse_domain_spec


@pytest.mark.parametrize(
    ("section", "values", "message"),
    [
        (DataConfig, {"channels": 2}, "`channels` must be 1 or 3. Received: 2"),
        (DataConfig, {"source": "mnist5k"}, "A domain must be written.*'mnist5k'"),
        (DataConfig, {"target": "builtin:a?per_class=5", "labels_per_class": 3}, "`labels_per_class` must agree with"),
        (DataConfig, {"target_augmentation": "blur"}, "`target_augmentation` must be none, or some of crop, flip"),
        (DataConfig, {"image_size": 60_000}, "`image_size` must be at most 4096. Received: 60000"),
        (DataConfig, {"source_batch": 10**9}, "`source_batch` must be at most 65536"),
        (NetworkConfig, {"head_hidden_units": (8, 10**9)}, "`head_hidden_units` must be at most 65536"),
        (NetworkConfig, {"head_hidden_units": (8,) * 21}, "`head_hidden_units` must be at most 20 sizes. Received: 21"),
        (TrainingConfig, {"seed": 2**32}, "`seed` must be at most 4294967295"),
        (TrainingConfig, {"steps": 10**10}, "`steps` must be at most 1000000000"),
        (NetworkConfig, {"cache_features": "disk", "freeze_until": ""}, "`cache_features`=disk needs `freeze_until`"),
    ],
)
def test_options_that_do_not_fit(section, values, message):
    with pytest.raises(InputError, match=message):
        section(**values)


def test_texts_are_parsed_once():
    data = DataConfig(source="builtin:mnist5k", labels_per_class=3, source_augmentation="rotate")
    assert data.source == parse_domain_spec("builtin:mnist5k") and data.target is None
    assert data.augmentation == {"source": parse_augmentation("rotate"), "target": parse_augmentation("crop,flip")}
    assert data.source.with_labels(3).per_class == 3 and data.source.with_labels(0) is data.source
