"""FGVC-Aircraft 2013b: 10,000 photographs of 100 aircraft variants, with their families and manufacturers."""

import re

import tensorflow_datasets as tfds

from jtln_tf.config import InputError, MissingInputError
from jtln_tf.data.sources.builders.manual import find_manual_folder, read_lines, require_count

_LEVEL_FILES = {"variant": "variants.txt", "family": "families.txt", "manufacturer": "manufacturers.txt"}
# From fine to coarse; each is a configuration, whose label it is.
LEVELS = tuple(_LEVEL_FILES)
_SPLIT_NAMES = {"train": "train", "validation": "val", "test": "test"}


class FgvcAircraft(tfds.core.GeneratorBasedBuilder):
    """Photographs of aircraft with the official splits; every example has its variant, family and manufacturer.

    The images keep their published bytes. Their lowest 20 rows are a banner with the photographer's name; the option
    `?crop_bottom=20` of a domain cuts it off when an image is decoded.

    Attributes:
        NUM_IMAGES: Published number of images by split.
        NUM_CLASSES: Published number of classes by level.
    """

    VERSION = tfds.core.Version("1.0.0")
    BUILDER_CONFIGS = [tfds.core.BuilderConfig(name=one, description=f"The label is the {one}.") for one in LEVELS]
    DEFAULT_BUILDER_CONFIG_NAME = "variant"
    MANUAL_DOWNLOAD_INSTRUCTIONS = """
    Download fgvc-aircraft-2013b.tar.gz (2.75 GB; for non-commercial research only) from
    https://www.robots.ox.ac.uk/~vgg/data/fgvc-aircraft/ and unpack it in manual_dir, which then has
    fgvc-aircraft-2013b/data/images/.
    """
    NUM_IMAGES = {"train": 3334, "validation": 3333, "test": 3333}
    NUM_CLASSES = {"variant": 100, "family": 70, "manufacturer": 30}

    def _info(self):
        features = {"image": tfds.features.Image(), "image/filename": tfds.features.Text()}
        # The class names are read later, from the files of the data set.
        features |= {level: tfds.features.ClassLabel() for level in LEVELS}
        return tfds.core.DatasetInfo(
            builder=self,
            description="FGVC-Aircraft 2013b (Maji, Kannala, Rahtu, Blaschko, Vedaldi, 2013), arXiv:1306.5151.",
            features=tfds.features.FeaturesDict(features),
            supervised_keys=("image", self.builder_config.name),
            homepage="https://www.robots.ox.ac.uk/~vgg/data/fgvc-aircraft/",
            license="Images are for non-commercial research; their photographers hold the rights.",
        )

    def _split_generators(self, dl_manager):
        candidates = ("fgvc-aircraft-2013b", "fgvc_aircraft", ".")
        archive = "fgvc-aircraft-2013b.tar.gz"
        folder = find_manual_folder(dl_manager.manual_dir, candidates, "data/variants.txt", archive, ".") / "data"
        class_names = {level: self._read_class_names(folder, level) for level in LEVELS}
        splits = {split: self._read_split(folder, split, class_names) for split in _SPLIT_NAMES}
        _check_splits(splits, folder)
        for level in LEVELS:
            self.info.features[level].names = class_names[level]
        return {split: self._generate_examples(folder / "images", labels) for split, labels in splits.items()}

    def _generate_examples(self, folder, labels):
        for identifier, levels in labels.items():
            file_name = f"{identifier}.jpg"
            yield identifier, {"image": folder / file_name, "image/filename": file_name, **levels}

    def _read_class_names(self, folder, level):
        path = folder / _LEVEL_FILES[level]
        names = read_lines(path)
        require_count(f"The number of different {level} names", self.NUM_CLASSES[level], len(set(names)), path)
        require_count(f"The number of {level} names", self.NUM_CLASSES[level], len(names), path)
        return names

    def _read_split(self, folder, split, class_names):
        """Returns the classes of each image in a split, by level."""
        by_level = {}
        for level in LEVELS:
            path = folder / f"images_{level}_{_SPLIT_NAMES[split]}.txt"
            by_level[level] = _read_labels(path, class_names[level])
            require_count(f"The number of {split} images", self.NUM_IMAGES[split], len(by_level[level]), path)
            if by_level[level].keys() != by_level["variant"].keys():
                raise InputError(f"A list must name the same images as the list of variants. Received: {str(path)!r}.")
        return {one: {level: by_level[level][one] for level in LEVELS} for one in by_level["variant"]}


def _read_labels(path, class_names):
    labels = {}
    for line in read_lines(path):
        identifier, _, name = line.partition(" ")
        # Anything but digits could be a path that leads out of the folder.
        if not re.fullmatch("[0-9]+", identifier) or name not in class_names or identifier in labels:
            received = f"{line!r} in {str(path)!r}"
            raise InputError(f"A line must be an image and its class, each image once. Received: {received}.")
        labels[identifier] = name
    return labels


def _check_splits(splits, folder):
    """Raises `InputError` unless every image exists in one split, and each variant has one family and manufacturer."""
    found = {path.name for path in (folder / "images").iterdir()} if (folder / "images").exists() else set()
    split_of, coarser = {}, {}
    for split, labels in splits.items():
        for identifier, levels in labels.items():
            image = f"{identifier}.jpg"
            if image not in found:
                missing = str(folder / "images" / image)
                raise MissingInputError(f"A data set must be complete. Received: no {missing!r}.")
            if split_of.setdefault(identifier, split) != split:
                raise InputError(f"An image must be in one split. Received: {identifier} in {split} too.")
            above = (levels["family"], levels["manufacturer"])
            if coarser.setdefault(levels["variant"], above) != above:
                received = f"{levels['variant']!r} with {coarser[levels['variant']]} and {above}"
                raise InputError(f"A variant must have one family and manufacturer. Received: {received}.")
