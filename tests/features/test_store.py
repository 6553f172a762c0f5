import os
import pathlib
import signal
import subprocess
import sys

import numpy as np
import pytest

from jtln_tf.config import InputError
from jtln_tf.features import store as stores
from jtln_tf.features.store import ActivationStore, remove_unused, store_folder
from tests.conftest import REPOSITORY

SHAPE = (3, 2)


def key(number):
    return b"%016d" % number


def rows(*numbers):
    return np.array([np.full(SHAPE, number) for number in numbers], np.float32)


def fill(folder, *numbers, trunk="trunk"):
    store = ActivationStore(folder, trunk, SHAPE)
    for number in numbers:
        store.write(key(number), rows(number)[0])
    store.flush()
    return store


def shards(folder):
    return sorted(pathlib.Path(folder).rglob(stores.SHARD_NAMES))


@pytest.mark.parametrize("on_disk", [True, False])
def test_rows_come_back_in_any_order(tmp_path, on_disk):
    store = fill(tmp_path if on_disk else None, 0, 1, 2)
    store.write(key(3), rows(3)[0])
    store.flush()
    if on_disk:
        store = ActivationStore(tmp_path, "trunk", SHAPE)
        assert not ActivationStore(tmp_path, "other", SHAPE).find([key(1)]).any()
    np.testing.assert_array_equal(store.find([key(3), key(9), key(0)]), [True, False, True])
    found = store.rows([key(number) for number in (3, 0, 2, 0)])
    assert found.shape == (4, *SHAPE) and len(found) == 4 and found.nbytes == 4 * 24
    np.testing.assert_array_equal(np.asarray(found), rows(3, 0, 2, 0))
    np.testing.assert_array_equal(found[np.array([2, 0])], rows(2, 3))
    np.testing.assert_array_equal(found[1:3], rows(0, 2))
    np.testing.assert_array_equal(found[2], rows(2)[0])


@pytest.mark.parametrize("damage", ["short", "half", "empty", "values", "keys", "header"])
def test_what_is_damaged_is_not_found(tmp_path, damage):
    fill(tmp_path, 0, 1)
    fill(tmp_path, 2)
    path = max(shards(tmp_path), key=lambda path: path.stat().st_size)
    content = bytearray(path.read_bytes())
    if damage in ("short", "half", "empty"):
        content = content[: {"short": -1, "half": len(content) // 2, "empty": 0}[damage]]
    else:
        # The last row, the first key, and the sizes in the header of the entries.
        place = {"values": len(content) - 2, "keys": content.index(key(0)), "header": content.index(b"'shape'") + 10}
        content[place[damage]] ^= 5
    path.write_bytes(content)
    store = ActivationStore(tmp_path, "trunk", SHAPE)
    is_found = store.find([key(0), key(1), key(2)])
    # Damage of one row leaves the others.
    assert is_found.tolist() == [damage == "values", damage == "keys", True]
    store.write(key(1), rows(1)[0])
    store.flush()
    assert store.find([key(1)]).all()
    for _ in range(2):
        assert ActivationStore(tmp_path, "trunk", SHAPE).find([key(1), key(2)]).all()


def test_a_kill_loses_at_most_the_last_shard(tmp_path):
    code = (
        "import os, sys, time\n"
        "import numpy as np\n"
        "from jtln_tf.features import store as stores\n"
        "stores._SHARD_IMAGES = 4\n"
        "store = stores.ActivationStore(sys.argv[1], 'trunk', (3, 2))\n"
        "for number in range(10**6):\n"
        "    store.write(b'%016d' % number, np.full((3, 2), number))\n"
        "    print(number, flush=True)\n"
    )
    command = [sys.executable, "-c", code, str(tmp_path)]
    process = subprocess.Popen(command, cwd=REPOSITORY, stdout=subprocess.PIPE, text=True)
    for _ in range(200):
        process.stdout.readline()
    os.kill(process.pid, signal.SIGKILL)
    done = 200 + len(process.communicate()[0].splitlines())
    store = ActivationStore(tmp_path, "trunk", SHAPE)
    is_found = store.find([key(number) for number in range(done + 4)])
    kept = int(is_found.sum())
    assert is_found[:kept].all() and done - 4 <= kept <= done + 4
    np.testing.assert_array_equal(np.asarray(store.rows([key(n) for n in range(kept)])), rows(*range(kept)))


def test_the_shards_used_longest_ago_are_removed_but_none_in_use(tmp_path):
    seen = set()
    for number, trunk in enumerate(("a", "b", "a", "c")):
        fill(tmp_path, number, trunk=trunk)
        (path,) = set(shards(tmp_path)) - seen
        os.utime(path, (1000 + number, 1000 + number))
        seen.add(path)
    own = store_folder(tmp_path)
    size = shards(own)[0].stat().st_size
    (own / "foreign").mkdir()
    (own / "foreign" / "shard_1.arrays").write_bytes(bytes(10**6))
    store = ActivationStore(tmp_path, "b", SHAPE)
    store.rows([key(1)])
    # Its use is now the latest of all, and remains so for others.
    remove_unused(own, 2 * size, set())
    left = [ActivationStore(tmp_path, trunk, SHAPE).find([key(n)])[0] for n, trunk in enumerate(("a", "b", "a", "c"))]
    assert left == [False, True, False, True]
    store.trim(0)
    assert len(shards(own / "b")) == 1 and not shards(own / "c")
    assert (own / "foreign" / "shard_1.arrays").exists()


def test_a_folder_that_cannot_be_written_is_told(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="`cache_dir` must be a folder that can be written"):
        fill(tmp_path / "file", 0)


def test_a_full_disk_is_told_and_leaves_what_was_kept(small_disk):
    fill(small_disk, 0)
    store = ActivationStore(small_disk, "wide", (2**20,))
    with pytest.raises(InputError, match="`cache_dir` .*No space left"):
        store.write(key(0), np.zeros(2**20))
        store.flush()
    assert len(shards(small_disk)) == 1 and ActivationStore(small_disk, "trunk", SHAPE).find([key(0)]).all()
    assert not list(small_disk.rglob("*.unfinished"))
