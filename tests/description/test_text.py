from jtln_tf.description import format_description


def make_description(counts, **changes):
    rows = [{"class": f"c{row:03}", "train": count, "validation": 0, "test": 1} for row, count in enumerate(counts)]
    split = {"images": sum(counts), "classes": len(counts), "missing_classes": []}
    empty = {"images": 0, "classes": 0, "missing_classes": [row["class"] for row in rows]}
    return {
        **{"domain": "folder:x", "num_images": 1, "num_classes": len(counts), "sizes": None, "formats": {"PNG": 1}},
        "imbalance": max(counts) / min(counts),
        "splits": {"train": split, "validation": empty, "test": split},
        **{"classes": rows, "gray_images": 1, "colour_images": 0, "compared_image_size": 224},
        **{"bad_files": [], "duplicates": [], "repeated_images": {}, "leaks": {}, "contradictions": 0},
        **changes,
    }


def shown_classes(text):
    return [line.split()[0] for line in text.splitlines() if line.startswith("c0") or line.startswith("...")]


def test_a_long_list_of_classes_shows_its_ends_and_the_smallest():
    counts = [9] * 41
    counts[20], counts[30] = 2, 1
    text = format_description(make_description(counts))
    ends = ["c000", "c001", "c002", "c003", "c004", "...", "c036", "c037", "c038", "c039", "c040"]
    assert shown_classes(text) == [*ends, "c030", "c020", "c000", "c001", "c002"]
    assert "... 31 more (--all shows them)" in text and "1 (c030) to 9 (c000), imbalance 9" in text
    everything = [f"c{row:03}" for row in range(41)]
    assert shown_classes(format_description(make_description(counts), show_all=True)) == everything
    # If all have as many images, none is the smallest.
    assert shown_classes(format_description(make_description([9] * 41))) == ends


def test_long_lists_are_cut():
    bad = [{"image": f"{row}.png", "split": "train", "class": "a", "reason": "why"} for row in range(8)]
    description = make_description([1, 2], bad_files=bad)
    missing = {"images": 1, "classes": 1, "missing_classes": [f"m{row}" for row in range(7)]}
    description["splits"]["test"] = missing
    text = format_description(description)
    assert "  4.png (train): why\n  ... 3 more (--all shows them)\n" in text and "5.png" not in text
    assert "test has no images of 7 classes: m0, m1, m2, m3, m4, ... (2 more)\n" in text
    everything = format_description(description, show_all=True)
    assert "7.png" in everything and "m5, m6\n" in everything and "validation has no images." in everything


def test_names_and_reasons_cannot_write_to_the_terminal():
    evil = {"image": "x\x1b[31m\nEVIL.png", "split": "train", "class": "0"}
    description = make_description(
        [2, 2],
        bad_files=[{**evil, "reason": "no\x1b[31m\nimage"}],
        duplicates=[{"images": [evil, evil], "same_file": True}],
    )
    description["classes"][0]["class"] = "new\nline\x1b[31m"
    text = format_description(description)
    assert all(line.isprintable() for line in text.splitlines()) and "new\\nline\\x1b[31m  " in text
    assert "  x\\x1b[31m\\nEVIL.png (train): no\\x1b[31m\\nimage\n" in text
    assert text.endswith("= x\\x1b[31m\\nEVIL.png (train, 0); same file")
