"""Joint training of the network on both domains. Floor 4."""

from jtln_tf.trainer.checkpoints import Checkpoints, TrainingState
from jtln_tf.trainer.joint_model import JointModel
from jtln_tf.trainer.optimizers import build_optimizer
from jtln_tf.trainer.stages import Stage, plan_stages, train_stage

__all__ = ["Checkpoints", "JointModel", "Stage", "TrainingState", "build_optimizer", "plan_stages", "train_stage"]
