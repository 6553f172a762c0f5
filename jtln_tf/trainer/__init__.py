"""Joint training of the network on both domains. Floor 4."""

from jtln_tf.trainer.callbacks import RefreshCosts, StepCounter, ValidateAndSave
from jtln_tf.trainer.checkpoints import Checkpoints, TrainingState, restore_network, restore_state
from jtln_tf.trainer.model import JointModel
from jtln_tf.trainer.optimizers import build_optimizer
from jtln_tf.trainer.stages import Stage, compile_for_stage, plan_stages, train_stage

__all__ = [
    "Checkpoints",
    "JointModel",
    "RefreshCosts",
    "Stage",
    "StepCounter",
    "TrainingState",
    "ValidateAndSave",
    "build_optimizer",
    "compile_for_stage",
    "plan_stages",
    "restore_network",
    "restore_state",
    "train_stage",
]
