import pathlib

import numpy as np
import pytest
import tensorflow as tf
from array_record.python.array_record_module import ArrayRecordWriter

from jtln_tf.config import InputError
from jtln_tf.data.reading.record_reader import RecordReader, TFRecordShard, open_array_record

RECORDS = [b"", b"a", bytes(5000), *(str(number).encode() * number for number in range(20))]
SIZES = [8, 0, 15]


@pytest.fixture(params=["tfrecord", "array_record"])
def shards(request, tmp_path):
    """Paths of three files that hold `RECORDS`, and what opens them."""
    paths, rest = [], iter(RECORDS)
    for number, size in enumerate(SIZES):
        paths.append(str(tmp_path / f"shard{number}"))
        if request.param == "tfrecord":
            writer = tf.io.TFRecordWriter(paths[-1])
        else:
            writer = ArrayRecordWriter(paths[-1], "group_size:1,uncompressed")
        for _ in range(size):
            writer.write(next(rest))
        writer.close()
    return paths, TFRecordShard if request.param == "tfrecord" else open_array_record


@pytest.mark.parametrize("numbers", [range(23), [22, 0, 8, 0, 7], []])
def test_records_are_read_in_the_order_asked_for(shards, numbers):
    paths, open_shard = shards
    found = RecordReader(paths, SIZES, open_shard=open_shard).read(list(numbers))
    assert found.dtype == object and list(found) == [RECORDS[number] for number in numbers]


@pytest.mark.parametrize("left", [0, 9, -1])
def test_a_file_that_was_cut_is_named(shards, left):
    paths, open_shard = shards
    first = pathlib.Path(paths[0])
    first.write_bytes(first.read_bytes()[:left])
    reader = RecordReader(paths, SIZES, open_shard=open_shard)
    with pytest.raises(InputError, match=r"A shard must be whole\. Received: '.*shard0' \(.+\)\."):
        reader.read([20, 3])
    assert reader.read([20])[0] == RECORDS[20]


def test_lengths_that_are_made_to_do_harm_are_refused(tmp_path):
    (tmp_path / "shard").write_bytes((2**63).to_bytes(8, "little") + bytes(24))
    with pytest.raises(InputError, match="it breaks off"):
        RecordReader([str(tmp_path / "shard")], [1], open_shard=TFRecordShard).read(np.array([0]))
