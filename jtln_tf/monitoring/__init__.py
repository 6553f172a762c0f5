"""What a person sees of a run: metrics.jsonl, TensorBoard, the progress bar. Floor 4."""

from jtln_tf.monitoring.cost_log import log_costs
from jtln_tf.monitoring.progress import ProgressBar
from jtln_tf.monitoring.run_log import LogTraining, RunLog

__all__ = ["LogTraining", "ProgressBar", "RunLog", "log_costs"]
