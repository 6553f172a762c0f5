"""What a person is told at a checkpoint, and the warnings that follow from it."""

import dataclasses
import logging

import numpy as np
from scipy.special import bdtr

from jtln_tf.data import Domain
from jtln_tf.methods import Stage
from jtln_tf.monitoring.progress import ProgressBar, format_seconds
from jtln_tf.trainer.checkpoints import TrainingState

# Not absl's logger, which carries notes of TensorFlow as well.
_LOG = logging.getLogger("jtln_tf")
# What happens by chance in one case of twenty is taken for chance.
_CHANCE = 0.05
_LEAST_IMAGES = 20
_LEARNT_BY_HEART, _LARGE_GAP = 0.995, 0.30
# With fewer labels a class a large gap is what few labels mean, and nothing that a setting mends.
_LEAST_LABELS = 5


@dataclasses.dataclass(eq=False)
class CheckpointReport:
    """Tells losses, accuracies, speed and the time left at each checkpoint of a run, and warns of poor accuracies once.

    Attributes:
        state: How far the run has come.
        bar: `ProgressBar` that shows the last validation accuracy and knows the pace.
        target: Target `Domain`.
        steps: Steps of the run.
        batches: Images in a step of each side, over all replicas.
    """

    state: TrainingState
    bar: ProgressBar
    target: Domain
    steps: int
    batches: dict[str, int]
    _told: set[str] = dataclasses.field(default_factory=set)

    def tell(self, stage: Stage, measured: dict[str, float], is_last: bool) -> None:
        """Tells one checkpoint of a stage: means of the last steps and accuracies in [0, 1], by name.

        `is_last` says that the stage ends here.
        """
        validation = measured.get("target_validation_accuracy")
        if validation is not None:
            self.bar.validation_accuracy = validation
        side = "target" if "target" in stage.domains else "source"
        training = measured.get(f"{side}_train_accuracy")
        left, pace = self.bar.seconds_left(), self.bar.take_pace()
        speed = pace and pace * sum(self.batches[one] for one in stage.domains)
        accuracy = "" if validation is None else f"target validation accuracy {100 * validation:.1f} %"
        parts = [
            _format_losses(measured),
            accuracy and f"{accuracy} ({len(self.target.validation)} images)",
            training is not None and f"{side} training accuracy {100 * training:.1f} %",
            speed and f"{speed:,.0f} images/s",
            left and f"about {format_seconds(left)} left",
        ]
        figures = {"step": self.state.step, "steps": self.steps, "stage": stage.name, **measured}
        figures |= {"images_per_second": speed, "seconds_left": left}
        _LOG.info(
            "%s, step %d of %d: %s",
            *(self.bar.title, self.state.step, self.steps, ", ".join(part for part in parts if part)),
            extra={"figures": figures, "strong": accuracy},
        )
        if side == "target" and validation is None:
            self._tell_once(
                "unvalidated",
                logging.INFO,
                "no validation images, so nothing says how the network does on new images while it trains. Hint: "
                "--target=...?validation_fraction=0.2 holds some out.",
            )
        if validation is not None and self.state.step - stage.first_step >= stage.steps / 2:
            self._warn_near_chance(validation)
        if validation is not None and is_last:
            self._warn_of_a_gap(training, validation)

    def _warn_near_chance(self, validation):
        labels, classes = self.target.validation.labels, self.target.num_classes
        level = chance_level(np.bincount(labels, minlength=classes))
        if level is None or validation > level:
            return
        self._tell_once(
            "chance",
            logging.WARNING,
            f"{self.bar.title} has a target validation accuracy of {100 * validation:.1f} % at step {self.state.step}, "
            f"no better than guessing (up to {100 * level:.1f} % for {len(labels)} images of {classes} classes). Hint: "
            "jtln describe shows images and labels; --pixel_range must fit a PATH.keras; another learning rate, "
            "or a pretrained --backbone.",
        )

    def _warn_of_a_gap(self, training, validation):
        images, labels = len(self.target.validation), len(self.target.train) / self.target.num_classes
        if training < _LEARNT_BY_HEART or labels < _LEAST_LABELS or images < _LEAST_IMAGES:
            return
        # Whether so few hits are by chance, if the gap were no larger.
        if bdtr(round(validation * images), images, training - _LARGE_GAP) > _CHANCE:
            return
        self._tell_once(
            "gap",
            logging.WARNING,
            f"{self.bar.title} ends with a target training accuracy of {100 * training:.1f} % and a validation "
            f"accuracy of {100 * validation:.1f} %: it has learnt its {labels:.0f} labels a class by heart. Hint: more "
            "labels; a larger --image_size or another pretrained --backbone; more --target_augmentation.",
        )

    def _tell_once(self, key, level, text):
        if key not in self._told:
            self._told.add(key)
            _LOG.log(level, "%s", text)


def _format_losses(measured):
    terms = {name.removesuffix("_loss"): value for name, value in measured.items() if name.endswith("_loss")}
    # A single term may be the loss itself.
    shown = ", ".join(f"{name} {value:.3f}" for name, value in terms.items()) if len(terms) > 1 else ""
    return f"loss {measured['loss']:.3f}{f' ({shown})' if shown else ''}"


def chance_level(counts: np.ndarray) -> float | None:
    """Returns the accuracy up to which a network need not have looked at the images.

    That is what guessing reaches in 19 of 20 cases (hits are binomial: n images, each right by 1 / classes), or what
    naming the most frequent class always reaches, whichever is more.

    Args:
        counts: Images of each class [classes].

    Returns:
        Accuracy in [0, 1]; None if there are too few images: under 20, or so few that a network halfway between
        guessing and perfect falls below the level in more than one case of twenty.
    """
    images, guess = int(counts.sum()), 1 / len(counts)
    if images < _LEAST_IMAGES:
        return None
    guessed = int(np.argmax(bdtr(np.arange(images + 1), images, guess) >= 1 - _CHANCE))
    if bdtr(guessed, images, (1 + guess) / 2) > _CHANCE:
        return None
    return max(guessed, int(counts.max())) / images
