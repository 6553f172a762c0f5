"""What a person sees of a run: metrics.jsonl, TensorBoard, the progress bar."""

from jtln_tf.monitoring.charts import draw_batch, log_batches, log_opening, log_validation
from jtln_tf.monitoring.checkpoint_report import CheckpointReport
from jtln_tf.monitoring.cost_log import log_costs, log_matches
from jtln_tf.monitoring.log_training import LogTraining
from jtln_tf.monitoring.profile import Profile
from jtln_tf.monitoring.progress import ProgressBar
from jtln_tf.monitoring.projector import write_projector
from jtln_tf.monitoring.run_log import AccuracyCurve, RunLog, read_curve
from jtln_tf.monitoring.source_validation import SourceValidation
