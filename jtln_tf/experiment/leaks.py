"""Target test images that are also trained on, which would inflate the test accuracy."""

from absl import logging

from jtln_tf.data import Domain, find_shared


def count_leaks(source: Domain, target: Domain) -> dict[str, int | None]:
    """Counts the target's test images that are also training images of either domain, and warns of them.

    Returns a count for each domain, as in `result.json`; None if the images were not compared.
    """
    counts = {}
    for side, domain in (("target", target), ("source", source)):
        rows = find_shared(target.test, domain.train)
        if rows is None:
            is_mixed = target.test.is_decoded != domain.train.is_decoded
            reason = "pixels cannot be compared with files" if is_mixed else "too many records"
            logging.warning("did not compare the test images with the %s's training images: %s.", side, reason)
        elif len(rows):
            logging.warning(
                "%d of %d target test images also stand in the %s's training images, one of class %r among them. "
                "`jtln describe --domain=TARGET%s` names them.",
                *(len(rows), len(target.test), side, target.class_names[target.test.labels[rows[0]]]),
                " --against=SOURCE" if side == "source" else "",
            )
        counts[f"target_test_images_in_{side}_train"] = None if rows is None else len(rows)
    return counts
