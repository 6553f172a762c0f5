"""Office-31: 31 kinds of office objects in three domains: shop pictures, and photographs by two cameras."""

import re

import tensorflow_datasets as tfds

from jtln_tf.config import InputError
from jtln_tf.data.sources.builders.manual import find_manual_folder, require_count

# fmt: off
CLASS_NAMES = (
    "back_pack", "bike", "bike_helmet", "bookcase", "bottle", "calculator", "desk_chair", "desk_lamp",
    "desktop_computer", "file_cabinet", "headphones", "keyboard", "laptop_computer", "letter_tray", "mobile_phone",
    "monitor", "mouse", "mug", "paper_notebook", "pen", "phone", "printer", "projector", "punchers", "ring_binder",
    "ruler", "scissors", "speaker", "stapler", "tape_dispenser", "trash_can",
)
# fmt: on


class Office31(tfds.core.GeneratorBasedBuilder):
    """One of the three domains, each a configuration; there is no official split, so all images are in `train`.

    Attributes:
        NUM_IMAGES: Published number of images by domain.
    """

    VERSION = tfds.core.Version("1.0.0")
    NUM_IMAGES = {"amazon": 2817, "dslr": 498, "webcam": 795}
    BUILDER_CONFIGS = [tfds.core.BuilderConfig(name=name, description=f"Images of {name}.") for name in NUM_IMAGES]
    MANUAL_DOWNLOAD_INSTRUCTIONS = """
    Download domain_adaptation_images.tar.gz (about 76 MB) by the link on
    https://faculty.cc.gatech.edu/~judy/domainadapt/ and unpack it in a folder office31 of manual_dir, which then has
    office31/amazon/images/, office31/dslr/images/ and office31/webcam/images/.
    """

    def _info(self):
        label = tfds.features.ClassLabel(names=CLASS_NAMES)
        features = {"image": tfds.features.Image(), "image/filename": tfds.features.Text(), "label": label}
        return tfds.core.DatasetInfo(
            builder=self,
            description="Office-31 (Saenko, Kulis, Fritz, Darrell, 2010): Adapting Visual Category Models.",
            features=tfds.features.FeaturesDict(features),
            supervised_keys=("image", "label"),
            homepage="https://faculty.cc.gatech.edu/~judy/domainadapt/",
        )

    def _split_generators(self, dl_manager):
        domain = self.builder_config.name
        content = f"{domain}/images"
        # People unpack the archive with or without a folder around the three domains.
        candidates = ("office31", "office31/domain_adaptation_images", "domain_adaptation_images", ".")
        archive = "domain_adaptation_images.tar.gz"
        folder = find_manual_folder(dl_manager.manual_dir, candidates, content, archive, "office31") / content
        class_folders = {child.name: child for child in folder.iterdir() if child.is_dir()}
        different = sorted(set(CLASS_NAMES) ^ set(class_folders))
        if different:
            first = f"{different[0]!r} {'too many' if different[0] in class_folders else 'missing'}"
            received = f"{len(class_folders)} folders, {first}"
            raise InputError(f"{str(folder)!r} must hold the 31 classes of Office-31. Received: {received}.")
        images = {
            f"{name}/{path.name}": (path, name)
            for name in CLASS_NAMES
            for path in class_folders[name].iterdir()
            if re.fullmatch(r"frame_[0-9]{4}\.jpg", path.name)
        }
        require_count(f"The number of images of {domain}", self.NUM_IMAGES[domain], len(images), folder)
        return {"train": self._generate_examples(images)}

    def _generate_examples(self, images):
        for key, (path, name) in images.items():
            yield key, {"image": path, "image/filename": key, "label": name}
