import pytest
from absl import flags

from jtln_tf.config import InputError
from jtln_tf.flags import config_from_flags, define_config_flags, read_pairs


@pytest.fixture
def values():
    values = flags.FlagValues()
    define_config_flags(values)
    flags.DEFINE_list("label_counts", [], "Counts.", flag_values=values)
    flags.DEFINE_list("methods", ["jtln"], "Methods.", flag_values=values)
    flags.DEFINE_string("output", "", "Folder.", flag_values=values)
    values(["program", "--steps=7", "--source_batch=8", "--data_root=/data"])
    return values


def test_a_line_has_flags_of_its_own(values, tmp_path):
    file = tmp_path / "pairs.txt"
    file.write_text(
        "# What is compared.\n\nart --source=folder:a --target='folder:b c?classes=x y' --label_counts=1,3 # few\n"
        "digits --preset=digits --data_root=/b --methods='lp_ft?neck=identity&head_learning_rate=1,joint'\n"
        "food --data_root=grocery\n"
    )
    found = read_pairs(file, values)
    assert list(found) == ["art", "digits", "food"]
    config = config_from_flags("joint", found["art"])
    assert config.data.target.text == "folder:b c?classes=x y" and config.training.steps == 7
    assert found["art"].label_counts == ["1", "3"] and found["digits"].label_counts == []
    assert [one.methods for one in found.values()] == [
        ["jtln"],
        ["lp_ft?neck=identity&head_learning_rate=1", "joint"],
        ["jtln"],
    ]
    assert config_from_flags("joint", found["digits"]).data.source.text == "builtin:mnist5k"
    assert [one.data_root for one in found.values()] == ["/data", "/b", "/data/grocery"]
    # What the lines set holds for them alone.
    assert values.source == "" and values.steps == 7 and found["art"].source_batch == 8


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "which names none"),
        ("# a\n", "which names none"),
        ("a\na --steps=3", "line 2 .*: 'a' is named twice"),
        ("--source=folder:a", "line 1 .*a name must be"),
        ("../a --source=folder:a", "line 1 .*a name must be"),
        ("a --output=b", "line 1 .*'--output=b' is no flag"),
        ("a --stepz=3", "line 1 .*'--stepz=3' is no flag"),
        ("a folder:b", "line 1 .*'folder:b' is no flag"),
        ("a --seed=3", "line 1 .*'--seed=3' has no effect"),
        ("a --method=lwf", "line 1 .*'--method=lwf' has no effect"),
        ("a --flagfile=/etc/passwd", "line 1 .*is no flag"),
        ("a --steps=many", "line 1 .*steps"),
        ("a --preset=none", "line 1 .*`preset` must be one of"),
        ("a --source='folder:b", "line 1 .*No closing quotation"),
        (b"a --source=folder:\xff", "can't decode byte 0xff"),
        (b"#" * (2**20 + 1), "more than 1 MiB"),
    ],
)
def test_a_file_that_cannot_be_used_is_refused_with_its_line(values, tmp_path, text, message):
    file = tmp_path / "pairs.txt"
    file.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(InputError, match=f"(?s)`pairs` must be .*Received: .*{message}"):
        read_pairs(file, values)


def test_a_file_that_is_not_there_is_named(values, tmp_path):
    with pytest.raises(InputError, match="`pairs` must be a text file.*No such file"):
        read_pairs(tmp_path / "none", values)
