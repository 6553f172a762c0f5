import io
import os
import threading

import pytest
from PIL import Image

from jtln_tf.config import InputError
from jtln_tf.prediction.inputs import (
    check_arguments,
    expand_arguments,
    read_batches,
    read_image_file,
    read_list,
    read_stream,
    search_folders,
)

NAMES = ["a.png", "b [1].png", "sub/c.JPG", "sub/deep/d.png", "sub/photo.heic", "sub/notes.txt"]


@pytest.fixture
def photos(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in NAMES:
        path = tmp_path / "photos" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (4, 4)).save(path, "PNG")
    return tmp_path / "photos"


def expand(*arguments, stdin=b""):
    check_arguments(arguments)
    return list(search_folders(expand_arguments(arguments, io.BytesIO(stdin))))


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["photos"], [NAMES[0], NAMES[1], NAMES[2], NAMES[3], NAMES[4]]),
        (["photos/sub/notes.txt", "photos/a.png"], [NAMES[5], NAMES[0]]),
        (["photos/*.png"], [NAMES[0], NAMES[1]]),
        # The name itself, which as a pattern matches nothing.
        (["photos/b [1].png"], [NAMES[1]]),
        (["photos/sub/d*"], [NAMES[3]]),
        (["photos/a.png", "-"], [NAMES[0], NAMES[3], NAMES[0]]),
    ],
)
def test_files_folders_and_patterns_keep_their_order(photos, arguments, expected):
    found = expand(*arguments, stdin=b"photos/sub/deep\nphotos/a.png\n")
    assert [os.path.relpath(path, "photos") for path in found] == expected


@pytest.mark.parametrize("name", ["photos/no.png", "photos/*.gif", "photos/pipe"])
def test_what_is_not_there_is_refused_at_once(photos, name):
    os.mkfifo(photos / "pipe")
    with pytest.raises(InputError, match=r"`images` must .*\. Received: 'photos/"):
        check_arguments(["photos/a.png", name])


@pytest.mark.parametrize("content", [b"a\0b\n \xff\0c", b"a\0b\n \xff\0c\0"])
def test_paths_on_stdin_may_end_with_zero_bytes(content):
    assert list(read_stream(io.BytesIO(content))) == ["a", "b\n \udcff", "c"]
    assert list(read_stream(io.BytesIO(b"a\r\n\nb c"))) == ["a", "b c"]
    assert list(read_stream(io.BytesIO())) == []
    with pytest.raises(InputError, match="one a line. Received: .* bytes without an end"):
        list(read_stream(io.BytesIO(b"x" * 2**21)))


def test_paths_are_taken_from_a_stream_before_it_ends():
    reading, writing = os.pipe()
    with open(reading, "rb") as stream, open(writing, "wb", buffering=0) as sink:
        paths = read_stream(stream)
        for number in range(3):
            threading.Timer(0.05, sink.write, [b"%d.png\n" % number]).start()
            assert next(paths) == f"{number}.png"


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("list.txt", "a.png\r\n\r\nsub\\c.JPG\nno.png\n{root}/sub/deep/d.png"),
        ("list.csv", "id;File Name\n1;a.png\n2;sub\\c.JPG\n3;no.png\n4;{root}/sub/deep/d.png\n"),
        ("list.tsv", "a.png\tx\nsub/c.JPG\ty\nno.png\tz\n{root}/sub/deep/d.png\tz\n"),
        (
            "list.jsonl",
            '{{"path": "a.png"}}\n{{"img": "sub/c.JPG"}}\n{{"path": "no.png"}}\n{{"path": "{root}/sub/deep/d.png"}}',
        ),
    ],
)
def test_lists_name_paths_from_their_own_folder(photos, name, text):
    (photos / name).write_text(text.format(root=photos))
    found = [os.path.relpath(path, photos) for path in read_list(str(photos / name))]
    assert found == ["a.png", "sub/c.JPG", "no.png", "sub/deep/d.png"]
    (photos / "bad.csv").write_text("x,y\n1,2\n")
    with pytest.raises(InputError, match="path among them"):
        list(read_list(str(photos / "bad.csv")))


def test_batches_are_read_as_they_are_needed_and_hold_few_images(photos):
    asked = []

    def name_paths():
        for number in range(10**9):
            asked.append(number)
            yield "photos/a.png"

    batches = read_batches(name_paths())
    assert len(next(batches)) == len(next(batches)) == 32 and len(asked) <= 65


def test_what_is_no_file_has_a_reason(photos):
    os.mkfifo(photos / "pipe")
    (photos / "empty").write_bytes(b"")
    (photos / "none").mkdir()
    with open(photos / "huge.png", "wb") as file:
        file.truncate(2**31)
    names = ["no.png", "x" * 300, "zero\0", "pipe", "empty", "none", "huge.png"]
    reasons = [read_image_file(str(photos / name)).reason for name in names]
    assert all(reasons) and "No such file" in reasons[0] and "1 GiB" in reasons[-1]
