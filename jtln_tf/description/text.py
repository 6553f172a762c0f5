"""A description of a domain as text."""

from jtln_tf.files import escape_name

# A longer list of classes shows some from either end, and some of the smallest.
_MOST_CLASSES, _SHOWN_CLASSES = 40, 5
_SHOWN_IMAGES = 5
_SPLITS = ("train", "validation", "test")


def format_description(description: dict, *, show_all: bool = False) -> str:
    """Formats what `describe_domain` returned as lines of text, without a line break at the end.

    `show_all` shows every class and every bad or repeated image, however many there are.
    """
    limit = None if show_all else _SHOWN_IMAGES
    sections = [
        _format_overview(description),
        _format_classes(description, show_all),
        _format_missing(description, limit),
        _format_bad(description["bad_files"], limit),
        _format_duplicates(description, limit),
    ]
    if "against" in description:
        sections.append(_format_shared(description["against"], limit))
    return "\n".join(line for section in sections for line in section)


def _format_overview(description):
    sizes, formats = description["sizes"], description["formats"]
    splits = ", ".join(f"{name} {description['splits'][name]['images']:,}" for name in _SPLITS)
    colours = {name: description[f"{name}_images"] for name in ("gray", "colour")}
    lines = [
        f"{'Domain':14}{description['domain']}",
        f"{'Images':14}{description['num_images']:,}: {splits}",
        f"{'Formats':14}{_format_shares(formats)}; {_format_shares(colours)}",
    ]
    if sizes:
        shown = {name: f"{width} x {height}" for name, (width, height) in sizes.items()}
        is_one = shown["smallest"] == shown["largest"]
        listed = shown["largest"] if is_one else ", ".join(f"{name} {size}" for name, size in shown.items())
        lines.append(f"{'Sizes':14}{listed} (width x height{'' if is_one else ', by the shorter side'})")
    lines.append(f"{'Classes':14}{len(description['classes']):,}; {_format_balance(description)}")
    return lines


def _format_balance(description):
    rows = description["classes"]
    least, most = (choose(rows, key=lambda row: row["train"]) for choose in (min, max))
    if least["train"] == most["train"]:
        return f"training images: {most['train']:,} of each"
    imbalance = description["imbalance"]
    return (
        f"training images: {least['train']:,} ({_show(least['class'])}) to {most['train']:,} ({_show(most['class'])}), "
        + ("a run stops at a class with none" if imbalance is None else f"imbalance {imbalance:g}")
    )


def _format_shares(counts):
    total = sum(counts.values())
    return ", ".join(f"{name} {100 * count / total:.3g} %" for name, count in counts.items() if count)


def _format_classes(description, show_all):
    rows = description["classes"]
    width = max(5, *(len(_show(row["class"])) for row in rows))

    def table(title, chosen):
        head = f"{title:{width}}" + "".join(f"{name:>12}" for name in _SPLITS)
        lines = [f"{_show(row['class']):{width}}" + "".join(f"{row[name]:12,}" for name in _SPLITS) for row in chosen]
        return ["", head, *lines]

    if show_all or len(rows) <= _MOST_CLASSES:
        return table("class", rows)
    ends = table("class", rows[:_SHOWN_CLASSES] + rows[-_SHOWN_CLASSES:])
    ends.insert(2 + _SHOWN_CLASSES, f"... {len(rows) - 2 * _SHOWN_CLASSES:,} more (--all shows them)")
    if description["imbalance"] == 1:
        return ends
    return ends + table("smallest", sorted(rows, key=lambda row: row["train"])[:_SHOWN_CLASSES])


def _format_missing(description, limit):
    lines = []
    for name in _SPLITS:
        missing = description["splits"][name]["missing_classes"]
        if not description["splits"][name]["images"]:
            lines.append(f"{name} has no images.")
        elif missing:
            more = f", ... ({len(missing) - limit:,} more)" if limit and len(missing) > limit else ""
            shown = ", ".join(_show(one) for one in missing[:limit])
            lines.append(f"{name} has no images of {_count(missing, 'class', 'classes')}: {shown}{more}")
    return ["", *lines] if lines else []


def _format_bad(bad_files, limit):
    if not bad_files:
        return ["", f"{'Bad files':14}none"]
    lines = [f"  {_show(one['image'])} ({one['split']}): {_show(one['reason'])}" for one in bad_files]
    title = f"{'Bad files':14}{len(bad_files):,} (a run stops at them; --skip_bad_images leaves them out)"
    return ["", title, *_limit(lines, limit)]


def _format_duplicates(description, limit):
    groups, size = description["duplicates"], description["compared_image_size"]
    if not groups:
        return ["", f"{'Duplicates':14}none (images of the same pixels at {size} x {size})"]
    lines = ["", f"{'Duplicates':14}{_count(groups, 'image')} in two or more places (same pixels at {size} x {size})"]
    for name, count in description["repeated_images"].items():
        if count:
            lines.append(f"  REPEATED: {count:,} of {name} also in {name}")
    for pair, count in description["leaks"].items():
        second, _, first = pair.partition("_in_")
        if count:
            lines.append(f"  LEAK: {count:,} of {second} also in {first}")
    if description["contradictions"]:
        lines.append(f"  CONTRADICTION: {description['contradictions']:,} under different labels")
    return lines + _limit([_format_group(group) for group in groups], limit)


def _format_shared(against, limit):
    title = f"{'Shared':14}{against['num_images'] or 'no':} images also in {against['domain']}"
    if not against["num_images"]:
        return ["", title]
    lines = [
        f"  {count:,} of {name} in its {their_name}"
        for name, counts in against["counts"].items()
        for their_name, count in counts.items()
        if count
    ]
    return ["", title, *lines, *_limit([_format_group(group) for group in against["shared"]], limit)]


def _format_group(group):
    images = [*group["images"], *group.get("against_images", ())]
    names = " = ".join(f"{_show(one['image'])} ({one['split']}, {_show(one['class'])})" for one in images)
    end = {True: "; same file", False: "; other file, same pixels", None: ""}[group["same_file"]]
    return f"  {names}{end}"


def _limit(lines, limit):
    if limit is None or len(lines) <= limit:
        return lines
    return [*lines[:limit], f"  ... {len(lines) - limit:,} more (--all shows them)"]


def _count(items, one, many=None):
    return f"{len(items):,} {one if len(items) == 1 else many or one + 's'}"


def _show(name):
    return "".join(escape_name(name))
