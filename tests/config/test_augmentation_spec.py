import pytest

from jtln_tf.config import AugmentationSpec, InputError, parse_augmentation


def test_numbers_that_are_left_out_take_their_defaults():
    spec = parse_augmentation("crop,randaugment:3:0.5,mixup:0.4,rotate,colour:0.5")
    assert spec.operations == (("crop", ()), ("randaugment", (3, 0.5)), ("rotate", (15.0,)), ("colour", (0.5, 0.0)))
    assert spec.mixup == 0.4 and spec.text == "crop,randaugment:3:0.5,mixup:0.4,rotate,colour:0.5"
    assert parse_augmentation(spec) is spec and parse_augmentation(tuple(spec.text.split(","))) == spec
    assert parse_augmentation("mixup") == AugmentationSpec("mixup", (), 0.2)


@pytest.mark.parametrize("policy", [(), "", "none", ("none",)])
def test_a_policy_that_does_nothing(policy):
    assert parse_augmentation(policy) == AugmentationSpec()


@pytest.mark.parametrize(
    ("policy", "message"),
    [
        ("crop,blur", "must be none, or some of crop, flip, .*, randaugment, mixup. Received: 'blur'"),
        ("rotate:10,rotate:20", "must name each operation once. Received: 'rotate' twice"),
        ("crop:3", "must have no more numbers than crop. Received: 'crop:3'"),
        ("colour:0.1:0.1:0.1", "must have no more numbers than colour:STRENGTH:HUE"),
        ("rotate:0", "must have a number above 0 and at most 180 as DEGREES of rotate. Received: '0' in 'rotate:0'"),
        ("rotate:nan", "at most 180 as DEGREES of rotate. Received: 'nan'"),
        ("zoom:", "number above 0 and at most 0.9 as SHARE of zoom. Received: ''"),
        ("colour:0.3:0.6", "of at least 0 and at most 0.5 as HUE of colour"),
        ("randaugment:2.5", "whole number of at least 1 and at most 10 as OPERATIONS of randaugment. Received: '2.5'"),
        ("mixup:0.01", "of at least 0.05 and at most 10 as ALPHA of mixup. Received: '0.01'"),
    ],
)
def test_what_is_no_policy(policy, message):
    with pytest.raises(InputError, match=f"`policy` .*{message}"):
        parse_augmentation(policy)
